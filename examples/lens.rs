//! Where in the model the answer appears: `cargo run --release --example lens -- [MODEL] ["A text that goes on"]`; without
//! arguments, in the small model that is part of the library.
//!
//! For each token of the text, what the model says comes next, and the first block from which on the logit lens shows the
//! same: its input already leads to the answer, and blocks behind it only make it surer. With entropy and divergence at the
//! last position, block by block, in nats.
use anyhow::{Context, Result, bail};
use thalweg::stream::{Distribution, Lens, LensRow, Reading};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "Returns the length of the".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;

    let ids = model.encode(&text)?.ids;
    let view = Lens::new_blocking(&model, 1, &[])?.read_blocking(&ids, &[], None, &Task::default())?;
    println!("{:>16}  {:16} {:>6}  from", "token", "goes on with", "p");
    for (position, id) in ids.iter().enumerate() {
        let readings: Vec<_> = view.rows.iter().map(|row| at(row, position)).collect::<Result<_>>()?;
        let answer = readings.last().and_then(|reading| reading.top.first()).context("the model gives no numbers")?;
        // behind the last row that says otherwise
        let settled = readings.iter().rposition(|reading| reading.rank != Some(0)).map_or(0, |row| row + 1);
        let from = if settled + 1 < view.rows.len() { format!("block {settled}'s input") } else { "the output".into() };
        let token = format!("{:?}", model.tokenizer()?.text_of(*id).unwrap_or_default());
        let next = format!("{:?}", answer.token.as_deref().unwrap_or("?"));
        println!("{token:>16}  {next:16} {:6.3}  {from}", answer.p);
    }
    println!("\n{:28} {:>8} {:>8}  likeliest", "the last position", "entropy", "kl");
    for row in &view.rows {
        let reading = at(row, ids.len() - 1)?;
        let likeliest = reading.top.first().and_then(|guess| guess.token.as_deref()).unwrap_or("?");
        println!("{:28} {:8.3} {:8.3}  {likeliest:?}", row.point.to_string(), reading.entropy, reading.kl);
    }
    println!("{} tokens on {}", ids.len(), gpu.info().name);
    Ok(())
}

fn at(row: &LensRow, position: usize) -> Result<&Distribution> {
    match &row.positions[position] {
        Reading::Distribution(distribution) => Ok(distribution),
        Reading::Cosine(_) => bail!("the folder holds no head, so that its rows say no tokens"),
    }
}
