//! Sweeps, ablation and patching: each run of a sweep is the same run alone to the bit, and what changes nothing gives exactly
//! what was there.

mod common;

use std::sync::Mutex;

use common::{Expected, GPU, bits, fixtures};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{
    Action, Component, Edit, Kind, Look, Metric, Place, Point, Probe, Replacement, Sweep, ablations, patch_blocking,
};
use thalweg::{CancelToken, Error, Model, Task};

const MODELS: [&str; 11] = [
    "decoders/llama_gqa",
    "decoders/gemma2_odd",
    "decoders/gpt2_odd",
    "decoders/phi3_longrope",
    "decoders/qwen3_norm",
    "decoders/neox_parallel",
    "decoders/olmo2_odd",
    "models/bert_odd",
    "models/bert_bf16_sharded",
    "models/mpnet_odd",
    "decoders/modernbert_odd",
];

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), Default::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn ids(model: &Model, step: u32) -> Vec<u32> {
    (0..11).map(|i| (i * step + 3) % model.spec().vocab_size as u32).collect()
}

/// The metrics that a model has, at a token in the middle and of the whole text.
fn metrics(model: &Model, tokens: usize) -> Vec<Metric> {
    match model.head() {
        Some(_) => vec![Metric::Cosine { to: (0..20).map(|i| (i % 5) as f32 - 1.5).collect() }],
        None => vec![
            Metric::Logit { target: 7, against: Some(4), position: tokens - 1 },
            Metric::Probability { target: 9, position: tokens / 2 },
            Metric::Loss,
        ],
    }
}

fn f64_bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_run_of_a_sweep_is_the_run_alone() {
    for name in MODELS {
        let model = model(name);
        let (ids, other) = (ids(&model, 7), ids(&model, 5));
        let all = Component::parse("heads,attention,mlp,block,attention_skip,mlp_skip", model.spec()).unwrap();
        let replacements = [
            Replacement::Scale(0.0),
            Replacement::Scale(0.5),
            Replacement::Mean(vec![ids.clone(), other.clone()]),
            Replacement::Resample(other.clone()),
        ];
        let mut sets = vec![Vec::new()];
        for by in &replacements {
            sets.extend(pollster::block_on(ablations(&model, ids.len(), &all, by)).unwrap());
        }
        let last = model.spec().num_hidden_layers - 1;
        for kind in [Kind::Embed, Kind::ResidPre, Kind::Q, Kind::K, Kind::V, Kind::ResidPost] {
            let block = if kind == Kind::Embed { 0 } else { last };
            sets.push(vec![Edit::new(Point::new(block, kind), Action::Scale(0.5)).of_tokens(2..5)]);
        }
        // two places at once: the first says where the run begins
        sets.push(vec![
            Edit::new(Point::new(last, Kind::K), Action::Scale(0.25)),
            Edit::new(Point::new(0, Kind::MlpOut), Action::Scale(2.0)),
        ]);
        for metric in metrics(&model, ids.len()) {
            let what = format!("{name} {}", metric.name());
            let sweep = Sweep::new_blocking(&model, &ids, metric).unwrap();
            let steps = Mutex::new(Vec::new());
            let task = Task {
                progress: Some(std::sync::Arc::new({
                    let steps: &'static Mutex<Vec<_>> = Box::leak(Box::new(steps));
                    move |done, total| steps.lock().unwrap().push((done, total))
                })),
                ..Default::default()
            };
            let values = sweep.run_blocking(&sets, &task).unwrap();
            let alone = pollster::block_on(sweep.run_one_by_one(&sets)).unwrap();
            assert_eq!(f64_bits(&values), f64_bits(&alone), "{what}");
            assert_eq!(values[0].to_bits(), sweep.clean().to_bits(), "{what}");
            let changed = values.iter().filter(|&&value| value != sweep.clean()).count();
            assert!(changed > sets.len() * 9 / 10, "{what}: {changed} of {} runs changed anything", sets.len());
        }
    }
}

/// The logits at a position are those of the whole forward, though only their row goes through the last block's end.
#[test]
fn scored_logits_are_the_traced_ones() {
    for name in MODELS.into_iter().filter(|name| !name.contains("bert") && !name.contains("mpnet")) {
        let model = model(name);
        let ids = ids(&model, 7);
        let point = Point::new(0, Kind::Logits);
        let traced = model.trace_blocking(&ids, &[point]).unwrap();
        let rows: Vec<_> = traced.tensors[&point].data.chunks_exact(model.spec().vocab_size).map(bits).collect();
        let last = model.spec().num_hidden_layers - 1;
        for taps in [vec![], vec![Point::new(last, Kind::ResidPre)], vec![Point::new(last, Kind::MlpOut)]] {
            let watch = Watch::taps(&taps);
            let probe = pollster::block_on(Probe::new(&model, &Purpose::Score, watch)).unwrap();
            let looks = [0, 4, ids.len() - 1].map(|position| Look { position, ..Look::new(&ids) });
            for (seen, look) in probe.run_blocking(&looks).unwrap().iter().zip(looks) {
                assert_eq!(bits(&seen.output), rows[look.position], "{name}, position {}", look.position);
            }
        }
    }
}

#[test]
fn a_gate_of_one_is_the_model() {
    for name in MODELS {
        let model = model(name);
        let ids = ids(&model, 7);
        let parts = Component::parse("heads,block,attention_skip,mlp_skip", model.spec()).unwrap();
        for metric in metrics(&model, ids.len()) {
            let sweep = Sweep::new_blocking(&model, &ids, metric).unwrap();
            let found = sweep.ablate_blocking(&parts, &Replacement::Scale(1.0), &Task::default()).unwrap();
            assert_eq!(found.values, vec![found.clean; parts.len()], "{name}");
            // its own rows in its own place
            let itself = Replacement::Resample(ids.clone());
            let found = sweep.ablate_blocking(&parts, &itself, &Task::default()).unwrap();
            assert_eq!(found.values, vec![found.clean; parts.len()], "{name}");
        }
    }
}

/// All rows of the clean stream make the corrupted run the clean one, exactly; its own leave it as it is.
#[test]
fn patching_with_itself_gives_one_and_zero() {
    for name in MODELS {
        let model = model(name);
        let spec = model.spec();
        let (clean, corrupted) = (ids(&model, 7), ids(&model, 5));
        for metric in metrics(&model, clean.len()) {
            let rows: Vec<_> = (0..spec.num_hidden_layers).map(|block| Point::new(block, Kind::ResidPre)).collect();
            let whole = |point: &Point| Place { point: *point, position: None, head: None };
            let places: Vec<_> = rows.iter().map(whole).collect();
            let task = Task::default();
            let found = patch_blocking(&model, &clean, &corrupted, &metric, &places, &task).unwrap();
            assert_eq!(found.shares(), vec![1.0; places.len()], "{name} {}", metric.name());
            let sweep = Sweep::new_blocking(&model, &corrupted, metric.clone()).unwrap();
            let trace = model.trace_blocking(&corrupted, &rows).unwrap();
            let own = |place: &Place| vec![place.edit(&trace.tensors[&place.point].data, spec).unwrap()];
            let kinds = Place::all(&[Kind::ResidPre], spec, clean.len());
            let sets: Vec<_> = kinds.iter().chain(&places).map(own).collect();
            let values = sweep.run_blocking(&sets, &task).unwrap();
            assert!(values.iter().all(|&value| value == sweep.clean()), "{name} {}", metric.name());
            // a loss of two prompts is at the clean one's tokens, and so not the corrupted one's own
            assert_eq!(sweep.clean() == found.corrupted, metric != Metric::Loss, "{name} {}", metric.name());
            let zero = thalweg::stream::Patching { values: vec![found.corrupted; places.len()], ..found };
            assert!(zero.shares().iter().all(|&share| share == 0.0));
            // places where something happens
            let places = Place::all(&[Kind::ResidPre, Kind::AttnOut, Kind::MlpOut, Kind::Z], spec, clean.len());
            let found = patch_blocking(&model, &clean, &corrupted, &metric, &places, &task).unwrap();
            let moved = found.shares().iter().filter(|share| share.abs() > 1e-4).count();
            assert!(moved > places.len() / 3, "{name} {}: {moved} of {}", metric.name(), places.len());
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let model = model("decoders/llama_gqa");
    let ids = ids(&model, 7);
    let logit = |target, position| Metric::Logit { target, against: None, position };
    let fails = |metric: Metric, part: &str| {
        let error = Sweep::new_blocking(&model, &ids, metric).err().expect("refused");
        assert!(matches!(&error, Error::Input(what) if what.contains(part)), "{error}");
    };
    fails(logit(7, ids.len()), "position 11 of 11");
    fails(logit(60_000, 0), "vocabulary");
    fails(Metric::Logit { target: 1, against: Some(60_000), position: 0 }, "vocabulary");
    fails(Metric::Probability { target: 60_000, position: 0 }, "vocabulary");
    fails(Metric::Cosine { to: vec![1.0; 4] }, "language model");
    assert!(matches!(Sweep::new_blocking(&model, &ids[..1], Metric::Loss), Err(Error::Input(_))));
    assert!(matches!(Sweep::new_blocking(&model, &[], Metric::Loss), Err(Error::Input(_))));
    let encoder = self::model("models/bert_odd");
    assert!(matches!(Sweep::new_blocking(&encoder, &ids, logit(1, 0)), Err(Error::Input(_))));
    for to in [vec![], vec![0.0; 4], vec![f32::NAN; 4], vec![1.0; 4000]] {
        assert!(matches!(Sweep::new_blocking(&encoder, &ids, Metric::Cosine { to }), Err(Error::Input(_))));
    }

    let sweep = Sweep::new_blocking(&model, &ids, logit(7, 3)).unwrap();
    let input = |outcome: thalweg::Result<Vec<f64>>, part: &str| {
        let error = outcome.expect_err("refused");
        assert!(matches!(&error, Error::Input(what) if what.contains(part)), "{error}");
    };
    let run = |edit| sweep.run_blocking(&[vec![edit]], &Task::default());
    input(run(Edit::new(Point::new(0, Kind::Logits), Action::Scale(0.0))), "behind");
    input(run(Edit::new(Point::new(9, Kind::Z), Action::Scale(0.0))), "blocks.9");
    input(run(Edit::new(Point::new(0, Kind::AttnOut), Action::Scale(3e38))), "after the edits of run 0");
    let ablate = |parts: &[(usize, Component)], by| {
        sweep.ablate_blocking(parts, &by, &Task::default()).map(|found| found.values)
    };
    input(ablate(&[(0, Component::Head(99))], Replacement::Scale(0.0)), "head 99");
    input(ablate(&[(9, Component::Mlp)], Replacement::Mean(vec![ids.clone()])), "blocks.9");
    input(ablate(&[(0, Component::Mlp)], Replacement::Mean(vec![])), "at least one text");
    input(ablate(&[(0, Component::Mlp)], Replacement::Resample(ids[1..].to_vec())), "11 tokens");
    let error = Component::parse("heads,tails", model.spec()).unwrap_err();
    assert!(error.to_string().contains("tails"));

    let places = Place::all(&[Kind::ResidPre], model.spec(), ids.len());
    let patched = |clean: &[u32], corrupted: &[u32], places: &[Place]| {
        patch_blocking(&model, clean, corrupted, &logit(7, 3), places, &Task::default()).map(|found| found.values)
    };
    input(patched(&ids, &ids[1..], &places), "same length");
    input(patched(&ids, &ids, &places), "nothing that patching restores");
    let mut other = ids.clone();
    other[1] += 1;
    let beyond = Place { point: Point::new(0, Kind::ResidPre), position: Some(11), head: None };
    input(patched(&ids, &other, &[beyond]), "there is no");
    let result = Place { point: Point::new(0, Kind::Result), position: None, head: Some(0) };
    input(patched(&ids, &other, &[result]), "hook_result");
    let pattern = Place { point: Point::new(0, Kind::Pattern), position: None, head: None };
    input(patched(&ids, &other, &[pattern]), "places are heads");
    let headless = Place { point: Point::new(0, Kind::ResidPre), position: None, head: Some(0) };
    input(patched(&ids, &other, &[headless]), "head 0");

    let cancel = CancelToken::new();
    cancel.cancel();
    let task = Task { cancel, ..Default::default() };
    let parts = Component::parse("heads", model.spec()).unwrap();
    assert!(matches!(sweep.ablate_blocking(&parts, &Replacement::Scale(0.0), &task), Err(Error::Cancelled)));
}

/// All that a sweep has on the GPU at any time is at most twice what the plain forward of the text has.
#[test]
fn a_sweep_takes_no_more_than_twice_the_memory_of_a_forward() {
    // a device of its own, on which nothing else is allocated
    let gpu = thalweg::Gpu::new_blocking(Default::default()).unwrap();
    let taken = || gpu.device().generate_allocator_report().map(|report| report.total_allocated_bytes);
    if taken().is_none() {
        println!("skipped: this backend does not say what is allocated");
        return;
    }
    let model = Model::load_blocking(&gpu, thalweg::RUSTBOOK, Default::default()).unwrap();
    for (tokens, metric) in [(64, Metric::Logit { target: 7, against: None, position: 63 }), (48, Metric::Loss)] {
        let ids: Vec<u32> = (0..tokens).map(|i| (i * 7 + 3) % 2048).collect();
        let purpose = if metric == Metric::Loss { Purpose::Trace } else { Purpose::Score };
        let plain = {
            let probe = pollster::block_on(Probe::new(&model, &purpose, Watch::default())).unwrap();
            probe.run_blocking(&[Look::new(&ids)]).unwrap();
            taken().unwrap()
        };
        let sweep = Sweep::new_blocking(&model, &ids, metric).unwrap();
        let most = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(taken().unwrap()));
        let batches = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let progress = {
            let (most, batches, device) = (most.clone(), batches.clone(), gpu.device().clone());
            move |_, _| {
                let taken = device.generate_allocator_report().unwrap().total_allocated_bytes;
                most.fetch_max(taken, std::sync::atomic::Ordering::Relaxed);
                batches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        let task = Task { progress: Some(std::sync::Arc::new(progress)), ..Default::default() };
        let parts = Component::parse("heads,block", model.spec()).unwrap();
        sweep.ablate_blocking(&parts, &Replacement::Resample(ids.iter().rev().copied().collect()), &task).unwrap();
        let most = most.load(std::sync::atomic::Ordering::Relaxed);
        println!("{most} bytes in a sweep of {tokens} tokens, {plain} in a forward");
        assert!(most <= 2 * plain, "{most} bytes in a sweep, {plain} in a forward");
        // and it makes use of what it may: fewer batches than runs
        assert!(batches.load(std::sync::atomic::Ordering::Relaxed) * 2 < parts.len());
    }
}

/// Against the same computed in PyTorch with hooks on Hugging Face's models, in f64.
#[test]
fn sweeps_are_pytorchs() {
    for (folder, name) in
        [("decoders", "gpt2_odd"), ("decoders", "llama_gqa"), ("decoders", "gemma2_odd"), ("models", "bert_odd")]
    {
        let model = model(&format!("{folder}/{name}"));
        let spec = model.spec();
        let file = fixtures("sweeps").join(format!("{name}.safetensors"));
        let expected = Expected(thalweg::files::Checkpoint::open_file(&file).unwrap());
        let (ids, other) = (expected.ids("ids"), expected.ids("other"));
        let compare = |what: &str, values: &[f64]| {
            let expected = expected.f32(what);
            assert_eq!(values.len(), expected.len(), "{name} {what}");
            let most = expected.iter().map(|x| x.abs()).fold(0.0, f32::max);
            for (i, (value, expected)) in values.iter().zip(&expected).enumerate() {
                let error = (value - f64::from(*expected)).abs() / f64::from(most);
                assert!(error < 1e-4, "{name} {what} {i}: {value} instead of {expected}");
            }
        };
        let last = Metric::Logit { target: 7, against: Some(4), position: ids.len() - 1 };
        let (metrics, patched) = match model.head() {
            Some(_) => (
                vec![("cosine", Metric::Cosine { to: expected.f32("to") })],
                Metric::Cosine { to: expected.f32("patch.to") },
            ),
            None => {
                let probability = Metric::Probability { target: 9, position: ids.len() / 2 };
                (vec![("logit", last.clone()), ("probability", probability), ("loss", Metric::Loss)], last)
            }
        };
        let parts = Component::parse("heads,attention,mlp,block,attention_skip,mlp_skip", spec).unwrap();
        for (label, metric) in metrics {
            let sweep = Sweep::new_blocking(&model, &ids, metric).unwrap();
            compare(&format!("{label}.clean"), &[sweep.clean()]);
            for (by, replacement) in [
                ("zero", Replacement::Scale(0.0)),
                ("half", Replacement::Scale(0.5)),
                ("mean", Replacement::Mean(vec![ids.clone(), other.clone()])),
                ("resample", Replacement::Resample(other.clone())),
            ] {
                let found = sweep.ablate_blocking(&parts, &replacement, &Task::default()).unwrap();
                compare(&format!("{label}.{by}"), &found.values);
            }
        }
        for (place, kind) in
            [("resid_pre", Kind::ResidPre), ("attn_out", Kind::AttnOut), ("mlp_out", Kind::MlpOut), ("z", Kind::Z)]
        {
            let places = Place::all(&[kind], spec, ids.len());
            let loss = model.head().is_none().then_some(("patch_loss", &Metric::Loss));
            for (label, metric) in std::iter::once(("patch", &patched)).chain(loss) {
                let found = patch_blocking(&model, &ids, &other, metric, &places, &Task::default()).unwrap();
                compare(&format!("{label}.ends"), &[found.clean, found.corrupted]);
                compare(&format!("{label}.{place}"), &found.shares());
            }
        }
    }
}
