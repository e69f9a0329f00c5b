//! Where a model keeps the difference of two prompts: the clean one's stream is put into the corrupted one's run, token by
//! token and block by block. `cargo run --example patch -- [MODEL CLEAN CORRUPTED]`; both have the same number of tokens.
use anyhow::{Result, ensure};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Kind, Look, Metric, Place, Probe, patch_blocking};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK, Task};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        arguments = [RUSTBOOK, "The vector is stored on the", "The string is stored on the"].map(String::from).into();
    }
    ensure!(arguments.len() == 3, "usage: patch [MODEL CLEAN CORRUPTED]");
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, &arguments[0], Default::default())?;
    let (clean, corrupted) = (model.encode(&arguments[1])?.ids, model.encode(&arguments[2])?.ids);

    // judged by the logit of what each prompt goes on with
    let probe = pollster::block_on(Probe::new(&model, &Purpose::Score, Watch::default()))?;
    let logits = probe.run_blocking(&[Look::new(&clean), Look::new(&corrupted)])?;
    let best = |row: &[f32]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
    let (target, against) = (best(&logits[0].output), best(&logits[1].output));
    let metric = Metric::Logit { target, against: Some(against), position: clean.len() - 1 };

    let places = Place::all(&[Kind::ResidPre], model.spec(), clean.len());
    let found = patch_blocking(&model, &clean, &corrupted, &metric, &places, &Task::default())?;
    let text = |id: u32| model.tokenizer().and_then(|t| t.decode(&[id], false)).unwrap_or_else(|_| id.to_string());
    print!("block");
    clean.iter().for_each(|&id| print!(" {:>10}", text(id)));
    for (row, shares) in found.shares().chunks(clean.len()).enumerate() {
        print!("\n{row:>5}");
        shares.iter().for_each(|share| print!(" {share:>10.2}"));
    }
    println!(
        "\n{:?} less {:?}: {:.3} clean, {:.3} corrupted",
        text(target),
        text(against),
        found.clean,
        found.corrupted
    );
    Ok(())
}
