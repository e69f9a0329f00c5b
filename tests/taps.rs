//! Taps: some tokens only, summaries made on the GPU, captures that stay there, and what they cost.

mod common;

use common::{GPU, bits, fixtures, relative};
use thalweg::schedule::{Dims, Purpose, Watch};
use thalweg::stream::{Kind, Look, Point, Probe, Seen, Summary, Tap, Trace};
use thalweg::{Decoder, Encoder, Error, Gpu, GpuOptions, LoadOptions, Model, SessionOptions};

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

/// Texts of several lengths that go through a probe together.
const TEXTS: [&[u32]; 3] = [&[3, 1, 4, 1, 5, 9, 2], &IDS, &[2, 7, 1, 8, 2, 8]];

fn everything(model: &Model) -> Vec<Point> {
    Point::of_model(model.spec())
}

fn run(model: &Model, watch: Watch) -> Vec<Seen> {
    probe(model, watch).run_blocking(&TEXTS.map(Look::new)).unwrap()
}

/// The elements of a whole point that a tap shows: its heads of its tokens, of patterns head by head.
fn part(whole: &Trace, tap: &Tap, model: &Model) -> Vec<Vec<f32>> {
    let (tensor, all) = (&whole.tensors[&tap.point], tap.point.heads(model.spec()));
    let (heads, rows) = (tap.heads(model.spec()), tap.rows(whole.ids.len()));
    let is_pattern = tap.point.kind == Kind::Pattern;
    let size = if is_pattern { tensor.shape[2] } else { tensor.data.len() / tensor.shape[0] / all };
    let row = |at: usize, head: usize| {
        let place = if is_pattern { head * tensor.shape[1] + at } else { at * all + head };
        tensor.data[place * size..(place + 1) * size].to_vec()
    };
    match is_pattern {
        true => heads.flat_map(|head| rows.clone().map(move |at| (at, head))).map(|(at, head)| row(at, head)).collect(),
        false => {
            rows.flat_map(|at| heads.clone().map(move |head| (at, head))).map(|(at, head)| row(at, head)).collect()
        }
    }
}

/// Every point narrowed to some tokens and some heads.
fn narrowings(model: &Model) -> Vec<Vec<Tap>> {
    let last = |point: &Point| point.heads(model.spec()) - 1;
    let some: [fn(Tap, usize) -> Tap; 5] = [
        |tap, _| tap.of_tokens(0..1),
        |tap, _| tap.of_tokens(2..6),
        |tap, last| if tap.point.kind.has_heads() { tap.of_heads(last..last + 1) } else { tap },
        |tap, last| {
            if tap.point.kind.has_heads() { tap.of_heads(0..last.max(1)).of_tokens(3..5) } else { tap.of_tokens(5..6) }
        },
        // each in another way
        |tap, last| match (tap.point.kind.has_heads(), tap.point.block) {
            (true, 0) => tap.of_heads(last..last + 1).of_tokens(1..2),
            (true, _) => tap.of_heads(0..1),
            (false, 0) => tap,
            (false, _) => tap.of_tokens(4..6),
        },
    ];
    some.map(|narrow| everything(model).iter().map(|point| narrow(point.into(), last(point))).collect()).into()
}

#[test]
fn narrowed_taps_are_parts_of_whole_ones() {
    for name in MODELS {
        let model = model(name);
        let whole = run(&model, Watch::taps(&everything(&model)));
        for taps in narrowings(&model) {
            let parts = run(&model, Watch::taps(&taps));
            for (whole, seen) in whole.iter().zip(parts) {
                assert_eq!(seen.trace.tensors.len(), taps.len());
                for tap in &taps {
                    let (found, expected) = (&seen.trace.tensors[&tap.point], part(&whole.trace, tap, &model));
                    assert_eq!(found.shape, tap.shape(model.spec(), whole.trace.ids.len()), "{name}: {tap}");
                    assert_eq!(bits(&found.data), bits(&expected.concat()), "{name}: {tap}");
                }
            }
        }
    }
}

/// Nothing else is copied, held or read.
#[test]
fn narrowed_taps_hold_only_what_they_show() {
    let model = model(MODELS[0]);
    let tap = Tap::from(Point::new(1, Kind::Pattern)).of_heads(1..2).of_tokens(3..5);
    let probe = probe(&model, Watch { held: true, ..Watch::taps(std::slice::from_ref(&tap)) });
    let recording = probe.program().recording();
    let dims = Dims { tokens: 100, sequences: 4, keys: 30, ..Dims::default() };
    let size: Vec<_> = recording.captures.iter().map(|capture| capture.size.of(&dims)).collect();
    // two queries of one head of each of four texts
    assert_eq!(size, [2 * 4 * 30]);
    let of = |tap: Tap| {
        let watch = Watch::taps(&[tap]);
        self::probe(&model, watch).program().recording().captures[0].size.of(&dims)
    };
    let (z, spec) = (Tap::from(Point::new(1, Kind::Z)), model.spec());
    assert_eq!(of(z.clone().of_heads(0..1)), 100 * spec.head_size as u64);
    assert_eq!(of(z.clone().of_tokens(7..9)), 2 * 4 * (spec.num_attention_heads * spec.head_size) as u64);
    let whole = run(&model, Watch::taps(&[tap.point]));
    let held = probe.hold(&TEXTS.map(Look::new)).unwrap();
    let keys = TEXTS.iter().map(|ids| ids.len()).max().unwrap();
    let rows = copied(&GPU, held.point(tap.point).unwrap().buffer, TEXTS.len() * 2 * keys);
    for (seen, rows) in whole.iter().zip(rows.chunks_exact(2 * keys)) {
        let own = rows.chunks_exact(keys).map(|row| &row[..seen.trace.ids.len()]).collect::<Vec<_>>().concat();
        assert_eq!(bits(&own), bits(&part(&seen.trace, &tap, &model).concat()));
    }
}

#[test]
fn taps_that_a_text_does_not_have() {
    for name in MODELS {
        let model = model(name);
        let z = || Tap::from(Point::new(0, Kind::Z));
        let heads = model.spec().num_attention_heads;
        let wrong = [
            (vec![z().of_heads(heads..heads + 1)], "has"),
            (vec![z().of_heads(1..1)], "heads 1..1"),
            (vec![z().of_tokens(4..4)], "no token"),
            (vec![Tap::from(Point::new(0, Kind::MlpOut)).of_heads(0..1)], "has none"),
            (vec![Tap::from(Point::new(99, Kind::MlpOut))], "no stream point"),
            (vec![z(), z().of_heads(0..1)], "tapped twice"),
        ];
        for (taps, what) in wrong {
            for watch in [Watch::taps(&taps), Watch { summaries: taps.clone(), ..Watch::default() }] {
                let found = pollster::block_on(Probe::new(&model, &Purpose::Trace, watch)).map(|_| ());
                assert!(matches!(found, Err(Error::Input(ref said)) if said.contains(what)), "{name}: {found:?}");
            }
            assert!(matches!(model.trace_blocking(&IDS, &taps), Err(Error::Input(_))));
        }
        let probe = probe(&model, Watch::taps(&[Tap::from(Point::new(0, Kind::Embed)).of_tokens(5..9)]));
        let short = probe.run_blocking(&TEXTS.map(Look::new));
        assert!(matches!(short, Err(Error::Input(ref said)) if said.contains("7 tokens")), "{name}: {short:?}");
        assert!(probe.run_blocking(&[Look::new(&IDS)]).is_ok());
    }
}

/// Every point's numbers, beside those made of what comes back of it.
#[test]
fn summaries_are_those_of_the_rows() {
    for name in MODELS {
        let model = model(name);
        let whole = run(&model, Watch::taps(&everything(&model)));
        let mut watched = narrowings(&model);
        watched.push(everything(&model).iter().map(Tap::from).collect());
        for (summaries, top) in watched.into_iter().zip([1, 0, 3, 64, 2, 9]) {
            let seen = run(&model, Watch { summaries: summaries.clone(), top, ..Watch::default() });
            for (whole, seen) in whole.iter().zip(seen) {
                assert!(seen.trace.tensors.is_empty());
                assert_eq!(seen.summaries.len(), summaries.len());
                for tap in &summaries {
                    let (heads, rows) = (tap.heads(model.spec()).len(), tap.rows(whole.trace.ids.len()).len());
                    let mut expected = part(&whole.trace, tap, &model);
                    if tap.point.kind == Kind::Pattern {
                        // summaries are by token, then by head
                        let by_token = (0..rows).flat_map(|row| (0..heads).map(move |head| head * rows + row));
                        expected = by_token.map(|at| expected[at].clone()).collect();
                    }
                    let told = format!("{name}: {tap}, {top} of {} tokens", whole.trace.ids.len());
                    same_summary(&seen.summaries[&tap.point], [rows, heads], &expected, top, &told);
                }
            }
        }
        let many = Watch { top: 65, ..Watch::default() };
        assert!(matches!(pollster::block_on(Probe::new(&model, &Purpose::Trace, many)), Err(Error::Input(_))));
    }
}

fn same_summary(found: &Summary, shape: [usize; 2], rows: &[Vec<f32>], top: usize, told: &str) {
    let wide = |row: &[f32], f: fn(f64) -> f64| row.iter().map(|&x| f(f64::from(x))).sum::<f64>();
    let norms: Vec<f32> = rows.iter().map(|row| wide(row, |x| x * x).sqrt() as f32).collect();
    assert_eq!((&found.norm.shape[..], &found.mean.shape[..]), (&shape[..], &shape[..]), "{told}");
    assert!(relative(&found.norm.data, &norms) < 5e-6, "{told}");
    for ((row, norm), mean) in rows.iter().zip(&norms).zip(&found.mean.data) {
        // a sum of numbers that cancel is as exact as they are large
        let (sum, bound) = (wide(row, |x| x), 5e-6 * f64::from(*norm) * (row.len() as f64).sqrt());
        assert!((f64::from(*mean) * row.len() as f64 - sum).abs() <= bound, "{told}");
    }
    let top = top.min(rows[0].len());
    assert_eq!(found.top.shape, [shape[0], shape[1], top], "{told}");
    let (mut values, mut places) = (Vec::new(), Vec::new());
    for row in rows {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()));
        values.extend(order[..top].iter().map(|&place| row[place]));
        places.extend(order[..top].iter().map(|&place| place as u32));
    }
    assert_eq!((bits(&found.top.data), &found.places), (bits(&values), &places), "{told}");
}

/// A forward or step that nobody watches has the same dispatches and the same bits whether others are watched or not; an
/// encoder has those of a probe of nothing.
#[test]
fn taps_that_are_off_cost_nothing() {
    let gpu = Gpu::new_blocking(GpuOptions::default()).unwrap();
    for name in MODELS {
        let model = Model::load_blocking(&gpu, fixtures(name), LoadOptions::default()).unwrap();
        let purpose = model.head().map_or(Purpose::Score, |head| Purpose::Embed(head.clone()));
        let run = |watch: Watch| {
            let probe = pollster::block_on(Probe::new(&model, &purpose, watch)).unwrap();
            let before = gpu.counts();
            let seen = probe.run_blocking(&TEXTS.map(Look::new)).unwrap();
            let (after, outputs) = (gpu.counts(), seen.iter().map(|seen| bits(&seen.output)).collect::<Vec<_>>());
            let dispatches = after.dispatches - before.dispatches;
            let labels = probe.program().recording().dispatches().map(|dispatch| dispatch.variant.label.clone());
            let labels: Vec<_> = labels.collect();
            assert_eq!(dispatches, labels.len() as u64, "{name}");
            (dispatches, after.submissions - before.submissions, after.readbacks - before.readbacks, labels, outputs)
        };
        let plain = run(Watch::default());
        assert_eq!((plain.1, plain.2), (1, 1), "{name}: one submission, one readback");
        let watched = run(Watch::taps(&everything(&model)));
        assert!(watched.0 > plain.0 && watched.4 == plain.4, "{name}: {} and {} dispatches", watched.0, plain.0);
        assert_eq!(run(Watch::default()), plain, "{name}");
        if model.head().is_some() {
            let encoder = Encoder::load_blocking(&gpu, fixtures(name)).unwrap();
            let own = encoder.program().recording().dispatches().map(|dispatch| dispatch.variant.label.clone());
            assert_eq!(own.collect::<Vec<_>>(), plain.3, "{name}");
            continue;
        }
        let decoder = Decoder::load_blocking(&gpu, fixtures(name)).unwrap();
        let steps = |taps: &[Point]| {
            let taps = taps.iter().map(Tap::from).collect::<Vec<_>>();
            let options = SessionOptions { ignore_eos: true, taps: taps.into(), ..Default::default() };
            let mut session = decoder.session(options).unwrap();
            session.prefill_blocking(&IDS).unwrap();
            session.next_token_blocking().unwrap();
            let before = gpu.counts().dispatches;
            session.next_token_blocking().unwrap();
            (gpu.counts().dispatches - before, session.tokens().to_vec())
        };
        let (plain, watched) = (steps(&[]), steps(&everything(&model)));
        assert_eq!(plain.1, watched.1, "{name}");
        assert!(watched.0 > plain.0, "{name}: {} and {} dispatches a step", watched.0, plain.0);
        assert_eq!(steps(&[]), plain, "{name}");
    }
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
