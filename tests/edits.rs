//! Edits of the stream: what changes nothing changes no bit, what is set is what is seen, and what is taken away is what was
//! there.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, fixtures, go_on, relative};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Edit, Kind, Look, Point, Probe, Seen, Trace};
use thalweg::{Decoder, Dtype, Error, LoadOptions, Model, SessionOptions};

const DECODERS: [&str; 7] =
    ["llama_gqa", "gemma2_odd", "gpt2_odd", "phi3_longrope", "qwen3_norm", "neox_parallel", "olmo2_odd"];

fn model(folder: &str) -> Model {
    let options = LoadOptions { dtype: Dtype::Auto, ..Default::default() };
    Model::load_blocking(&GPU, fixtures(folder), options).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

/// The models, and ids for each.
fn models() -> Vec<(String, Model, Vec<u32>)> {
    let mut models: Vec<_> = DECODERS.map(|name| format!("decoders/{name}")).into();
    models.extend(
        ["models/bert_odd", "models/roberta_odd", "models/mpnet_odd", "decoders/modernbert_odd"].map(String::from),
    );
    let load = |name: String| {
        let model = model(&name);
        let vocabulary = model.spec().vocab_size as u32;
        let ids = (0..11).map(|i| (i * 7 + 3) % vocabulary).collect();
        (name, model, ids)
    };
    models.into_iter().map(load).collect()
}

fn editable(model: &Model) -> Vec<Point> {
    // where patterns are edited, z is summed in another order
    let rows = |point: &Point| point.kind.is_editable() && point.kind != Kind::Pattern;
    Point::of_model(model.spec()).into_iter().filter(rows).collect()
}

fn all_but_patterns(model: &Model) -> Vec<Point> {
    Point::of_model(model.spec()).into_iter().filter(|point| point.kind != Kind::Pattern).collect()
}

fn probe<'m>(model: &'m Model, edits: &[Point], from: Option<usize>) -> Probe<'m> {
    let watch = Watch { edits: edits.to_vec(), from, ..Watch::taps(&all_but_patterns(model)) };
    pollster::block_on(Probe::new(model, &Purpose::Trace, watch)).unwrap()
}

fn see(probe: &Probe<'_>, look: Look<'_>) -> Trace {
    probe.run_blocking(&[look]).unwrap().remove(0).trace
}

fn same(name: &str, a: &Trace, b: &Trace) {
    for (point, tensor) in &a.tensors {
        let other = b.tensors.get(point).unwrap_or_else(|| panic!("{name}: no {point}"));
        assert_eq!(bits(&tensor.data), bits(&other.data), "{name}: {point}");
    }
}

fn vector(model: &Model, point: Point) -> Arc<[f32]> {
    (0..point.width(model.spec())).map(|i| ((i * 37 + 11) % 23) as f32 / 9.0 - 1.2).collect()
}

/// Sites without edits, edits of nothing, what was there set again, and a residual connection of gate 1.
#[test]
fn what_changes_nothing_changes_no_bit() {
    for (name, model, ids) in models() {
        let points = editable(&model);
        let plain = see(&probe(&model, &[], None), Look::new(&ids));
        let edited = probe(&model, &points, None);
        same(&name, &plain, &see(&edited, Look::new(&ids)));
        let mut edits = Vec::new();
        for &point in &points {
            let vector = vector(&model, point);
            edits.push(Edit::new(point, Action::Add { vector: vector.clone(), alpha: 0.0 }));
            edits.push(Edit::new(point, Action::Scale(1.0)));
            edits.push(Edit::new(point, Action::Project { vector, alpha: 0.0 }));
            edits
                .push(Edit::new(point, Action::Set(plain.tensors[&point].data.clone().into())).of_tokens(0..ids.len()));
        }
        same(&name, &plain, &see(&edited, Look { edits: &edits, ..Look::new(&ids) }));
    }
}

/// A forward that begins behind the embedding, with the stream that another had there, alone and beside others.
#[test]
fn forwards_go_on_from_a_block() {
    for (name, model, ids) in models() {
        let blocks = model.spec().num_hidden_layers;
        let plain = see(&probe(&model, &[], None), Look::new(&ids));
        for from in 1..blocks {
            let stream = &plain.tensors[&Point::new(from, Kind::ResidPre)].data;
            let point = Point::new(from, Kind::Z);
            let probe = probe(&model, &[point], Some(from));
            let look = Look { stream: Some(stream), ..Look::new(&ids) };
            let edits = [Edit::new(point, Action::Scale(0.5)).of_head(0)];
            let seen = probe.run_blocking(&[look, Look { edits: &edits, ..look }, look]).unwrap();
            for Seen { trace, .. } in [&seen[0], &seen[2]] {
                assert!(trace.tensors.keys().all(|point| point.block >= from || plain.tensors.contains_key(point)));
                same(&name, trace, &plain);
            }
            let last = Point::new(blocks - 1, Kind::ResidPost);
            assert_ne!(bits(&seen[1].trace.tensors[&last].data), bits(&plain.tensors[&last].data), "{name}");
        }
        let probe = probe(&model, &[], Some(1));
        let stale = probe.run_blocking(&[Look::new(&ids)]);
        assert!(matches!(stale, Err(Error::Input(ref message)) if message.contains("token 0")), "{name}: {stale:?}");
    }
}

/// The stream of another text at some block makes this text's rest the other's.
#[test]
fn a_swapped_stream_is_the_other_run() {
    for (name, model, ids) in models() {
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        let plain = see(&probe(&model, &[], None), Look::new(&other));
        let block = model.spec().num_hidden_layers - 1;
        let point = Point::new(block, Kind::ResidPre);
        let swap = [Edit::new(point, Action::Set(plain.tensors[&point].data.clone().into())).of_tokens(0..ids.len())];
        let seen = see(&probe(&model, &[point], None), Look { edits: &swap, ..Look::new(&ids) });
        for kind in [Kind::ResidPre, Kind::Z, Kind::AttnOut, Kind::MlpOut, Kind::ResidPost] {
            let point = Point::new(block, kind);
            assert_eq!(bits(&seen.tensors[&point].data), bits(&plain.tensors[&point].data), "{name}: {point}");
        }
    }
}

/// Heads' terms and bias are what attention adds, where no norm follows; the tables' rows are the embedding, likewise.
#[test]
fn parts_are_the_sum() {
    for (name, model, ids) in models() {
        let trace = see(&probe(&model, &[], None), Look::new(&ids));
        let spec = model.spec();
        let d = spec.hidden_size;
        let bias = |block: usize| {
            // what attention adds when no head does
            let points = [Point::new(block, Kind::Z)];
            let zero = [Edit::new(points[0], Action::Scale(0.0))];
            let seen = see(&probe(&model, &points, None), Look { edits: &zero, ..Look::new(&ids) });
            seen.tensors[&Point::new(block, Kind::AttnOut)].data.clone()
        };
        if name.contains("gemma2") || name.contains("olmo2") {
            continue; // a norm follows
        }
        for block in 0..spec.num_hidden_layers {
            let heads = &trace.tensors[&Point::new(block, Kind::Result)];
            assert_eq!(heads.shape, [ids.len(), spec.num_attention_heads, d]);
            // without a head, attention adds what it added less that head's term
            let (z, head) = (Point::new(block, Kind::Z), spec.num_attention_heads / 2);
            let without = [Edit::new(z, Action::Scale(0.0)).of_head(head)];
            let without = see(&probe(&model, &[z], None), Look { edits: &without, ..Look::new(&ids) });
            let out = Point::new(block, Kind::AttnOut);
            let term = |i: usize| heads.data[(i / d * spec.num_attention_heads + head) * d + i % d];
            let less = trace.tensors[&out].data.iter().enumerate();
            let less: Vec<f32> = less.map(|(i, x)| x - term(i)).collect();
            let error = relative(&without.tensors[&out].data, &less);
            assert!(error < 5e-6, "{name} block {block} without head {head}: {error:e}");
            let bias = bias(block);
            let sum: Vec<f32> = (0..ids.len() * d)
                .map(|i| {
                    let (token, column) = (i / d, i % d);
                    let head = |h: usize| f64::from(heads.data[(token * spec.num_attention_heads + h) * d + column]);
                    ((0..spec.num_attention_heads).map(head).sum::<f64>() + f64::from(bias[i])) as f32
                })
                .collect();
            let error = relative(&sum, &trace.tensors[&Point::new(block, Kind::AttnOut)].data);
            assert!(error < 2e-6, "{name} block {block}: {error:e}");
        }
    }
    let model = model("decoders/gpt2_odd");
    let ids = [3, 1, 4, 1, 5];
    let trace = see(&probe(&model, &[], None), Look::new(&ids));
    let [word, position, all] =
        [Kind::TokEmbed, Kind::PosEmbed, Kind::Embed].map(|kind| &trace.tensors[&Point::new(0, kind)].data);
    let d = model.spec().hidden_size;
    assert_eq!(bits(&word[d..2 * d]), bits(&word[3 * d..4 * d]), "the same id");
    assert_ne!(bits(&position[d..2 * d]), bits(&position[3 * d..4 * d]), "another position");
    let sum: Vec<f32> = word.iter().zip(position).map(|(w, p)| w + p).collect();
    assert!(relative(&sum, all) < 1e-7);
}

/// One head, some tokens, each operation, beside the same arithmetic on the host.
#[test]
fn edits_do_what_they_say() {
    let model = model("decoders/llama_gqa");
    let ids = [3, 1, 4, 1, 5, 9, 2];
    let spec = model.spec();
    let plain = see(&probe(&model, &[], None), Look::new(&ids));
    for kind in [Kind::Q, Kind::K, Kind::V, Kind::Z, Kind::ResidMid, Kind::AttnOut, Kind::MlpOut, Kind::FinalNormalized]
    {
        let point = Point::new(if kind == Kind::FinalNormalized { 0 } else { 1 }, kind);
        let (width, heads) = (point.width(spec), point.heads(spec));
        let (head, columns) = match kind.has_heads() {
            true => (Some(heads - 1), (heads - 1) * width / heads..width),
            false => (None, 0..width),
        };
        let v: Arc<[f32]> = vector(&model, point)[columns.clone()].into();
        let norm = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        for action in [
            Action::Set(v.clone()),
            Action::Add { vector: v.clone(), alpha: -1.5 },
            Action::Scale(0.25),
            Action::Project { vector: v.clone(), alpha: 1.0 },
        ] {
            let edit = Edit { head, ..Edit::new(point, action.clone()).of_tokens(2..5) };
            let seen = see(&probe(&model, &[point], None), Look { edits: &[edit], ..Look::new(&ids) });
            let mut expected = plain.tensors[&point].data.clone();
            for row in expected.chunks_exact_mut(width).skip(2).take(3) {
                let row = &mut row[columns.clone()];
                let along: f64 = row.iter().zip(&*v).map(|(&x, &v)| f64::from(x) * f64::from(v) / norm).sum();
                for (x, &v) in row.iter_mut().zip(&*v) {
                    *x = match action {
                        Action::Set(_) => v,
                        Action::Add { alpha, .. } => *x + alpha * v,
                        Action::Scale(alpha) => *x * alpha,
                        Action::Project { .. } => (f64::from(*x) - along * f64::from(v) / norm) as f32,
                    };
                }
            }
            let error = relative(&seen.tensors[&point].data, &expected);
            assert!(error < 1e-6, "{point} {action:?}: {error:e}");
            let logits = Point::new(0, Kind::Logits);
            assert_ne!(bits(&seen.tensors[&logits].data), bits(&plain.tensors[&logits].data), "{point} {action:?}");
            // tokens in front see nothing of it
            let front = 2 * spec.vocab_size;
            let ahead = |trace: &Trace| bits(&trace.tensors[&logits].data[..front]);
            assert_eq!(ahead(&seen), ahead(&plain), "{point} {action:?}");
        }
    }
}

/// While it writes: a session's logits are those of the whole text with the same edits, beside others as well.
#[test]
fn sessions_are_edited_as_they_write() {
    for name in DECODERS {
        let folder = fixtures(&format!("decoders/{name}"));
        let decoder = Decoder::load_blocking(&GPU, folder).unwrap();
        let model = decoder.model();
        let ids = Expected::open(&format!("decoders/{name}")).ids("ids");
        let block = model.spec().num_hidden_layers - 1;
        let points = [Point::new(block, Kind::ResidPre), Point::new(0, Kind::MlpOut), Point::new(block, Kind::V)];
        let edits: Arc<[Edit]> = Arc::new([
            Edit::new(points[0], Action::Add { vector: vector(model, points[0]), alpha: 0.7 }),
            Edit::new(points[1], Action::Scale(0.5)).of_tokens(ids.len() - 1..ids.len() + 2),
            Edit::new(points[2], Action::Scale(0.0)).of_head(0),
        ]);
        let options =
            |edits: &Arc<[Edit]>| SessionOptions { ignore_eos: true, edits: edits.clone(), ..Default::default() };
        let mut session = decoder.session(options(&edits)).unwrap();
        session.prefill_blocking(&ids).unwrap();
        let mut other = decoder.session(options(&Arc::default())).unwrap();
        other.prefill_blocking(&ids).unwrap();
        let watch = Watch { edits: points.to_vec(), ..Watch::default() };
        let probe = pollster::block_on(Probe::new(model, &Purpose::Score, watch)).unwrap();
        for step in 0..4 {
            let logits = session.logits_blocking().unwrap();
            let look = Look { edits: &edits, ..Look::new(session.tokens()) };
            let whole = probe.run_blocking(&[look]).unwrap().remove(0).output;
            let error = relative(&logits, &whole);
            assert!(error < 5e-5, "{name}, step {step}: {error:e}");
            let unedited = other.logits_blocking().unwrap();
            assert!(relative(&logits, &unedited) > 1e-3, "{name}: the edits change nothing");
            decoder.step_blocking(&mut [&mut other, &mut session]).unwrap();
        }
        // beside the edited one, the other kept its bits
        let mut alone = decoder.session(options(&Arc::default())).unwrap();
        alone.prefill_blocking(&ids).unwrap();
        go_on(&mut alone, 4);
        assert_eq!(alone.tokens(), other.tokens(), "{name}");
        assert_eq!(bits(&alone.logits_blocking().unwrap()), bits(&other.logits_blocking().unwrap()), "{name}");
        // without edits it is the plain one again
        session.truncate(ids.len());
        session.set_edits(Arc::default()).unwrap();
        alone.truncate(ids.len());
        assert_eq!(bits(&session.logits_blocking().unwrap()), bits(&alone.logits_blocking().unwrap()), "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let model = model("decoders/llama_gqa");
    let spec = model.spec();
    let (z, pattern) = (Point::new(0, Kind::Z), Point::new(0, Kind::Pattern));
    let good = vector(&model, z);
    let with = |at: usize, value: f32| {
        let mut bad = good.to_vec();
        bad[at] = value;
        Arc::<[f32]>::from(bad)
    };
    let wrong = [
        Edit::new(Point::new(99, Kind::Z), Action::Scale(0.0)),
        Edit::new(Point::new(0, Kind::Result), Action::Scale(0.0)),
        Edit::new(pattern, Action::Set([0.5, 0.5].into())),
        Edit::new(pattern, Action::Set([0.5, 0.5].into())).of_keys(0..3),
        Edit::new(pattern, Action::Scale(0.0)).of_keys(3..3),
        Edit::new(pattern, Action::Scale(0.0)).of_head(spec.num_attention_heads),
        Edit::new(z, Action::Scale(0.0)).of_keys(0..1),
        Edit::new(Point::new(0, Kind::NormalizedResidMid), Action::Scale(0.0)),
        Edit::new(z, Action::Scale(0.0)).of_head(spec.num_attention_heads),
        Edit::new(Point::new(0, Kind::ResidPre), Action::Scale(0.0)).of_head(0),
        Edit::new(z, Action::Scale(f32::NAN)),
        Edit::new(z, Action::Set(good[1..].into())),
        Edit::new(z, Action::Set(Arc::default())),
        Edit::new(z, Action::Set(with(3, f32::INFINITY))),
        Edit::new(z, Action::Set([&good[..], &good[..]].concat().into())).of_tokens(0..3),
        Edit::new(z, Action::Project { vector: vec![0.0; good.len()].into(), alpha: 1.0 }),
        Edit::new(z, Action::Project { vector: [&good[..], &good[..]].concat().into(), alpha: 1.0 }).of_tokens(0..2),
    ];
    for edit in wrong {
        let error = edit.check(spec).unwrap_err();
        assert!(matches!(error, Error::Input(_)), "{edit:?}: {error}");
    }
    let probe = probe(&model, &[z], None);
    let elsewhere = [Edit::new(Point::new(1, Kind::Z), Action::Scale(0.0))];
    let error = probe.run_blocking(&[Look { edits: &elsewhere, ..Look::new(&[1, 2]) }]).unwrap_err();
    assert!(error.to_string().contains("was not made for edits"), "{error}");
    assert!(probe.run_blocking(&[]).is_err());
    assert!(probe.run_blocking(&[Look { position: 2, ..Look::new(&[1, 2]) }]).is_err());
    assert!(probe.run_blocking(&[Look::new(&[])]).is_err());
}
