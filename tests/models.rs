//! Whole models against Hugging Face and sentence-transformers, whose results are in `tests/fixtures`.

mod common;

use std::sync::Arc;

use common::{Expected, GPU, bits, cosine, fixtures, load, minilm, published, relative};
use thalweg::stream::{Point, parse_points};
use thalweg::{Dtype, EmbedOptions, Encoder, Prompt};

/// Largest relative error of any stream point: every block's stream, and every term that is added to it.
const STREAM_TOLERANCE: f64 = 2e-5;

fn random_models() -> Vec<String> {
    let entries = std::fs::read_dir(fixtures("models")).unwrap();
    let mut names: Vec<_> = entries.map(|e| format!("models/{}", e.unwrap().file_name().display())).collect();
    names.sort();
    assert!(names.len() >= 9);
    names
}

/// Every model's points that the fixture holds, by one trace of all points and the patterns.
fn check_stream(encoder: &Encoder, expected: &Expected, alias: impl Fn(&str) -> String) -> usize {
    let ids = expected.ids("ids");
    let points = published(encoder.spec());
    let trace = encoder.trace_blocking(&ids, &points).unwrap();
    assert_eq!(trace.tensors.len(), points.len());
    let mut compared = 0;
    for (point, tensor) in &trace.tensors {
        let name = alias(&point.to_string());
        if !expected.has(&name) {
            continue;
        }
        assert_eq!(tensor.shape, expected.shape(&name), "{name}");
        let error = relative(&tensor.data, &expected.f32(&name));
        assert!(error <= STREAM_TOLERANCE, "{point}: relative error {error:e}");
        compared += 1;
    }
    compared
}

#[test]
fn random_models_stream_like_hugging_face() {
    for name in random_models() {
        let expected = Expected::open(&name);
        for dtype in [Dtype::Auto, Dtype::F32] {
            let encoder = load(&GPU, fixtures(&name), dtype).unwrap_or_else(|e| panic!("{name}: {e}"));
            let compared = check_stream(&encoder, &expected, str::to_string);
            assert_eq!(compared, 1 + 12 * encoder.spec().num_hidden_layers, "{name}");
        }
    }
}

#[test]
fn random_models_embed_like_sentence_transformers() {
    for name in random_models() {
        let expected = Expected::open(&name);
        let texts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(fixtures(&name).join("texts.json")).unwrap()).unwrap();
        let texts_of = texts["texts"].as_array().unwrap();
        let texts_of: Vec<_> = texts_of.iter().map(|t| t.as_str().unwrap()).collect();
        let encoder = load(&GPU, fixtures(&name), Dtype::Auto).unwrap();
        assert_eq!(encoder.max_tokens() as u64, texts["max_seq_length"].as_u64().unwrap(), "{name}");
        let mut prompts = vec![(Prompt::Default, String::new())];
        if expected.has("text.0.prompt.query.ids") {
            prompts.push((Prompt::Named("query".into()), "prompt.query.".into()));
            prompts.push((Prompt::Named("document".into()), "prompt.document.".into()));
            prompts.push((Prompt::None, "no_prompt.".into()));
        }
        for (prompt, infix) in prompts {
            let options = EmbedOptions { prompt: prompt.clone(), ..Default::default() };
            let embeddings = pollster::block_on(encoder.embed_with(&texts_of, &options)).unwrap();
            for (i, embedding) in embeddings.iter().enumerate() {
                let ids = expected.ids(&format!("text.{i}.{infix}ids"));
                assert_eq!(embedding.tokens, ids.len(), "{name}, text {i}, {prompt:?}");
                if prompt == Prompt::Default {
                    let untruncated = texts["untruncated_tokens"][i].as_u64().unwrap();
                    assert_eq!(embedding.untruncated as u64, untruncated, "{name}, text {i}");
                }
                let vector = expected.f32(&format!("text.{i}.{infix}embedding"));
                let error = relative(&embedding.vector, &vector);
                assert!(error <= STREAM_TOLERANCE, "{name}, text {i}, {prompt:?}: relative error {error:e}");
            }
        }
    }
}

#[test]
fn minilm_embeds_like_sentence_transformers() {
    let expected = Expected::open("minilm");
    let sentences = std::fs::read_to_string(fixtures("minilm/sentences.txt")).unwrap();
    let sentences: Vec<_> = sentences.lines().collect();
    assert_eq!(sentences.len(), 256);
    let (vectors, tokens) = (expected.f32("embeddings"), expected.ids("tokens"));
    for (dtype, least) in [(Dtype::F32, 0.999999), (Dtype::F16, 0.9999)] {
        let encoder = load(&GPU, minilm(), dtype).unwrap();
        let found = pollster::block_on(encoder.embed_with(&sentences, &EmbedOptions::default())).unwrap();
        for (i, (embedding, vector)) in found.iter().zip(vectors.chunks_exact(384)).enumerate() {
            assert_eq!(embedding.tokens as u32, tokens[i], "sentence {i}");
            let cosine = cosine(&embedding.vector, vector);
            assert!(cosine >= least, "{dtype:?}, sentence {i}: cosine {cosine}");
        }
    }
}

#[test]
fn minilm_streams_like_hugging_face() {
    let expected = Expected::open("minilm");
    let aliases: serde_json::Value = serde_json::from_str(&expected.0.metadata()["aliases"]).unwrap();
    let alias = |name: &str| aliases[name].as_str().unwrap_or(name).to_string();
    let encoder = load(&GPU, minilm(), Dtype::F32).unwrap();
    assert_eq!(check_stream(&encoder, &expected, alias), 1 + 6 * 7);
    // the same sentence by its text
    let ids = encoder.encode(&expected.0.metadata()["text"]).unwrap().ids;
    assert_eq!(ids, expected.ids("ids"));
}

#[test]
fn embeddings_have_the_same_bits_alone_and_in_any_batch() {
    let sentences = std::fs::read_to_string(fixtures("minilm/sentences.txt")).unwrap();
    let sentences: Vec<_> = sentences.lines().filter(|s| s.split(' ').count() <= 25).take(65).collect();
    assert_eq!(sentences.len(), 65);
    for dtype in [Dtype::F32, Dtype::F16] {
        let encoder = load(&GPU, minilm(), dtype).unwrap();
        let together = encoder.embed_blocking(&sentences).unwrap();
        assert_eq!(together, encoder.embed_blocking(&sentences).unwrap(), "twice in a row");
        for i in [0, 1, 17, 40, 64] {
            let alone = encoder.embed_blocking(&sentences[i..=i]).unwrap();
            assert_eq!(bits(&alone[0]), bits(&together[i]), "sentence {i} alone");
        }
        let small = EmbedOptions { batch_tokens: 300, ..Default::default() };
        let mut backwards = sentences.clone();
        backwards.reverse();
        let found = pollster::block_on(encoder.embed_with(&backwards, &small)).unwrap();
        for (embedding, vector) in found.iter().rev().zip(&together) {
            assert_eq!(bits(&embedding.vector), bits(vector), "another batch");
        }
    }
}

/// Points change nothing: the same bits with any set of taps, and the pattern of attention that was really used.
#[test]
fn taps_change_no_bit() {
    for name in ["models/bert_odd", "models/mpnet_odd"] {
        let expected = Expected::open(name);
        let ids = expected.ids("ids");
        let encoder = load(&GPU, fixtures(name), Dtype::Auto).unwrap();
        let all = encoder.trace_blocking(&ids, &Point::of_model(encoder.spec())).unwrap();
        for points in ["h", "resid_post", "t1@0,h@1", "all", "blocks.1.attn.hook_pattern,t4"] {
            let points = parse_points(points, encoder.spec()).unwrap();
            let trace = encoder.trace_blocking(&ids, &points).unwrap();
            assert_eq!(trace.tensors.len(), points.len());
            for (point, tensor) in &trace.tensors {
                assert_eq!(bits(&tensor.data), bits(&all.tensors[point].data), "{name}: {point}");
            }
        }
    }
}

/// A weight beyond the binding limit is several chunks of rows: the same bits, whatever the limit.
#[test]
fn chunks_of_weights_change_no_bit() {
    use thalweg::files::{Checkpoint, Config, Source};
    use thalweg::kernels::matmul::Form;
    use thalweg::model::{Layout, Spec, upload};
    use thalweg::schedule::{Batch, Choices, Program, Purpose, Watch, record};
    let folder = fixtures("models/roberta_odd");
    let (spec, family) = Spec::read(&Config::open(&folder).unwrap()).unwrap();
    let sources: Arc<[Source]> = [Source::Folder(Checkpoint::open(&folder).unwrap())].into();
    let points = Point::of_model(&spec);
    let mut traces = Vec::new();
    for limit in [1 << 27, 64 * 44 * 4, 1000] {
        let layout = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, limit).unwrap();
        let weights =
            pollster::block_on(upload(&GPU, layout.parameters.into(), Arc::clone(&sources), &Default::default()));
        let weights = weights.unwrap();
        let chunks = layout.tensors.words.chunks.len();
        assert_eq!(
            chunks,
            match limit {
                1000 => 288usize.div_ceil(5),
                11264 => 5,
                _ => 1,
            }
        );
        for matmul in Form::on(GPU.capabilities()) {
            let choices = Choices { matmul, ..Choices::of(GPU.capabilities()) };
            let recording = record(&spec, &layout.tensors, &Purpose::Trace, choices, &Watch::taps(&points));
            let program = Program::new(&GPU, recording, weights.clone().into()).unwrap();
            let mut batch = Batch::of(program.recording());
            batch.push((0..30).map(|i| (i * 9, i + 2, 0)), 0);
            traces.push(pollster::block_on(program.run(&batch)).unwrap());
        }
    }
    assert!(traces.iter().all(|trace| *trace == traces[0]));
}
