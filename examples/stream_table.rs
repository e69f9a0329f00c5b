//! How one sentence's residual stream grows, block by block, by what passes its points:
//! `cargo run --example stream_table -- [MODEL] ["A sentence."]`; without arguments, of the small model that is part of the library.
//!
//! Each number is a norm, averaged over the tokens: of the stream before the block, of what attention adds to it (t1),
//! of what the FFN adds (t4), and of the stream after both. In post-norm models (BERT) a LayerNorm follows each addition.
use anyhow::{Context, Result};
use thalweg::stream::{Kind, Point, Tensor};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK};

const COLUMNS: [(&str, Kind); 4] = [
    ("stream before", Kind::ResidPre),
    ("attention adds", Kind::AttnOut),
    ("FFN adds", Kind::MlpOut),
    ("stream after", Kind::ResidPost),
];

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "A vector owns its elements.".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let loaded = Model::load_blocking(&gpu, model, Default::default())?;

    let blocks = loaded.spec().num_hidden_layers;
    let points: Vec<_> = (0..blocks).flat_map(|block| COLUMNS.map(|(_, kind)| Point::new(block, kind))).collect();
    let trace = loaded.trace_blocking(&loaded.encode(&text)?.ids, &points)?;

    print!("block");
    COLUMNS.iter().for_each(|(name, _)| print!("{name:>16}"));
    println!();
    for block in 0..blocks {
        print!("{block:>5}");
        for (_, kind) in COLUMNS {
            let tensor = trace.tensors.get(&Point::new(block, kind)).context("a point is missing")?;
            print!("{:>16.3}", mean_norm(tensor));
        }
        println!();
    }
    println!("{} tokens on {}", trace.ids.len(), gpu.info().name);
    Ok(())
}

/// The norm of each token's vector, averaged over the tokens.
fn mean_norm(tensor: &Tensor) -> f32 {
    let tokens = tensor.shape[0];
    let norm = |vector: &[f32]| vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    tensor.data.chunks_exact(tensor.data.len() / tokens).map(norm).sum::<f32>() / tokens as f32
}
