//! A page about what a model makes of a text: `cargo run --example report -- [MODEL] ["A sentence."] [report.html]`; without
//! arguments, the small model that is part of the library, and a page among the temporary files.
//!
//! The same as `thalweg stream report`, and then some of its numbers: in which block each sublayer adds most, and the head
//! that gives the first token most of its attention.
use anyhow::{Context, Result};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "A vector owns its elements.".into());
    let out = arguments.next().map_or_else(|| std::env::temp_dir().join("thalweg-report.html"), Into::into);
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;
    let report = model.report_blocking(&model.encode(&text)?.ids, &Task::default())?;
    std::fs::write(&out, report.html()).with_context(|| out.display().to_string())?;
    let (tokens, blocks, out) = (report.ids.len(), report.blocks.len(), out.display());
    println!("{tokens} tokens through {blocks} blocks of {}: {out}", report.model);

    let blocks = &report.measures.blocks;
    let most = |what: &str, norms: Vec<f64>| {
        let most = norms.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        most.map(|(block, norm)| println!("{what} adds most in block {block}: {norm:.2}, the mean over tokens"))
    };
    most("attention", blocks.iter().map(|block| block.attention.norm).collect());
    most("the FFN", blocks.iter().map(|block| block.mlp.norm).collect());
    let heads = blocks
        .iter()
        .enumerate()
        .flat_map(|(l, block)| block.sinks.iter().enumerate().map(move |(head, sink)| (format!("L{l}H{head}"), sink)));
    if let Some((head, sink)) = heads.max_by(|a, b| a.1.total_cmp(b.1)) {
        println!("{head} gives {:.0} % of its attention to the first token", 100.0 * sink);
    }
    Ok(())
}
