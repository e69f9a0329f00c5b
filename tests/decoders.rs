//! Language models of every family against Hugging Face, whose results are in `tests/fixtures/decoders`: every point of the
//! stream, logits, and 64 greedy tokens, however the prompt is cut.

mod common;

use std::path::PathBuf;

use common::{Expected, GPU, bits, decoder, fixtures, go_on, published, relative, session};
use thalweg::files::Checkpoint;
use thalweg::schedule::Choices;
use thalweg::stream::{Kind, Point};
use thalweg::{Decoder, Dtype, LoadOptions, Model};

/// Largest relative error of any stream point, and of logits.
const TOLERANCE: f64 = 2e-5;

/// Of the same prompt, however it is cut.
const CUT_TOLERANCE: f64 = 1e-5;

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(fixtures("decoders")).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let mut names: Vec<_> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 21);
    names
}

fn generating() -> Vec<String> {
    names().into_iter().filter(|name| name != "modernbert_odd").collect()
}

fn model(name: &str, dtype: Dtype) -> Model {
    let options = LoadOptions { dtype, ..Default::default() };
    Model::load_blocking(&GPU, fixtures(&format!("decoders/{name}")), options).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn expected(name: &str) -> Expected {
    Expected::open(&format!("decoders/{name}"))
}

#[test]
fn every_point_of_the_stream_is_hugging_faces() {
    for name in names() {
        let expected = expected(&name);
        for dtype in [Dtype::Auto, Dtype::F32] {
            let model = model(&name, dtype);
            let points = published(model.spec());
            let trace = model.trace_blocking(&expected.ids("ids"), &points).unwrap();
            assert_eq!(trace.tensors.len(), points.len());
            for (point, tensor) in &trace.tensors {
                let point_name = point.to_string();
                assert_eq!(tensor.shape, expected.shape(&point_name), "{name}: {point}");
                let error = relative(&tensor.data, &expected.f32(&point_name));
                assert!(error <= TOLERANCE, "{name} {dtype:?}: {point}: relative error {error:e}");
            }
            // nothing that Hugging Face's stream has is left out
            let theirs = expected.0.names().filter(|n| n.starts_with("blocks.") || n.contains("hook_")).count();
            let long = expected.0.names().filter(|n| n.starts_with("long.") || n.starts_with("many.")).count();
            let ours = points.iter().filter(|point| point.kind != Kind::Logits).count();
            assert!(theirs - long <= ours, "{name}: {theirs} - {long} points there, {ours} here");
        }
    }
}

#[test]
fn longer_prompts_too() {
    for (name, prefix) in [("llama_dynamic", "long"), ("phi3_longrope", "long"), ("llama_gqa", "many")] {
        let expected = expected(name);
        let model = model(name, Dtype::Auto);
        let kinds = [Kind::ResidPost, Kind::FinalNormalized, Kind::Logits];
        let points: Vec<_> = Point::of_model(model.spec()).into_iter().filter(|p| kinds.contains(&p.kind)).collect();
        let trace = model.trace_blocking(&expected.ids(&format!("{prefix}.ids")), &points).unwrap();
        let rows = expected.has(&format!("{prefix}.rows")).then(|| expected.ids(&format!("{prefix}.rows")));
        for (point, tensor) in &trace.tensors {
            let width = tensor.shape[1];
            let data: Vec<f32> = match &rows {
                None => tensor.data.clone(),
                Some(rows) => rows.iter().flat_map(|&r| &tensor.data[r as usize * width..][..width]).copied().collect(),
            };
            let error = relative(&data, &expected.f32(&format!("{prefix}.{point}")));
            assert!(error <= TOLERANCE, "{name}: {prefix}.{point}: relative error {error:e}");
        }
    }
}

#[test]
fn greedy_text_is_hugging_faces() {
    for name in generating() {
        let expected = expected(&name);
        let decoder = decoder(&GPU, &name, Dtype::Auto);
        let mut session = session(&decoder);
        session.prefill_blocking(&expected.ids("ids")).unwrap();
        let logits = session.logits_blocking().unwrap();
        let all = expected.f32("logits");
        let error = relative(&logits, &all[all.len() - logits.len()..]);
        assert!(error <= TOLERANCE, "{name}: logits, relative error {error:e}");
        assert_eq!(go_on(&mut session, 64), expected.ids("greedy"), "{name}");
        if expected.has("long.greedy") {
            let greedy = expected.ids("long.greedy");
            let mut session = common::session(&decoder);
            session.prefill_blocking(&expected.ids("long.ids")).unwrap();
            assert_eq!(go_on(&mut session, greedy.len()), greedy, "{name}, long");
        }
    }
}

/// What runs on GPUs runs everywhere: the same streams, logits and texts with their variants, whatever this adapter is.
#[test]
fn the_variants_of_gpus_say_the_same() {
    use thalweg::kernels::{Reduce, Rows, attention, matmul, matvec};
    let subgroups = GPU.capabilities().subgroups.is_some();
    for reduce in Reduce::ALL.into_iter().filter(|reduce| subgroups || *reduce == Reduce::Workgroup) {
        let choices = Choices {
            matmul: matmul::Form::Workgroup,
            matvec: matvec::Form::Depth,
            attention: attention::Form::Uniform,
            reduce,
            sums: Rows::Shared(reduce),
        };
        for name in ["gpt2_odd", "llama_gqa", "gemma2_odd", "neox_parallel", "olmo2_odd", "phi3_fused"] {
            let expected = expected(name);
            let options = LoadOptions { choices: Some(choices), ..Default::default() };
            let folder = fixtures(&format!("decoders/{name}"));
            let decoder = pollster::block_on(Decoder::load_with(&GPU, folder, options)).unwrap();
            let labels = || decoder.decode_program().recording().dispatches().map(|d| d.variant.label.clone());
            assert!(labels().any(|l| l.starts_with("matvec[depth")) && !labels().any(|l| l.contains("columns")));
            let mut session = session(&decoder);
            session.prefill_blocking(&expected.ids("ids")).unwrap();
            let logits = session.logits_blocking().unwrap();
            let all = expected.f32("logits");
            let error = relative(&logits, &all[all.len() - logits.len()..]);
            assert!(error <= TOLERANCE, "{name}: logits, relative error {error:e}");
            assert_eq!(go_on(&mut session, 64), expected.ids("greedy"), "{name}");
            let points = published(decoder.model().spec());
            let trace = decoder.trace_blocking(&expected.ids("ids"), &points).unwrap();
            for (point, tensor) in &trace.tensors {
                let error = relative(&tensor.data, &expected.f32(&point.to_string()));
                assert!(error <= TOLERANCE, "{name}: {point}: relative error {error:e}");
            }
        }
    }
}

/// A prompt in one go, in chunks of any size, and token by token: the same logits, and the same text.
#[test]
fn a_prompt_may_be_cut_anywhere() {
    for name in generating() {
        let expected = expected(&name);
        let ids = expected.ids("ids");
        let decoder = decoder(&GPU, &name, Dtype::Auto);
        let mut whole = session(&decoder);
        whole.prefill_blocking(&ids).unwrap();
        let logits = whole.logits_blocking().unwrap();
        let text = go_on(&mut whole, 12);
        for size in [1, 3, 8] {
            let mut cut = session(&decoder);
            for chunk in ids.chunks(size) {
                cut.prefill_blocking(chunk).unwrap();
            }
            let error = relative(&cut.logits_blocking().unwrap(), &logits);
            assert!(error <= CUT_TOLERANCE, "{name} in chunks of {size}: relative error {error:e}");
            assert_eq!(go_on(&mut cut, 12), text, "{name} in chunks of {size}");
        }
        // decode steps over the whole prompt: each token's logits, the next token put in by hand
        let mut steps = session(&decoder);
        for &id in &ids {
            steps.prefill_blocking(&[id]).unwrap();
            steps.logits_blocking().unwrap();
        }
        let error = relative(&steps.logits_blocking().unwrap(), &logits);
        assert!(error <= CUT_TOLERANCE, "{name} step by step: relative error {error:e}");
    }
}

#[test]
fn a_prompt_of_1500_tokens_may_be_cut_anywhere() {
    let expected = expected("llama_gqa");
    let ids = expected.ids("many.ids");
    let decoder = decoder(&GPU, "llama_gqa", Dtype::Auto);
    let mut whole = session(&decoder);
    whole.prefill_blocking(&ids).unwrap();
    let logits = whole.logits_blocking().unwrap();
    let all = expected.f32("many.logits");
    let error = relative(&logits, &all[all.len() - logits.len()..]);
    assert!(error <= TOLERANCE, "relative error {error:e}");
    let mut cut = session(&decoder);
    for chunk in [&ids[..1], &ids[1..700], &ids[700..703], &ids[703..1499], &ids[1499..]] {
        cut.prefill_blocking(chunk).unwrap();
    }
    assert_eq!(bits(&cut.logits_blocking().unwrap()), bits(&logits));
    assert_eq!(go_on(&mut cut, 20), go_on(&mut whole, 20));
}

/// GPT-2's width, and a prompt of 1,500 tokens: 31 MB that are not kept here.
///
///     python tests/fixtures/make_decoders.py --wide DIR
///     THALWEG_WIDE=DIR/gpt2_wide cargo test --test decoders -- --ignored
#[test]
#[ignore = "needs the folder that make_decoders.py --wide writes, in THALWEG_WIDE"]
fn a_model_of_gpt2s_width() {
    let folder = PathBuf::from(std::env::var_os("THALWEG_WIDE").expect("THALWEG_WIDE is set"));
    let expected = Expected(Checkpoint::open_file(&folder.join("expected.safetensors")).unwrap());
    let decoder = Decoder::load_blocking(&GPU, &folder).unwrap();
    assert_eq!(decoder.model().spec().hidden_size, 768);
    for prefix in ["", "many."] {
        let ids = expected.ids(&format!("{prefix}ids"));
        let points = Point::of_model(decoder.model().spec());
        let points: Vec<_> = points.into_iter().filter(|p| expected.has(&format!("{prefix}{p}"))).collect();
        assert!(points.len() >= 4, "{prefix:?}");
        let rows = expected.has(&format!("{prefix}rows")).then(|| expected.ids(&format!("{prefix}rows")));
        let trace = decoder.trace_blocking(&ids, &points).unwrap();
        for (point, tensor) in &trace.tensors {
            let width: usize = tensor.shape[1..].iter().product();
            let picked = rows
                .as_ref()
                .filter(|_| point.kind != Kind::Pattern)
                .map(|rows| rows.iter().flat_map(|&r| &tensor.data[r as usize * width..][..width]).copied().collect());
            let data: Vec<f32> = picked.unwrap_or_else(|| tensor.data.clone());
            let error = relative(&data, &expected.f32(&format!("{prefix}{point}")));
            assert!(error <= TOLERANCE, "{prefix}{point}: relative error {error:e}");
        }
        println!("{prefix}{} points of {} tokens", points.len(), ids.len());
        if expected.has(&format!("{prefix}greedy")) {
            let greedy = expected.ids(&format!("{prefix}greedy"));
            let mut session = session(&decoder);
            session.prefill_blocking(&ids).unwrap();
            assert_eq!(go_on(&mut session, greedy.len()), greedy, "{prefix:?}");
        }
    }
}

/// ModernBERT is an encoder: its texts become vectors.
#[test]
fn modernbert_embeds_like_sentence_transformers() {
    let expected = expected("modernbert_odd");
    let texts: Vec<String> = serde_json::from_str(&expected.0.metadata()["texts"]).unwrap();
    let encoder = common::load(&GPU, fixtures("decoders/modernbert_odd"), Dtype::Auto).unwrap();
    let embeddings = pollster::block_on(encoder.embed_with(&texts, &Default::default())).unwrap();
    assert!(embeddings.len() >= 3);
    for (i, embedding) in embeddings.iter().enumerate() {
        assert_eq!(embedding.tokens, expected.ids(&format!("text.{i}.ids")).len(), "text {i}");
        let error = relative(&embedding.vector, &expected.f32(&format!("text.{i}.embedding")));
        assert!(error <= TOLERANCE, "text {i}: relative error {error:e}");
        let alone = encoder.embed_blocking(&texts[i..=i]).unwrap();
        assert_eq!(bits(&alone[0]), bits(&embedding.vector), "text {i} alone");
    }
}
