//! Edits in files, and steering: what is saved comes back, what is added is what was taken, and what cannot be is refused.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{GPU, bits, decoder, fixtures, relative};
use thalweg::stream::{Action, Edit, Kind, Over, Point, Steering, load_edits, save_edits};
use thalweg::{Dtype, Error, Model, SessionOptions};

fn model(folder: &str) -> Model {
    Model::load_blocking(&GPU, fixtures(folder), Default::default()).unwrap_or_else(|e| panic!("{folder}: {e}"))
}

fn prompts(model: &Model, step: u32) -> Vec<Vec<u32>> {
    let vocabulary = model.spec().vocab_size as u32;
    (0..3).map(|n| (0..5 + n).map(|i| (i * step + n + 3) % vocabulary).collect()).collect()
}

#[test]
fn edits_come_back_as_they_were() {
    let model = model("decoders/llama_gqa");
    let spec = model.spec();
    let v: Arc<[f32]> = (0..52).map(|i| (i as f32 * 0.7).sin() / 3.0).collect();
    let head: Arc<[f32]> = (0..3 * 18).map(|i| 1e-30 * i as f32).collect();
    let edits = vec![
        Edit::new(Point::new(0, Kind::Embed), Action::Scale(0.1)),
        Edit::new(Point::new(1, Kind::ResidPost), Action::Add { vector: v.clone(), alpha: -2.5 }).of_tokens(2..9),
        Edit::new(Point::new(2, Kind::MlpOut), Action::Project { vector: v.clone(), alpha: 0.25 }),
        Edit::new(Point::new(2, Kind::Z), Action::Set(head)).of_head(3).of_tokens(1..4),
        Edit::new(Point::new(0, Kind::FinalNormalized), Action::Set(v)),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edits.json");
    save_edits(&path, &edits).unwrap();
    assert_eq!(load_edits(&path, spec).unwrap(), edits);
    // and they do the same
    let ids: Vec<u32> = (0..9).collect();
    let last = Point::new(2, Kind::ResidPost);
    let plain = model.trace_blocking(&ids, &[last]).unwrap();
    let edited = model.trace_edited_blocking(&ids, &[last], &edits).unwrap();
    let again = model.trace_edited_blocking(&ids, &[last], &load_edits(&path, spec).unwrap()).unwrap();
    assert_eq!(bits(&edited.tensors[&last].data), bits(&again.tensors[&last].data));
    assert!(relative(&edited.tensors[&last].data, &plain.tensors[&last].data) > 1e-2);
}

#[test]
fn vectors_may_stand_in_a_file_beside() {
    let model = model("decoders/llama_gqa");
    let point = Point::new(1, Kind::ResidPost);
    let vectors: Arc<[f32]> = (0..52).map(|i| i as f32).collect();
    let folder = tempfile::tempdir().unwrap();
    let steering = Steering { vectors: [(point, vectors.clone())].into(), fingerprint: "x".into() };
    steering.save(&folder.path().join("v.safetensors"), &[]).unwrap();
    let path = folder.path().join("edits.json");
    let edit = |more: &str| format!(r#"{{"edits":[{{"point":"blocks.1.hook_resid_post","op":"add"{more}}}]}}"#);
    let load = |text: &str| {
        fs::write(&path, text).unwrap();
        load_edits(&path, model.spec())
    };
    let there = r#","vector":{"file":"v.safetensors","tensor":"blocks.1.hook_resid_post"}"#;
    let expected = Edit::new(point, Action::Add { vector: vectors, alpha: 1.0 });
    assert_eq!(load(&edit(there)).unwrap(), vec![expected.clone()]);
    assert_eq!(load(&edit(&format!(r#"{there},"tokens":"all","head":null"#))).unwrap(), vec![expected]);
    // a tensor of logits has rows
    let z = fixtures("decoders/llama_gqa/expected.safetensors");
    let row = |row| {
        format!(
            r#"{{"edits":[{{"point":"blocks.0.hook_mlp_out","op":"set","vector":
                {{"file":{z:?},"tensor":"blocks.0.hook_mlp_out","row":{row}}}}}]}}"#
        )
    };
    let Action::Set(found) = &load(&row(2)).unwrap()[0].action else { panic!("not set") };
    let all = common::Expected::open("decoders/llama_gqa").f32("blocks.0.hook_mlp_out");
    assert_eq!(bits(found), bits(&all[2 * 52..3 * 52]));

    let refused = |text: &str, part: &str| {
        let error = load(text).expect_err(text);
        assert!(matches!(error, Error::File { .. } | Error::Input(_)), "{error}");
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    };
    refused("", "list of edits");
    refused(r#"{"edits":[],"more":1}"#, "more");
    refused(&edit(""), "edit 0: add and project take a vector");
    refused(&edit(r#","vector":[1,2]"#), "2 numbers");
    refused(&edit(r#","vector":[1e39]"#), "hook_resid_post");
    refused(&edit(r#","vector":[1],"tokens":[3,3]"#), "no token from 3 to 3");
    refused(&edit(r#","vector":[1],"tokens":"some""#), "`some`");
    refused(&edit(r#","vector":{"file":"v.safetensors","tensor":"w"}"#), "no tensor `w`");
    refused(&row(100_000), "no row 100000");
    let edit = |point: &str, rest: &str| format!(r#"{{"edits":[{{"point":"{point}","op":{rest}}}]}}"#);
    refused(&edit("resid_post", r#""scale","alpha":0"#), "`resid_post`");
    refused(&edit("blocks.9.hook_resid_post", r#""scale","alpha":0"#), "blocks.9.hook_resid_post");
    refused(&edit("hook_embed", r#""scale""#), "scale takes alpha");
    refused(&edit("hook_embed", r#""set","alpha":2,"vector":[1]"#), "set takes a vector");
    refused(&edit("hook_embed", r#""turn","alpha":2"#), "turn");
    refused(&edit("hook_embed", r#""scale","alpha":1,"head":1"#), "head 1");
    assert!(matches!(load_edits(Path::new("/nosuch.json"), model.spec()), Err(Error::Io { .. })));
}

/// Beside the same sums over traces.
#[test]
fn a_steering_vector_is_the_difference_of_means() {
    for name in ["decoders/llama_gqa", "models/bert_odd", "decoders/gemma2_odd"] {
        let model = model(name);
        let points = [Point::new(0, Kind::ResidPost), Point::new(1, Kind::MlpOut)];
        let (positive, negative) = (prompts(&model, 7), prompts(&model, 5));
        for over in [Over::Last, Over::Mean] {
            let steering = Steering::between_blocking(&model, &positive, &negative[..2], &points, over).unwrap();
            for point in points {
                let width = point.width(model.spec());
                let mean = |prompts: &[Vec<u32>]| {
                    let mut mean = vec![0.0; width];
                    for ids in prompts {
                        let trace = model.trace_blocking(ids, &[point]).unwrap();
                        let rows: Vec<_> = trace.tensors[&point].data.chunks_exact(width).collect();
                        let counted = if over == Over::Last { &rows[rows.len() - 1..] } else { &rows[..] };
                        for row in counted {
                            let weight = 1.0 / (prompts.len() * counted.len()) as f64;
                            mean.iter_mut().zip(*row).for_each(|(m, &x)| *m += weight * f64::from(x));
                        }
                    }
                    mean
                };
                let (a, b) = (mean(&positive), mean(&negative[..2]));
                let expected: Vec<f32> = a.iter().zip(b).map(|(a, b)| (a - b) as f32).collect();
                assert!(relative(&steering.vectors[&point], &expected) < 1e-6, "{name} {point}");
            }
        }
        let none = Steering::between_blocking(&model, &positive, &[], &points, Over::Last);
        assert!(matches!(none, Err(Error::Input(_))));
        let pattern = [Point::new(0, Kind::Pattern)];
        assert!(Steering::between_blocking(&model, &positive, &negative, &pattern, Over::Last).is_err());
    }
}

#[test]
fn steering_while_writing() {
    let decoder = decoder(&GPU, "llama_gqa", Dtype::Auto);
    let model = decoder.model();
    let points: Vec<_> = (0..3).map(|block| Point::new(block, Kind::ResidPost)).collect();
    let steering =
        Steering::between_blocking(model, &prompts(model, 7), &prompts(model, 5), &points, Over::Mean).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.safetensors");
    steering.save(&path, &[("model", "llama")]).unwrap();
    let opened = Steering::open(&path).unwrap();
    assert_eq!(opened, steering);
    assert_eq!(opened.fingerprint, model.fingerprint());
    let ids = [3, 1, 4, 1, 5];
    let logits = |edits: Vec<Edit>| {
        let options = SessionOptions { edits: edits.into(), ..Default::default() };
        let mut session = decoder.session(options).unwrap();
        session.prefill_blocking(&ids).unwrap();
        session.logits_blocking().unwrap()
    };
    let plain = logits(Vec::new());
    assert_eq!(bits(&logits(opened.edits(model.spec(), 1, 0.0).unwrap())), bits(&plain), "zero is none at all");
    let steered = logits(opened.edits(model.spec(), 1, 4.0).unwrap());
    assert!(relative(&steered, &plain) > 1e-2);
    // the same as adding it by hand
    let vector = steering.vectors[&points[1]].clone();
    let by_hand = logits(vec![Edit::new(points[1], Action::Add { vector, alpha: 4.0 })]);
    assert_eq!(bits(&steered), bits(&by_hand));

    let error = opened.edits(model.spec(), 7, 1.0).unwrap_err().to_string();
    assert!(error.contains("block 7") && error.contains("blocks.2.hook_resid_post"), "{error}");
    // a single vector goes into any block
    let one = Steering { vectors: [(points[2], steering.vectors[&points[2]].clone())].into(), ..steering.clone() };
    assert_eq!(one.edits(model.spec(), 0, 1.0).unwrap()[0].point, points[0]);
    // of another width
    let other = self::model("decoders/gpt2_odd");
    let error = opened.edits(other.spec(), 1, 1.0).unwrap_err();
    assert!(matches!(&error, Error::Input(what) if what.contains("52 numbers") && what.contains("30")), "{error}");
    assert!(opened.edits(model.spec(), 1, f32::INFINITY).is_err());
    let error = Steering::open(&fixtures("decoders/llama_gqa/expected.safetensors")).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}
