//! What taps cost: a forward of 128 tokens with nothing watched, and with all blocks' `hook_resid_post`, which stay on the GPU,
//! come back, or come back as summaries. The forwards take turns, so that whatever else the machine does meets all of them.
//!
//! `cargo bench --bench taps` runs the embedded model and all-MiniLM-L6-v2 from the cache; `THALWEG_MODEL` names another.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Kind, Look, Point, Probe, Tap};
use thalweg::{Gpu, GpuOptions, Model, RUSTBOOK};

const TOKENS: usize = 128;
const ROUNDS: usize = 31;

fn main() -> Result<()> {
    env_logger::init();
    let gpu = Gpu::new_blocking(GpuOptions::default())?;
    println!("{} ({}), {TOKENS} tokens, medians of {ROUNDS} rounds", gpu.info().name, gpu.info().driver_info);
    let named = std::env::var_os("THALWEG_MODEL").map(PathBuf::from);
    let models = named.map_or_else(|| vec![RUSTBOOK.into(), "all-MiniLM-L6-v2".into()], |model| vec![model]);
    for model in models {
        let loaded = Model::load_blocking(&gpu, &model, Default::default())?;
        let spec = loaded.spec();
        let points: Vec<_> = (0..spec.num_hidden_layers).map(|l| Point::new(l, Kind::ResidPost)).collect();
        // what is there in any case: the last stream
        let last = [spec.last_point()];
        let watches = [
            ("nothing watched", Watch { held: true, ..Watch::default() }),
            ("all resid_post, held", Watch { held: true, ..Watch::taps(&points) }),
            ("all resid_post, read back", Watch::taps(&points)),
            (
                "summaries of all",
                Watch { summaries: points.iter().map(Tap::from).collect(), top: 1, ..Watch::default() },
            ),
            ("the last stream, read back", Watch::taps(&last)),
        ];
        let ids: Vec<u32> =
            (0..TOKENS as u32).map(|i| i.wrapping_mul(2_654_435_761) % spec.vocab_size as u32).collect();
        let probes = watches
            .iter()
            .map(|(_, watch)| pollster::block_on(Probe::new(&loaded, &Purpose::Trace, watch.clone())))
            .collect::<thalweg::Result<Vec<_>>>()?;
        let mut times = vec![Vec::new(); probes.len()];
        for round in 0..ROUNDS + 2 {
            for ((probe, (_, watch)), times) in probes.iter().zip(&watches).zip(&mut times) {
                let start = Instant::now();
                if watch.held {
                    let held = probe.hold(&[Look::new(&ids)])?;
                    gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
                    drop(held);
                } else {
                    let seen = probe.run_blocking(&[Look::new(&ids)])?;
                    ensure!(seen[0].trace.tensors.len() + seen[0].summaries.len() > 0);
                }
                // the first two rounds make workspaces and warm up
                if round > 1 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        println!("\n{}", model.display());
        let plain = median(&mut times[0]);
        for ((name, _), times) in watches.iter().zip(&mut times) {
            let time = median(times);
            println!("{name:28} {:8.2} ms {:6.3}", 1e3 * time, time / plain);
        }
    }
    Ok(())
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
