//! Edits of attention patterns: what is stored is what attends, what is done to it is what z is made of, in batches, while
//! sessions write, and from one run into another.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, fixtures, relative};
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Edit, Kind, Look, Metric, Place, Point, Probe, Trace, patch_blocking};
use thalweg::{Decoder, Model, SessionOptions, Task};

/// Causal and not, with heads that share keys, windows, soft caps, biases by position, and norms of queries.
const MODELS: [&str; 9] = [
    "decoders/llama_gqa",
    "decoders/gemma2_odd",
    "decoders/gpt2_odd",
    "decoders/mistral_window",
    "decoders/qwen3_norm",
    "models/bert_odd",
    "models/mpnet_odd",
    "models/roberta_odd",
    "decoders/modernbert_odd",
];

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), Default::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn ids(model: &Model, tokens: usize) -> Vec<u32> {
    (0..tokens).map(|i| (i * 7 + 3) as u32 % model.spec().vocab_size as u32).collect()
}

fn patterns(model: &Model) -> Vec<Point> {
    (0..model.spec().num_hidden_layers).map(|block| Point::new(block, Kind::Pattern)).collect()
}

fn probe<'m>(model: &'m Model, edits: &[Point]) -> Probe<'m> {
    let watch = Watch { edits: edits.to_vec(), ..Watch::taps(&Point::of_model(model.spec())) };
    pollster::block_on(Probe::new(model, &Purpose::Trace, watch)).unwrap()
}

fn see(probe: &Probe<'_>, look: Look<'_>) -> Trace {
    probe.run_blocking(&[look]).unwrap().remove(0).trace
}

/// The edits that put a run's pattern back, head by head.
fn put(model: &Model, trace: &Trace, point: Point) -> Vec<Edit> {
    let (heads, tokens) = (point.heads(model.spec()), trace.ids.len());
    let all = &trace.tensors[&point].data;
    let own = |head: usize| Action::Set(all[head * tokens * tokens..(head + 1) * tokens * tokens].into());
    let of = |head| Edit::new(point, own(head)).of_head(head).of_tokens(0..tokens).of_keys(0..tokens);
    (0..heads).map(of).collect()
}

/// A stored pattern is summed in another order than attention's, so that nothing is the same to the bit; what is edited with
/// nothing, and set to what it is, are the same beside each other.
#[test]
fn a_stored_pattern_attends_as_attention_does() {
    for name in MODELS {
        let model = model(name);
        let ids = ids(&model, 21);
        let plain = see(&probe(&model, &[]), Look::new(&ids));
        let edited = probe(&model, &patterns(&model));
        let stored = see(&edited, Look::new(&ids));
        for (point, tensor) in &plain.tensors {
            let error = relative(&stored.tensors[point].data, &tensor.data);
            assert!(error < 1e-5, "{name}: {point}: {error:e}");
        }
        let edits: Vec<Edit> = patterns(&model).into_iter().flat_map(|point| put(&model, &stored, point)).collect();
        let again = see(&edited, Look { edits: &edits, ..Look::new(&ids) });
        for (point, tensor) in &stored.tensors {
            assert_eq!(bits(&again.tensors[point].data), bits(&tensor.data), "{name}: {point}");
        }
    }
}

/// Each operation, of a head and of all, beside the same arithmetic on the host; z is the edited pattern times the values.
#[test]
fn edits_do_what_they_say() {
    for name in MODELS {
        let model = model(name);
        let (spec, ids) = (model.spec(), ids(&model, 9));
        let tokens = ids.len();
        let point = Point::new(1, Kind::Pattern);
        let (heads, size) = (spec.num_attention_heads, spec.head_size);
        let group = heads / spec.num_key_value_heads;
        let causal = spec.blocks[1].mask.after == 0;
        let edited = probe(&model, &[point]);
        let plain = see(&edited, Look::new(&ids));
        let v: Arc<[f32]> = [0.5, -1.25, 2.0, 0.25].into();
        let norm = v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        for (head, action) in [
            (None, Action::Set(v.clone())),
            (Some(heads - 1), Action::Set([&v[..], &v, &v].concat().into())),
            (Some(0), Action::Add { vector: v.clone(), alpha: -1.5 }),
            (None, Action::Scale(0.0)),
            (Some(heads - 1), Action::Project { vector: v.clone(), alpha: 1.0 }),
        ] {
            // queries 3 to 5, keys 2 to 5
            let edit = Edit { head, ..Edit::new(point, action.clone()).of_tokens(3..6).of_keys(2..6) };
            let seen = see(&edited, Look { edits: &[edit], ..Look::new(&ids) });
            let mut expected = plain.tensors[&point].data.clone();
            for head in (0..heads).filter(|h| head.is_none_or(|head| head == *h)) {
                for query in 3..6 {
                    let row = &mut expected[(head * tokens + query) * tokens..][..tokens];
                    let own = &mut row[2..if causal { query + 1 } else { 6 }];
                    let along: f64 = own.iter().zip(&*v).map(|(&x, &v)| f64::from(x) * f64::from(v) / norm).sum();
                    for (x, &v) in own.iter_mut().zip(&*v) {
                        *x = match action {
                            Action::Set(_) => v,
                            Action::Add { alpha, .. } => *x + alpha * v,
                            Action::Scale(alpha) => *x * alpha,
                            Action::Project { .. } => (f64::from(*x) - along * f64::from(v) / norm) as f32,
                        };
                    }
                }
            }
            let error = relative(&seen.tensors[&point].data, &expected);
            assert!(error < 1e-6, "{name}, {action:?}: {error:e}");
            let values = &seen.tensors[&Point::new(1, Kind::V)].data;
            let mut z = vec![0.0; tokens * heads * size];
            for (i, z) in z.iter_mut().enumerate() {
                let (token, head, d) = (i / heads / size, i / size % heads, i % size);
                let value = |key: usize| values[(key * spec.num_key_value_heads + head / group) * size + d];
                let weight = |key: usize| expected[(head * tokens + token) * tokens + key];
                *z = (0..tokens).map(|key| f64::from(weight(key)) * f64::from(value(key))).sum::<f64>() as f32;
            }
            let error = relative(&seen.tensors[&Point::new(1, Kind::Z)].data, &z);
            assert!(error < 2e-6, "{name}, {action:?}: z {error:e}");
            let last = Point::new(spec.num_hidden_layers - 1, Kind::ResidPost);
            assert!(relative(&seen.tensors[&last].data, &plain.tensors[&last].data) > 1e-4, "{name}, {action:?}");
        }
    }
}

/// What PyTorch gave with the same edits made to its softmax: `tests/against/patterns.py --write`.
#[test]
fn beside_pytorch() {
    let said = std::fs::read(fixtures("patterns.json")).unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let list = |value: &serde_json::Value| -> Vec<usize> {
        value.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as usize).collect()
    };
    let ids: Vec<u32> = list(&said["ids"]).into_iter().map(|id| id as u32).collect();
    for (name, stream) in said["streams"].as_object().unwrap() {
        let model = model(name);
        let edits = said["edits"].as_array().unwrap().iter().map(|edit| {
            let point = Point::new(edit["block"].as_u64().unwrap() as usize, Kind::Pattern);
            let alpha = edit["alpha"].as_f64().unwrap_or(1.0) as f32;
            let vector: Option<Arc<[f32]>> =
                edit["vector"].as_array().map(|v| v.iter().map(|x| x.as_f64().unwrap() as f32).collect());
            let action = match (edit["op"].as_str().unwrap(), vector) {
                ("set", Some(vector)) => Action::Set(vector),
                ("add", Some(vector)) => Action::Add { vector, alpha },
                _ => Action::Scale(alpha),
            };
            let [tokens, keys] = [&edit["tokens"], &edit["keys"]].map(|range| list(range)[0]..list(range)[1]);
            let head = edit["head"].as_u64().map(|head| head as usize);
            Edit { head, ..Edit::new(point, action).of_tokens(tokens).of_keys(keys) }
        });
        let edits: Vec<Edit> = edits.collect();
        let block = model.spec().num_hidden_layers - 1;
        let post = model.spec().placement == thalweg::model::Placement::Post;
        let last = Point::new(block, if post { Kind::NormalizedResidPost } else { Kind::ResidPost });
        let seen = see(&probe(&model, &patterns(&model)), Look { edits: &edits, ..Look::new(&ids) });
        let expected: Vec<f32> = stream.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
        let error = relative(&seen.tensors[&last].data, &expected);
        assert!(error < 2e-5, "{name}: {error:e}");
    }
}

/// Beside others of other lengths, each has the bits that it has alone.
#[test]
fn several_in_one_batch() {
    for name in ["decoders/llama_gqa", "models/bert_odd"] {
        let model = model(name);
        let [long, short] = [37, 6].map(|tokens| ids(&model, tokens));
        let points = patterns(&model);
        let probe = probe(&model, &points);
        let edits = [
            Edit::new(points[1], Action::Scale(0.0)).of_keys(0..1),
            Edit::new(points[0], Action::Set([0.25; 4].into())).of_head(1).of_tokens(4..9).of_keys(1..5),
        ];
        let looks =
            [Look { edits: &edits, ..Look::new(&short) }, Look::new(&long), Look { edits: &edits, ..Look::new(&long) }];
        let together = probe.run_blocking(&looks).unwrap();
        for (look, together) in looks.into_iter().zip(together) {
            let alone = see(&probe, look);
            for (point, tensor) in &alone.tensors {
                assert_eq!(together.trace.tensors[point].shape, tensor.shape, "{name}: {point}");
                assert_eq!(bits(&together.trace.tensors[point].data), bits(&tensor.data), "{name}: {point}");
            }
        }
    }
}

/// While it writes: a session's logits are those of the whole text with the same edits, however far it is.
#[test]
fn sessions_are_edited_as_they_write() {
    for name in ["llama_gqa", "gemma2_odd", "gpt2_odd", "mistral_window"] {
        let decoder = Decoder::load_blocking(&GPU, fixtures(&format!("decoders/{name}"))).unwrap();
        let model = decoder.model();
        let ids = Expected::open(&format!("decoders/{name}")).ids("ids");
        let points = patterns(model);
        let edits: Arc<[Edit]> = Arc::new([
            // the first key is no longer seen by what comes later
            Edit::new(points[0], Action::Scale(0.0)).of_keys(0..1).of_tokens(2..usize::MAX),
            Edit::new(points[1], Action::Set([0.5, 0.25].into()))
                .of_head(0)
                .of_tokens(ids.len() - 1..ids.len() + 2)
                .of_keys(1..3),
        ]);
        let options =
            |edits: &Arc<[Edit]>| SessionOptions { ignore_eos: true, edits: edits.clone(), ..Default::default() };
        let mut session = decoder.session(options(&edits)).unwrap();
        session.prefill_blocking(&ids).unwrap();
        let mut other = decoder.session(options(&Arc::default())).unwrap();
        other.prefill_blocking(&ids[..ids.len() - 2]).unwrap();
        let watch = Watch { edits: points.clone(), ..Watch::default() };
        let probe = pollster::block_on(Probe::new(model, &Purpose::Score, watch)).unwrap();
        for step in 0..4 {
            let logits = session.logits_blocking().unwrap();
            let whole = |edits| {
                let look = Look { edits, ..Look::new(session.tokens()) };
                probe.run_blocking(&[look]).unwrap().remove(0).output
            };
            let error = relative(&logits, &whole(&edits));
            assert!(error < 5e-5, "{name}, step {step}: {error:e}");
            assert!(relative(&logits, &whole(&[])) > 1e-4, "{name}: the edits change nothing");
            // beside one that is not edited
            let logits = other.logits_blocking().unwrap();
            let look = Look::new(other.tokens());
            let error = relative(&logits, &probe.run_blocking(&[look]).unwrap()[0].output);
            assert!(error < 5e-5, "{name}, step {step}, not edited: {error:e}");
            decoder.step_blocking(&mut [&mut other, &mut session]).unwrap();
        }
    }
}

/// A run's own pattern brings nothing; with the other's in every block, and its stream, it is the other.
#[test]
fn patterns_are_patched_between_runs() {
    let model = model("decoders/llama_gqa");
    let clean = ids(&model, 11);
    let mut corrupted = clean.clone();
    corrupted[4] += 1;
    let metric = Metric::Logit { target: 7, against: Some(3), position: 10 };
    let places = Place::all(&[Kind::Pattern], model.spec(), clean.len());
    assert_eq!(places.len(), model.spec().num_hidden_layers * model.spec().num_attention_heads);
    let found = patch_blocking(&model, &clean, &corrupted, &metric, &places, &Task::default()).unwrap();
    // the same, one edit at a time
    let trace = see(&probe(&model, &[]), Look::new(&clean));
    let watch = Watch { edits: patterns(&model), ..Watch::default() };
    let score = pollster::block_on(Probe::new(&model, &Purpose::Score, watch)).unwrap();
    for (place, value) in places.iter().zip(&found.values) {
        let edit = put(&model, &trace, place.point).remove(place.head.unwrap());
        let look = Look { edits: &[edit], ..Look::new(&corrupted) };
        let logits = score.run_blocking(&[look]).unwrap().remove(0).output;
        let alone = f64::from(logits[7]) - f64::from(logits[3]);
        assert!((alone - value).abs() < 1e-5, "{place:?}: {value} instead of {alone}");
    }
    let most = found.shares().into_iter().fold(0.0, |most: f64, share| most.max(share.abs()));
    assert!(most > 1e-3, "nothing is brought back by any pattern");
    let whole = Place { head: None, ..places[0] };
    assert!(patch_blocking(&model, &clean, &corrupted, &metric, &[whole], &Task::default()).is_err());
}
