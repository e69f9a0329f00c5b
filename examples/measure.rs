//! How a text's tokens become alike, and which heads look at its first token only: measures of the stream, block by block.
//! `cargo run --example measure -- [MODEL] ["A sentence."]`; without arguments, of the small model that is part of the library.
use anyhow::Result;
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "A vector owns its elements.".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;

    let found = model.measure_blocking(&model.encode(&text)?.ids)?;
    println!("block  attention/stream  FFN/stream  influence  rank residual  like the first  sinks");
    for (l, block) in found.blocks.iter().enumerate() {
        let sinks = block.sinks.iter().filter(|&&weight| weight > 0.5).count();
        println!(
            "{l:>5} {:>17.3} {:>11.3} {:>10.3} {:>14.3} {:>15.3} {:>6}",
            block.attention.ratio,
            block.mlp.ratio,
            block.influence,
            block.rank_residual,
            found.cka[0][l + 1],
            sinks
        );
    }
    // what reaches the last token of each other, through all blocks
    let last = found.rollout.last().map_or(&[][..], |row| row);
    let most = last.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(token, _)| token);
    let word = model.tokenizer()?.text_of(found.ids[most]).unwrap_or_default();
    println!("by attention rollout the last token has most of token {most}, {word:?}: {:.3}", last[most]);
    Ok(())
}
