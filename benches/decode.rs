//! Decode benchmark: a language model's prefill and decode rates, alone and with several sessions in one step, and where a
//! step's time goes by kernel.
//!
//! `cargo bench --bench decode` runs SmolLM2-135M-Instruct from the cache; `THALWEG_MODEL` names another model. Every text is
//! checked to be the same in each repetition before its time counts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};
use thalweg::{Decoder, Dtype, Gpu, GpuOptions, LoadOptions, Session, SessionOptions};

const PROMPT: usize = 128;
const TOKENS: usize = 16;
const REPETITIONS: usize = 5;

fn main() -> Result<()> {
    env_logger::init();
    let model = std::env::var_os("THALWEG_MODEL").map_or_else(|| "SmolLM2-135M-Instruct".into(), PathBuf::from);
    let Ok(model) = thalweg::find_model(Path::new(&model)) else {
        println!("skipped: there is no model {}; THALWEG_MODEL names a folder", model.display());
        return Ok(());
    };
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    println!("{} ({}), {}", gpu.info().name, gpu.info().driver_info, gpu.capabilities().summary());
    for dtype in [Dtype::Auto, Dtype::F32] {
        let start = Instant::now();
        let options = LoadOptions { dtype, ..Default::default() };
        let decoder = pollster::block_on(Decoder::load_with(&gpu, &model, options))?;
        println!("\n{dtype:?}: loaded in {:.2} s, {}", start.elapsed().as_secs_f64(), decoder.plan());
        rates(&decoder)?;
        if gpu.capabilities().timestamps {
            by_kernel(&decoder)?;
        }
    }
    Ok(())
}

fn prompt(decoder: &Decoder) -> Vec<u32> {
    let vocabulary = decoder.model().spec().vocab_size as u32;
    (0..PROMPT as u32).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary).collect()
}

fn session(decoder: &Decoder) -> Result<Session> {
    Ok(decoder.session(SessionOptions { ignore_eos: true, reserve: PROMPT + TOKENS, ..Default::default() })?)
}

/// Medians of the rates, in tokens per second.
fn rates(decoder: &Decoder) -> Result<()> {
    let ids = prompt(decoder);
    let (mut prefill, mut first) = (Vec::new(), None);
    println!("{:>24} {:>10}", "", "tokens/s");
    for _ in 0..REPETITIONS {
        let mut session = session(decoder)?;
        let start = Instant::now();
        session.prefill_blocking(&ids)?;
        prefill.push((PROMPT - 1) as f64 / start.elapsed().as_secs_f64());
        let next = session.next_token_blocking()?;
        ensure!(first.is_none_or(|first| first == next), "two texts differ");
        first = Some(next);
    }
    println!("{:>24} {:>10.1}", format!("prefill {PROMPT}"), median(&mut prefill));
    for count in [1, 2, 4, 8] {
        let (mut rates, mut text) = (Vec::new(), None);
        for _ in 0..REPETITIONS {
            let mut sessions = (0..count).map(|_| session(decoder)).collect::<Result<Vec<_>>>()?;
            for session in &mut sessions {
                session.prefill_blocking(&ids)?;
            }
            let mut all: Vec<&mut Session> = sessions.iter_mut().collect();
            let start = Instant::now();
            for _ in 0..TOKENS {
                decoder.step_blocking(&mut all)?;
            }
            rates.push((TOKENS * count) as f64 / start.elapsed().as_secs_f64());
            for session in &sessions {
                let tokens = session.tokens().to_vec();
                ensure!(*text.get_or_insert_with(|| tokens.clone()) == tokens, "two texts differ");
            }
        }
        println!("{:>24} {:>10.1}", format!("decode, {count} together"), median(&mut rates));
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where a step's time goes, by timestamps around each dispatch.
fn by_kernel(decoder: &Decoder) -> Result<()> {
    let mut session = session(decoder)?;
    session.prefill_blocking(&prompt(decoder))?;
    session.next_token_blocking()?;
    let mut sums: BTreeMap<String, (u32, f64)> = BTreeMap::new();
    for dispatch in pollster::block_on(decoder.profile(&mut session))? {
        let sum = sums.entry(dispatch.label).or_default();
        *sum = (sum.0 + 1, sum.1 + dispatch.nanoseconds.unwrap_or(f64::NAN));
    }
    let total: f64 = sums.values().map(|sum| sum.1).sum();
    println!("\none step after {PROMPT} tokens, by kernel:");
    if total.is_nan() {
        println!("n/a: the device's clock stood still");
        return Ok(());
    }
    let mut rows: Vec<_> = sums.into_iter().collect();
    rows.sort_by(|a, b| b.1.1.total_cmp(&a.1.1));
    for (label, (count, nanoseconds)) in rows {
        println!("{:>6.1}% {:>9.3} ms {count:>3}x  {label}", 100.0 * nanoseconds / total, nanoseconds / 1e6);
    }
    Ok(())
}
