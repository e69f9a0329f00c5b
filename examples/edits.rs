//! What the last token learns of the others through attention alone: each is hidden from it in turn, in every head and block, by
//! edits of the attention patterns, all of them in one batch. `cargo run --example edits -- [MODEL] ["A text that goes on"]`;
//! without arguments, in the small model that is part of the library.
use anyhow::{Context, Result};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Edit, Kind, Look, Point, Probe, Seen};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK};

fn main() -> Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| RUSTBOOK.into());
    let text = arguments.next().unwrap_or_else(|| "The vector is stored on the".into());
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    let model = Model::load_blocking(&gpu, model, Default::default())?;
    let ids = model.encode(&text)?.ids;
    let last = ids.len().checked_sub(1).context("an empty text")?;

    let patterns: Vec<_> = (0..model.spec().num_hidden_layers).map(|block| Point::new(block, Kind::Pattern)).collect();
    let watch = Watch { edits: patterns.clone(), ..Watch::default() };
    let probe = pollster::block_on(Probe::new(&model, &Purpose::Score, watch))?;
    // the weight of one key, of the last query only
    let hide = |key: usize, &point: &Point| {
        Edit::new(point, Action::Scale(0.0)).of_tokens(last..last + 1).of_keys(key..key + 1)
    };
    let sets: Vec<Vec<Edit>> = (0..last).map(|key| patterns.iter().map(|point| hide(key, point)).collect()).collect();
    let hidden = sets.iter().map(|edits| Look { edits, ..Look::new(&ids) });
    let seen = probe.run_blocking(&std::iter::once(Look::new(&ids)).chain(hidden).collect::<Vec<_>>())?;

    let best = |seen: &Seen| (0..seen.output.len()).max_by(|&a, &b| seen.output[a].total_cmp(&seen.output[b]));
    let word = |id: usize| model.tokenizer().ok().and_then(|all| all.text_of(id as u32)).unwrap_or_default();
    let answer = best(&seen[0]).context("a model without a head")?;
    let plain = seen[0].output[answer];
    println!("{text:?} goes on with {:?}, logit {plain:.3}; with each token hidden:", word(answer));
    for (id, seen) in ids.iter().zip(&seen[1..]) {
        let change = seen.output[answer] - plain;
        println!("{:>12}  {change:+.3}  {:?}", format!("{:?}", word(*id as usize)), word(best(seen).unwrap_or(answer)));
    }
    Ok(())
}
