//! The logit lens against Hugging Face with PyTorch hooks, and what must hold of it whatever a model says.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, fixtures, load, relative};
use thalweg::files::Checkpoint;
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Action, Distribution, Edit, Kind, Lens, LensView, Look, Point, Probe, Reading};
use thalweg::{CancelToken, Dtype, Error, LoadOptions, Model, Task};

/// Fixtures with logits, and their folders.
const MODELS: [(&str, &str); 10] = [
    ("gpt2_odd", "decoders"),
    ("llama_gqa", "decoders"),
    ("gemma2_odd", "decoders"),
    ("neox_parallel", "decoders"),
    ("olmo2_odd", "decoders"),
    ("modernbert_odd", "decoders"),
    ("bert_prefixed", "models"),
    ("roberta_odd", "models"),
    ("distilbert_masked", "lens"),
    ("mpnet_masked", "lens"),
];

fn model(folder: &str) -> Model {
    let options = LoadOptions { dtype: Dtype::Auto, ..Default::default() };
    Model::load_blocking(&GPU, fixtures(folder), options).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn expected(name: &str) -> Expected {
    Expected(Checkpoint::open_file(&fixtures("lens").join(format!("{name}.safetensors"))).unwrap())
}

fn read(lens: &Lens<'_>, ids: &[u32], edits: &[Edit], token: Option<u32>) -> LensView {
    lens.read_blocking(ids, edits, token, &Task::default()).unwrap()
}

/// All readings, row by row.
fn distributions(view: &LensView) -> Vec<&Distribution> {
    fn of(reading: &Reading) -> &Distribution {
        match reading {
            Reading::Distribution(distribution) => distribution,
            other => panic!("{other:?}"),
        }
    }
    view.rows.iter().flat_map(|row| &row.positions).map(of).collect()
}

fn numbers(view: &LensView, number: fn(&Distribution) -> f32) -> Vec<f32> {
    distributions(view).into_iter().map(number).collect()
}

/// Top-5, entropy, divergence and ranks at every block and position.
#[test]
fn hugging_face_says_the_same() {
    for (name, folder) in MODELS {
        let (model, expected) = (model(&format!("{folder}/{name}")), expected(name));
        let (ids, target) = (expected.ids("ids"), expected.ids("target")[0]);
        let lens = Lens::new_blocking(&model, 5, &[]).unwrap();
        let view = read(&lens, &ids, &[], None);
        let blocks = model.spec().num_hidden_layers;
        assert_eq!(view.rows.len(), blocks + 1);
        assert!((0..blocks).all(|l| view.rows[l].point == Point::new(l, Kind::ResidPre)), "{name}");
        let readings = distributions(&view);
        assert_eq!(readings.len(), (blocks + 1) * ids.len());
        let top: Vec<u32> = readings.iter().flat_map(|r| r.top.iter().map(|guess| guess.id)).collect();
        assert_eq!(top, expected.ids("top_ids"), "{name}");
        let p: Vec<f32> = readings.iter().flat_map(|r| r.top.iter().map(|guess| guess.p)).collect();
        for (what, found) in [
            ("top_p", p),
            ("entropy", numbers(&view, |reading| reading.entropy)),
            ("kl", numbers(&view, |reading| reading.kl)),
        ] {
            let error = relative(&found, &expected.f32(what));
            println!("{name} {what}: {error:.1e}");
            assert!(error < 2e-5, "{name} {what}: {error:e}");
        }
        let ranks = |view: &LensView| -> Vec<u32> { distributions(view).iter().filter_map(|r| r.rank).collect() };
        assert_eq!(ranks(&view), expected.ids("rank"), "{name}");
        let aimed = read(&lens, &ids, &[], Some(target));
        assert_eq!(ranks(&aimed), expected.ids("rank_of_target"), "{name}");
        assert!(distributions(&aimed).iter().all(|reading| reading.token == Some(target)));
        // the last row is what the model itself says
        let last = &readings[blocks * ids.len()..];
        assert!(last.iter().all(|r| r.kl == 0.0 && r.rank == Some(0) && r.token == Some(r.top[0].id)), "{name}");
    }
}

/// Rows that begin behind the last block have the bits of the whole forward's logits.
#[test]
fn the_last_row_is_the_models_own() {
    for (name, folder) in MODELS {
        let (model, expected) = (model(&format!("{folder}/{name}")), expected(name));
        let (ids, blocks) = (expected.ids("ids"), model.spec().num_hidden_layers);
        let lens = Lens::new_blocking(&model, 1, &[]).unwrap();
        let last = read(&lens, &ids, &[], None).rows[blocks].clone();
        let logits = Point::new(0, Kind::Logits);
        let trace = model.trace_blocking(&ids, &[last.point, logits]).unwrap();
        let whole = &trace.tensors[&logits].data;
        assert!(relative(whole, &expected.f32("logits")) < 2e-5, "{name}");
        let watch = Watch { from: Some(blocks), ..Watch::taps(&[logits]) };
        let probe = pollster::block_on(Probe::new(&model, &Purpose::Trace, watch)).unwrap();
        let look = Look { stream: Some(&trace.tensors[&last.point].data), ..Look::new(&ids) };
        let rest = probe.run_blocking(&[look]).unwrap().remove(0).trace;
        assert_eq!(bits(&rest.tensors[&logits].data), bits(whole), "{name}");
        for (row, reading) in whole.chunks_exact(model.spec().vocab_size).zip(&last.positions) {
            let Reading::Distribution(reading) = reading else { panic!("{reading:?}") };
            let (mut likeliest, mut sum) = (0, 0.0);
            for (id, &x) in row.iter().enumerate() {
                likeliest = if x > row[likeliest] { id } else { likeliest };
                sum += f64::from(x).exp();
            }
            let p = f64::from(row[likeliest]).exp() / sum;
            assert_eq!(reading.top[0].id as usize, likeliest, "{name}");
            assert!(
                (f64::from(reading.top[0].p) / p - 1.0).abs() < 2e-6,
                "{name}: {} instead of {p}",
                reading.top[0].p
            );
        }
    }
}

/// How many rows are read together, and what else is in the text behind a token, is of no consequence.
#[test]
fn chunks_do_not_matter() {
    for name in ["gemma2_odd", "gpt2_odd"] {
        let model = model(&format!("decoders/{name}"));
        let ids = expected(name).ids("ids");
        let lens = Lens::new_blocking(&model, 7, &[]).unwrap();
        let view = read(&lens, &ids, &[], Some(5));
        for rows in [2, 3, 5, 8] {
            let lens = Lens::new_blocking(&model, 7, &[]).unwrap().rows_together(rows);
            assert_eq!(read(&lens, &ids, &[], Some(5)), view, "{name}, {rows} rows");
        }
        let shorter = read(&lens, &ids[..4], &[], Some(5));
        for (a, b) in shorter.rows.iter().zip(&view.rows) {
            assert_eq!(a.positions, b.positions[..4], "{name}");
        }
    }
}

/// Encoders without a head: the cosine with the final row, behind the final norm where there is one.
#[test]
fn encoders_without_a_head_have_cosines() {
    let cosines = |view: LensView| -> Vec<f32> {
        let of = |reading: &Reading| match reading {
            Reading::Cosine(cosine) => *cosine,
            other => panic!("{other:?}"),
        };
        view.rows.iter().flat_map(|row| &row.positions).map(of).collect()
    };
    let encoder = load(&GPU, fixtures("decoders/modernbert_odd"), Dtype::Auto).unwrap();
    for (name, model) in [("bert_odd", &model("models/bert_odd")), ("modernbert_odd", encoder.model())] {
        let expected = expected(&format!("{name}.cosines"));
        let lens = Lens::new_blocking(model, 5, &[]).unwrap();
        let found = cosines(read(&lens, &expected.ids("ids"), &[], None));
        let error = relative(&found, &expected.f32("cosine"));
        assert!(error < 1e-5, "{name}: {error:e}");
    }
}

/// Vectors need no head: an encoder leaves it in the folder, and a model that is to be looked into loads it.
#[test]
fn encoders_do_not_load_the_head() {
    for (name, vocabulary) in [("models/roberta_odd", 1), ("models/bert_prefixed", 1), ("decoders/modernbert_odd", 1)] {
        let (encoder, model) = (load(&GPU, fixtures(name), Dtype::F32).unwrap(), model(name));
        let has = |model: &Model| model.spec().has_logits();
        assert!(has(&model) && !has(encoder.model()), "{name}");
        let spec = model.spec();
        let least = 4 * (spec.hidden_size * spec.hidden_size + vocabulary * spec.vocab_size) as u64;
        let whole = Model::load_blocking(&GPU, fixtures(name), LoadOptions { dtype: Dtype::F32, ..Default::default() });
        let more = whole.unwrap().weight_bytes() - encoder.model().weight_bytes();
        // the dense layer, its bias and norm, and the decoder's bias: the word table is there already
        assert!((least..least + 4 * (8 * spec.hidden_size) as u64).contains(&more), "{name}: {more} bytes");
    }
}

/// Edits are seen from their block on.
#[test]
fn edits_are_seen() {
    let model = model("decoders/llama_gqa");
    let ids = expected("llama_gqa").ids("ids");
    let blocks = model.spec().num_hidden_layers;
    let point = Point::new(blocks - 1, Kind::AttnOut);
    let lens = Lens::new_blocking(&model, 3, &[point]).unwrap();
    let plain = read(&lens, &ids, &[], None);
    assert_eq!(plain, read(&Lens::new_blocking(&model, 3, &[]).unwrap(), &ids, &[], None));
    assert_eq!(plain, read(&lens, &ids, &[Edit::new(point, Action::Scale(1.0))], None));
    let edited = read(&lens, &ids, &[Edit::new(point, Action::Scale(0.0)).of_tokens(2..3)], None);
    let entropies = |view: &LensView, row: usize| -> Vec<u32> {
        let count = view.ids.len();
        distributions(view)[row * count..(row + 1) * count].iter().map(|r| r.entropy.to_bits()).collect()
    };
    assert!((0..blocks).all(|row| entropies(&edited, row) == entropies(&plain, row)));
    let (a, b) = (entropies(&edited, blocks), entropies(&plain, blocks));
    let changed: Vec<_> = (0..ids.len()).filter(|&i| a[i] != b[i]).collect();
    assert_eq!(changed, [2]);
}

/// What is no number is told: NaN and no tokens in its row, no divergence from it in the others of its position.
#[test]
fn what_is_no_number_shows() {
    for name in ["models/bert_prefixed", "models/roberta_odd"] {
        let model = model(name);
        let last = Point::new(model.spec().num_hidden_layers - 1, Kind::NormalizedResidPost);
        let lens = Lens::new_blocking(&model, 3, &[last]).unwrap();
        let huge: Arc<[f32]> = (0..model.spec().hidden_size).map(|i| if i % 2 == 0 { 3e38 } else { -3e38 }).collect();
        let edit = Edit::new(last, Action::Set(huge)).of_tokens(1..2);
        let (ids, edits) = ([7, 8, 9], [edit]);
        let (view, plain) = (read(&lens, &ids, &edits, None), read(&lens, &ids, &[], None));
        let (found, plain) = (distributions(&view), distributions(&plain));
        for (i, (found, plain)) in found.iter().zip(&plain).enumerate() {
            if i % 3 != 1 {
                assert_eq!(found, plain, "{name}");
                continue;
            }
            assert!(found.kl.is_nan() && found.token.is_none() && found.rank.is_none(), "{name}: {found:?}");
            if i / 3 == view.rows.len() - 1 {
                assert!(found.entropy.is_nan() && found.top.is_empty(), "{name}: {found:?}");
            } else {
                assert_eq!((found.entropy.to_bits(), &found.top), (plain.entropy.to_bits(), &plain.top), "{name}");
            }
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let model = model("decoders/llama_gqa");
    let (logits, spec) = (Point::new(0, Kind::Logits), model.spec());
    let input = |error: Error| assert!(matches!(error, Error::Input(_)), "{error}");
    input(Lens::new_blocking(&model, 65, &[]).err().unwrap());
    input(Lens::new_blocking(&model, 5, &[logits]).err().unwrap());
    input(Lens::new_blocking(&model, 5, &[Point::new(99, Kind::Z)]).err().unwrap());
    let lens = Lens::new_blocking(&model, 64, &[]).unwrap();
    let read = |ids: &[u32], token, task: &Task| lens.read_blocking(ids, &[], token, task);
    let beyond = spec.vocab_size as u32;
    input(read(&[1, 2], Some(beyond), &Task::default()).unwrap_err());
    input(read(&[1, beyond], None, &Task::default()).unwrap_err());
    input(read(&[], None, &Task::default()).unwrap_err());
    let cancel = CancelToken::new();
    cancel.cancel();
    let stopped = read(&[1, 2], None, &Task { cancel, progress: None });
    assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
    assert!(read(&[1, 2], Some(beyond - 1), &Task::default()).is_ok());
}
