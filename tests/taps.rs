//! Taps: some tokens only, summaries made on the GPU, captures that stay there, and what they cost.

mod common;

use common::{GPU, bits, fixtures, relative};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Kind, Look, Point, Probe, Seen, Trace};
use thalweg::{Error, Gpu, GpuOptions, LoadOptions, Model};

const IDS: [u32; 9] = [3, 1, 4, 1, 5, 9, 2, 6, 5];
const MODELS: [&str; 4] = ["decoders/llama_gqa", "decoders/gemma2_odd", "decoders/gpt2_odd", "models/bert_odd"];

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), LoadOptions::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn probe(model: &Model, watch: Watch) -> Probe<'_> {
    pollster::block_on(Probe::new(model, &Purpose::Trace, watch)).unwrap()
}

fn see(model: &Model, watch: Watch) -> Seen {
    probe(model, watch).run_blocking(&[Look::new(&IDS)]).unwrap().remove(0)
}

fn rows_of_tokens(model: &Model) -> Vec<Point> {
    Point::of_model(model.spec()).into_iter().filter(|point| point.kind != Kind::Pattern).collect()
}

fn all(model: &Model) -> Trace {
    see(model, Watch::taps(&rows_of_tokens(model))).trace
}

#[test]
fn some_tokens_are_a_part_of_all() {
    for name in MODELS {
        let model = model(name);
        let whole = all(&model);
        for only in [0..1, 3..7, 8..9, 0..9] {
            let taps = rows_of_tokens(&model);
            let part = see(&model, Watch { taps, only: Some(only.clone()), ..Watch::default() }).trace;
            assert_eq!(part.tensors.len(), whole.tensors.len());
            for (point, tensor) in &part.tensors {
                let width = point.width(model.spec());
                let expected = &whole.tensors[point].data[only.start * width..only.end * width];
                assert_eq!(bits(&tensor.data), bits(expected), "{name}: {point} of {only:?}");
                assert_eq!(tensor.shape[0], only.len());
            }
        }
        let probe = probe(&model, Watch { only: Some(5..10), ..Watch::taps(&[Point::new(0, Kind::Embed)]) });
        let short = probe.run_blocking(&[Look::new(&IDS)]);
        assert!(matches!(short, Err(Error::Input(_))), "{name}: {short:?}");
        let two = probe.run_blocking(&[Look::new(&[1; 10]), Look::new(&IDS)]);
        assert!(matches!(two, Err(Error::Input(_))), "{name}: {two:?}");
    }
}

#[test]
fn summaries_are_those_of_the_rows() {
    for name in MODELS {
        let model = model(name);
        let whole = all(&model);
        let summaries: Vec<_> = rows_of_tokens(&model).into_iter().filter(|point| point.kind != Kind::Result).collect();
        let seen = see(&model, Watch { summaries: summaries.clone(), ..Watch::default() });
        assert!(seen.trace.tensors.is_empty());
        assert_eq!(seen.summaries.len(), summaries.len());
        for (point, summary) in &seen.summaries {
            let heads = point.heads(model.spec());
            let size = point.width(model.spec()) / heads;
            assert_eq!(summary.shape, [IDS.len(), heads, 4], "{name}: {point}");
            let expected: Vec<f32> = whole.tensors[point]
                .data
                .chunks_exact(size)
                .flat_map(|row| {
                    let sum = |f: fn(f64) -> f64| row.iter().map(|&x| f(f64::from(x))).sum::<f64>();
                    let largest = row.iter().map(|x| x.abs()).fold(0.0, f32::max);
                    let place = row.iter().position(|x| x.abs() == largest).unwrap();
                    let (norm, mean) = (sum(|x| x * x).sqrt(), sum(|x| x) / size as f64);
                    [norm as f32, mean as f32, row[place], place as f32]
                })
                .collect();
            // each number for itself: places are much larger than means
            for number in 0..4 {
                let every = |values: &[f32]| values.iter().skip(number).step_by(4).copied().collect::<Vec<_>>();
                let error = relative(&every(&summary.data), &every(&expected));
                assert!(error < 5e-6, "{name}: {point}, number {number}: {error:e}");
            }
        }
    }
    let model = model(MODELS[0]);
    let pattern = Watch { summaries: vec![Point::new(0, Kind::Pattern)], ..Watch::default() };
    assert!(matches!(pollster::block_on(Probe::new(&model, &Purpose::Trace, pattern)), Err(Error::Input(_))));
}

/// What is held is what would have come back, in a buffer that a host can use.
#[test]
fn captures_stay_on_the_gpu() {
    // another test's readbacks are not counted
    let gpu = Gpu::new_blocking(GpuOptions::default()).unwrap();
    for name in MODELS {
        let model = Model::load_blocking(&gpu, fixtures(name), LoadOptions::default()).unwrap();
        let whole = all(&model);
        let probe = probe(&model, Watch { held: true, ..Watch::taps(&rows_of_tokens(&model)) });
        let readbacks = gpu.counts().readbacks;
        for _ in 0..2 {
            let held = probe.hold(&[Look::new(&IDS)]).unwrap();
            for (point, tensor) in &whole.tensors {
                let there = held.point(*point).unwrap_or_else(|| panic!("{name}: no {point}"));
                let rows = copied(&gpu, there.buffer, IDS.len() * there.stride);
                let (from, to) = there.columns;
                let found: Vec<f32> = rows.chunks_exact(there.stride).flat_map(|row| &row[from..to]).copied().collect();
                assert_eq!(bits(&found), bits(&tensor.data), "{name}: {point}");
            }
            assert!(held.point(Point::new(0, Kind::Pattern)).is_none());
        }
        assert_eq!(gpu.counts().readbacks, readbacks, "{name}: nothing is read back by itself");
        assert!(probe.run_blocking(&[Look::new(&IDS)]).is_err());
    }
}

/// As a host would: its own commands on the same queue.
fn copied(gpu: &Gpu, buffer: &wgpu::Buffer, elements: usize) -> Vec<f32> {
    let size = 4 * elements as u64;
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let own = gpu.device().create_buffer(&descriptor);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &own, 0, size);
    gpu.queue().submit([encoder.finish()]);
    own.map_async(wgpu::MapMode::Read, .., |outcome| outcome.unwrap());
    gpu.device().poll(wgpu::PollType::wait_indefinitely()).unwrap();
    let values = own.get_mapped_range(..).unwrap();
    bytemuck::pod_collect_to_vec(&values)
}
