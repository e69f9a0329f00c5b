//! How long a prompt that is read in keeps the GPU from others: while it runs, another user of the same device submits nothing
//! at all, again and again, and measures until that is done. The last column is the longest of the prompt's own submissions.
//!
//! Software drivers run what is submitted on the thread that submits it, behind a lock that is not fair: there the other user's
//! longest wait is many submissions.
//!
//! `cargo bench --bench hold` runs SmolLM2-135M-Instruct from the cache, or else the embedded model; `THALWEG_MODEL` names
//! another. The rows to compare are the first, where nothing else runs, and those of the prompts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use thalweg::{Decoder, Gpu, GpuOptions, RUSTBOOK, SessionOptions};

/// A window draws this often.
const FRAME: Duration = Duration::from_millis(4);

fn main() -> Result<()> {
    env_logger::init();
    let named = std::env::var_os("THALWEG_MODEL").map_or_else(|| "SmolLM2-135M-Instruct".into(), PathBuf::from);
    let model = thalweg::find_model(Path::new(&named)).unwrap_or_else(|_| RUSTBOOK.into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let decoder = Decoder::load_blocking(&gpu, &model)?;
    println!("{} on {} ({})", model.display(), gpu.info().name, gpu.info().driver_info);
    println!("prompt tokens  seconds   frames  median ms     99% ms  longest ms  submission ms");
    let idle = || {
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    };
    row("none", &gpu, &decoder, idle)?;
    let spec = decoder.model().spec();
    let mut reference = None;
    for count in [128, 512, 1536].into_iter().filter(|count| *count <= decoder.max_tokens()) {
        let ids: Vec<u32> = (0..count as u32).map(|i| i.wrapping_mul(2_654_435_761) % spec.vocab_size as u32).collect();
        for _ in 0..2 {
            let mut session = decoder.session(SessionOptions { reserve: count, ..Default::default() })?;
            row(&count.to_string(), &gpu, &decoder, || Ok(session.prefill_blocking(&ids)?))?;
            // what is timed is what is meant
            let logits = session.logits_blocking()?;
            ensure!(reference.replace((count, logits.clone())).is_none_or(|(n, l)| n != count || l == logits));
        }
    }
    Ok(())
}

/// Runs the work while another thread submits, and prints how long its submissions took.
fn row(name: &str, gpu: &Gpu, decoder: &Decoder, work: impl FnOnce() -> Result<()>) -> Result<()> {
    decoder.longest_prefill_submission();
    let done = AtomicBool::new(false);
    let start = Instant::now();
    let (mut waits, seconds) = std::thread::scope(|scope| {
        let frames = scope.spawn(|| {
            let mut waits = Vec::new();
            while !done.load(Ordering::Relaxed) {
                waits.push(frame(gpu));
                std::thread::sleep(FRAME);
            }
            waits
        });
        let outcome = work();
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        outcome.map(|()| (frames.join().expect("no panic"), seconds))
    })?;
    waits.sort();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let own = decoder.longest_prefill_submission().as_secs_f64() * 1e3;
    let (frames, median, most, longest) = (waits.len(), at(0.5), at(0.99), at(1.0));
    println!("{name:>13} {seconds:>8.2} {frames:>8} {median:>10.2} {most:>10.2} {longest:>11.2} {own:>14.2}");
    Ok(())
}

/// The time until an empty submission is done.
fn frame(gpu: &Gpu) -> Duration {
    let start = Instant::now();
    gpu.queue().submit([gpu.device().create_command_encoder(&Default::default()).finish()]);
    let (sender, done) = mpsc::channel();
    gpu.queue().on_submitted_work_done(move || {
        let _ = sender.send(());
    });
    while done.try_recv().is_err() {
        let _ = gpu.device().poll(wgpu::PollType::Poll);
        // a software driver needs the cores
        std::thread::sleep(Duration::from_micros(200));
    }
    start.elapsed()
}
