//! Four continuations of one prompt, which is read once: `cargo run --release --example continuations -- MODEL "A prompt"`
//!
//! The sessions are forks that share the prompt's keys and values, and step together, one submission for each token of all.
use anyhow::{Context, Result};
use thalweg::{Decoder, Gpu, GpuOptions, Sampling, SessionOptions};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: continuations MODEL PROMPT";
    let (model, prompt) = (arguments.next().context(usage)?, arguments.next().context(usage)?);
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let decoder = Decoder::load_blocking(&gpu, model)?;
    let tokenizer = decoder.model().tokenizer()?;
    let sampling = Sampling { temperature: 0.9, top_p: 0.95, ..Default::default() };
    let mut first = decoder.session(SessionOptions { sampling, ..Default::default() })?;
    let ids = tokenizer.encode(&prompt, usize::MAX, true)?.ids;
    first.prefill_blocking(&ids)?;
    let mut sessions = (0..4)
        .map(|seed| {
            let mut fork = first.fork();
            fork.set_sampling(Sampling { seed, ..sampling })?;
            Ok(fork)
        })
        .collect::<thalweg::Result<Vec<_>>>()?;
    for _ in 0..32 {
        decoder.step_blocking(&mut sessions.iter_mut().collect::<Vec<_>>())?;
    }
    for (seed, session) in sessions.iter().enumerate() {
        println!("{seed}: {prompt}{}\n", tokenizer.decode(&session.tokens()[ids.len()..], true)?);
    }
    Ok(())
}
