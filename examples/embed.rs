//! Embeds sentences and prints how near each is to the first: `cargo run --example embed -- MODEL TEXT TEXT…`
use anyhow::{Context, Result};
use thalweg::{Encoder, Gpu, GpuOptions};

fn main() -> Result<()> {
    env_logger::init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().context("usage: embed MODEL TEXT TEXT…")?;
    let texts: Vec<String> = arguments.collect();
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let encoder = Encoder::load_blocking(&gpu, model)?;
    let vectors = encoder.embed_blocking(&texts)?;
    for (text, vector) in texts.iter().zip(&vectors) {
        let cosine: f32 = vector.iter().zip(&vectors[0]).map(|(a, b)| a * b).sum();
        println!("{cosine:.4}  {text}");
    }
    Ok(())
}
