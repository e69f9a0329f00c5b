//! Which heads a model needs for a text: each is removed in turn, all of them in a few batches, and the loss taken.
//! `cargo run --example ablate -- [MODEL] ["A text."]`; without arguments, on the small model that is part of the library.
use anyhow::Result;
use thalweg::stream::{Component, Metric, Replacement, Sweep};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "A trait is implemented for a type.".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;

    let ids = model.encode(&text)?.ids;
    let sweep = Sweep::new_blocking(&model, &ids, Metric::Loss)?;
    let heads = Component::parse("heads", model.spec())?;
    // a head's mean over the text takes its place: what it says of each token is gone, and what it always says stays
    let by = Replacement::Mean(vec![ids.clone()]);
    let found = sweep.ablate_blocking(&heads, &by, &Task::default())?;

    println!("loss {:.4} nats a token; without each head:", found.clean);
    let mut order: Vec<_> = heads.iter().zip(&found.values).collect();
    order.sort_by(|a, b| b.1.total_cmp(a.1));
    for ((block, head), value) in order.iter().take(10) {
        println!("block {block} {head:<8} {value:.4} ({:+.4})", *value - found.clean);
    }
    println!("{} heads of {} tokens on {}", heads.len(), ids.len(), gpu.info().name);
    Ok(())
}
