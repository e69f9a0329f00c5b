//! Hugging Face folders as GGUF files: names, types and keys in our own parser, and the numbers in front of it. What
//! llama.cpp computes with such files is compared by tests/against/quantize.py.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::f16;
use tempfile::TempDir;
use thalweg::files::gguf::{Array, Value};
use thalweg::files::safetensors::{TensorData, TensorOut, write};
use thalweg::files::{Checkpoint, GgmlType, Gguf, dequantise};
use thalweg::model::to_gguf::{Written, write_gguf};
use thalweg::{CancelToken, Error, Result, Task};

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    ["decoders", "models"].map(|folder| fixtures.join(folder).join(name)).into_iter().find(|dir| dir.exists()).unwrap()
}

/// A copy of a fixture whose files are changed: each is a name, what is looked for, and what stands there instead.
fn changed(name: &str, changes: &[(&str, &str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        // the list of a sentence part's modules names folders, which are left out
        if path.is_file() && !path.ends_with("modules.json") {
            std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    for (file, old, new) in changes {
        let path = dir.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(old), "{name}/{file} has no {old}");
        std::fs::write(&path, text.replace(old, new)).unwrap();
    }
    dir
}

fn written(dir: &Path, to: GgmlType) -> (TempDir, Gguf) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    write_gguf(dir, &path, to, &Task::default()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let gguf = Gguf::open(&path).unwrap();
    (out, gguf)
}

fn numbers(gguf: &Gguf, name: &str) -> Vec<f32> {
    let info = gguf.get(name).unwrap_or_else(|| panic!("no {name}"));
    let mut bytes = vec![0; info.bytes as usize];
    gguf.read(info, 0, &mut bytes).unwrap();
    let mut values = vec![0.0; info.elements()];
    dequantise(info.ggml_type, &bytes, &mut values).unwrap();
    values
}

fn stored(dir: &Path, name: &str) -> (Vec<usize>, Vec<f32>) {
    let checkpoint = Checkpoint::open(dir).unwrap();
    let info = checkpoint.get(name).unwrap_or_else(|| panic!("no {name}")).clone();
    let mut values = vec![0.0; info.elements() as usize];
    checkpoint.read_f32_rows(&info, 0, info.rows(), &mut values).unwrap();
    (info.shape, values)
}

/// Rows of each head that were half a head apart as neighbours.
fn neighbours(values: &[f32], columns: usize, head: usize) -> Vec<f32> {
    let rows: Vec<_> = values.chunks(columns).collect();
    let source = |row: usize| row / head * head + row % head / 2 + row % 2 * (head / 2);
    (0..rows.len()).flat_map(|row| rows[source(row)].to_vec()).collect()
}

#[track_caller]
fn refused(result: Result<Written>, words: &[&str]) {
    let error = result.unwrap_err();
    let message = error.to_string();
    assert_eq!(error.exit_code(), 4, "{message}");
    for word in words {
        assert!(message.contains(word), "expected {word:?} in: {message}");
    }
}

fn try_write(dir: &Path) -> Result<Written> {
    let out = tempfile::tempdir().unwrap();
    let result = write_gguf(dir, &out.path().join("m.gguf"), GgmlType::Q8_0, &Task::default());
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), usize::from(result.is_ok()));
    result
}

#[test]
fn a_llama_has_the_names_and_keys_of_llama_cpp() {
    let dir = fixture("llama_gqa");
    let (_out, gguf) = written(&dir, GgmlType::Q8_0);
    let mut tensors: Vec<String> = ["output_norm.weight", "token_embd.weight"].map(String::from).into();
    for l in 0..3 {
        let block =
            ["attn_k", "attn_norm", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_norm", "ffn_up"];
        tensors.extend(block.map(|name| format!("blk.{l}.{name}.weight")));
    }
    tensors.sort();
    assert_eq!(gguf.tensors().iter().map(|t| &t.name).collect::<Vec<_>>(), tensors.iter().collect::<Vec<_>>());
    for tensor in gguf.tensors() {
        // no row is a multiple of 32
        let expected = if tensor.shape.len() == 1 { GgmlType::F32 } else { GgmlType::F16 };
        assert_eq!(tensor.ggml_type, expected, "{}", tensor.name);
    }
    let metadata = gguf.metadata();
    let expected: BTreeMap<&str, Value> = [
        ("general.architecture", Value::String(b"llama".into())),
        ("general.type", Value::String(b"model".into())),
        ("general.name", Value::String(b"llama_gqa".into())),
        ("general.file_type", Value::U32(7)),
        ("general.quantization_version", Value::U32(2)),
        ("llama.vocab_size", Value::U32(279)),
        ("llama.context_length", Value::U32(2048)),
        ("llama.embedding_length", Value::U32(52)),
        ("llama.block_count", Value::U32(3)),
        ("llama.feed_forward_length", Value::U32(61)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.key_length", Value::U32(18)),
        ("llama.attention.value_length", Value::U32(18)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.dimension_count", Value::U32(18)),
        ("llama.rope.freq_base", Value::F32(500.0)),
        ("tokenizer.ggml.model", Value::String(b"gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(b"gpt-2".into())),
        ("tokenizer.ggml.bos_token_id", Value::U32(1)),
        ("tokenizer.ggml.eos_token_id", Value::U32(2)),
        ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
        ("tokenizer.ggml.add_eos_token", Value::Bool(false)),
    ]
    .into();
    for (key, value) in &expected {
        assert_eq!(metadata.value(key), Some(value), "{key}");
    }
    let lists = ["tokenizer.ggml.merges", "tokenizer.ggml.token_type", "tokenizer.ggml.tokens"];
    // the fixture's generation_config.json has a second token that ends a text
    let others = [&lists[..], &["tokenizer.ggml.eot_token_id"]].concat();
    let more: Vec<_> = metadata.keys().filter(|key| !expected.contains_key(key)).collect();
    assert!(more.iter().all(|key| others.contains(key)), "{more:?}");
    assert_eq!(metadata.strings(lists[0]).unwrap().get(1), Some("Ġt h".as_bytes()));
    let tokens = metadata.strings(lists[2]).unwrap();
    assert_eq!((tokens.len(), tokens.get(1), tokens.get(3)), (279, Some(&b"<s>"[..]), Some(&b"!"[..])));
    assert_eq!(metadata.opt_i32s(lists[1]).unwrap().unwrap()[..4], [3, 3, 3, 1]);
}

#[test]
fn rows_that_turn_together_are_neighbours_in_llamas() {
    let dir = fixture("llama_mqa_bias");
    let (_out, gguf) = written(&dir, GgmlType::F32);
    for (theirs, ours) in [("attn_q", "q_proj"), ("attn_k", "k_proj")] {
        for (end, columns) in [("weight", 30), ("bias", 1)] {
            let (_, values) = stored(&dir, &format!("model.layers.1.self_attn.{ours}.{end}"));
            let found = numbers(&gguf, &format!("blk.1.{theirs}.{end}"));
            assert_eq!(found, neighbours(&values, columns, 8), "{theirs}.{end}");
            assert_ne!(found, values);
        }
    }
    for (theirs, ours) in [
        ("blk.2.attn_v.bias", "model.layers.2.self_attn.v_proj.bias"),
        ("blk.2.ffn_down.weight", "model.layers.2.mlp.down_proj.weight"),
        ("blk.0.ffn_norm.weight", "model.layers.0.post_attention_layernorm.weight"),
        ("output.weight", "lm_head.weight"),
    ] {
        let (shape, values) = stored(&dir, ours);
        assert_eq!(gguf.get(theirs).unwrap().shape, shape, "{theirs}");
        assert_eq!(numbers(&gguf, theirs), values, "{theirs}");
    }
}

#[test]
fn every_family_is_written() {
    for (name, architecture, tensors) in [
        ("llama_mha", "llama", 3 + 2 * 9),
        ("llama_linear", "llama", 3 + 2 * 9),
        ("llama_yarn", "llama", 2 + 2 * 9),
        ("llama_llama3", "llama", 2 + 2 * 9 + 1),
        ("mistral_window", "llama", 3 + 3 * 9),
        ("qwen2_bias", "qwen2", 2 + 3 * 12),
        ("qwen3_norm", "qwen3", 2 + 2 * 11),
        ("phi3_fused", "phi3", 3 + 2 * 6),
        ("phi3_longrope", "phi3", 3 + 2 * 6 + 2),
        ("gpt2_odd", "gpt2", 4 + 2 * 12),
        ("bert_odd", "bert", 5 + 2 * 16),
    ] {
        let dir = fixture(name);
        let (_out, gguf) = written(&dir, GgmlType::F32);
        assert_eq!(gguf.metadata().str("general.architecture").unwrap(), architecture, "{name}");
        let names: Vec<_> = gguf.tensors().iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names.len(), tensors, "{name}: {names:?}");
        let tokens = gguf.metadata().strings("tokenizer.ggml.tokens").unwrap().len();
        assert_eq!(gguf.get("token_embd.weight").unwrap().shape[0], tokens, "{name}");
        let types = gguf.metadata().opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap();
        assert_eq!(types.len(), tokens, "{name}");
    }
}

#[test]
fn scaled_rotations_are_keys_or_tensors() {
    let (_out, gguf) = written(&fixture("llama_linear"), GgmlType::F16);
    let key = |gguf: &Gguf, key: &str| gguf.metadata().value(key).cloned();
    assert_eq!(key(&gguf, "llama.rope.scaling.type"), Some(Value::String(b"linear".into())));
    assert!(gguf.metadata().opt_f32("llama.rope.scaling.factor").unwrap().is_some());
    let (_out, gguf) = written(&fixture("llama_yarn"), GgmlType::F16);
    assert_eq!(key(&gguf, "llama.rope.scaling.type"), Some(Value::String(b"yarn".into())));
    assert!(gguf.metadata().opt_u32("llama.rope.scaling.original_context_length").unwrap().is_some());
    assert_eq!(key(&gguf, "llama.rope.scaling.attn_factor"), None);
    let (_out, gguf) = written(&fixture("llama_llama3"), GgmlType::Q8_0);
    let factors = numbers(&gguf, "rope_freqs.weight");
    assert_eq!((factors.len(), factors[0]), (5, 1.0));
    assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]) && factors[4] > 1.0, "{factors:?}");
    assert_eq!(gguf.get("rope_freqs.weight").unwrap().ggml_type, GgmlType::F32);
    let (_out, gguf) = written(&fixture("phi3_longrope"), GgmlType::Q8_0);
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture("phi3_longrope").join("config.json")).unwrap()).unwrap();
    for length in ["long", "short"] {
        let list = config["rope_scaling"][format!("{length}_factor")].as_array().unwrap();
        let expected: Vec<_> = list.iter().map(|x| x.as_f64().unwrap() as f32).collect();
        assert_eq!(numbers(&gguf, &format!("rope_factors_{length}.weight")), expected);
    }
    assert_eq!(key(&gguf, "phi3.rope.scaling.original_context_length"), Some(Value::U32(20)));
}

#[test]
fn gpt2s_matrices_are_transposed_and_gemmas_norms_are_whole() {
    let dir = fixture("gpt2_odd");
    let (_out, gguf) = written(&dir, GgmlType::F32);
    let (shape, values) = stored(&dir, "h.1.attn.c_attn.weight");
    assert_eq!(shape, [30, 90]);
    let found = numbers(&gguf, "blk.1.attn_qkv.weight");
    assert_eq!(gguf.get("blk.1.attn_qkv.weight").unwrap().shape, [90, 30]);
    for row in 0..90 {
        for column in 0..30 {
            assert_eq!(found[row * 30 + column], values[column * 90 + row]);
        }
    }
    assert_eq!(numbers(&gguf, "position_embd.weight"), stored(&dir, "wpe.weight").1);

    let dir =
        changed("gemma2_odd", &[("config.json", "\"query_pre_attn_scalar\": 13", "\"query_pre_attn_scalar\": 10")]);
    let (_out, gguf) = written(dir.path(), GgmlType::F16);
    let (_, values) = stored(dir.path(), "model.layers.1.post_feedforward_layernorm.weight");
    let expected: Vec<_> = values.iter().map(|x| x + 1.0).collect();
    assert_eq!(numbers(&gguf, "blk.1.post_ffw_norm.weight"), expected);
    let metadata = gguf.metadata();
    let windows = Value::Array(Array::Bool(vec![true, false, true]));
    assert_eq!(metadata.value("gemma2.attention.sliding_window_pattern"), Some(&windows));
    assert_eq!(metadata.u32("gemma2.attention.sliding_window").unwrap(), 5);
    assert_eq!(metadata.f32("gemma2.attn_logit_softcapping").unwrap(), 2.0);
    assert_eq!(metadata.f32("gemma2.final_logit_softcapping").unwrap(), 1.5);
    assert!(gguf.get("output.weight").is_none());
}

#[test]
fn a_bert_marks_what_begins_a_word() {
    let (_out, gguf) = written(&fixture("bert_odd"), GgmlType::Q4_0);
    let metadata = gguf.metadata();
    assert_eq!(metadata.str("tokenizer.ggml.model").unwrap(), "bert");
    assert!(!metadata.bool_or("bert.attention.causal", true).unwrap());
    assert!(metadata.opt_u32("bert.pooling_type").unwrap().is_some());
    assert!(metadata.bool_or("tokenizer.ggml.add_sep_token", false).unwrap());
    let tokens: Vec<_> =
        metadata.strings("tokenizer.ggml.tokens").unwrap().iter().map(String::from_utf8_lossy).collect();
    let has = |token: &str| tokens.iter().any(|t| t == token);
    assert!(has("[CLS]") && has("[SEP]") && tokens.iter().any(|t| t.starts_with('▁')));
    assert!(!tokens.iter().any(|t| t.starts_with("##")));
    for name in ["position_embd.weight", "token_types.weight", "token_embd_norm.bias", "blk.0.attn_q.bias"] {
        assert_eq!(gguf.get(name).unwrap().ggml_type, GgmlType::F32, "{name}");
    }
    assert!(gguf.get("blk.0.attn_output_norm.weight").is_some() && gguf.get("blk.0.layer_output_norm.bias").is_some());
}

const WIDTH: usize = 64;
const ROWS: usize = 279;

/// A llama with rows of whole blocks, but for those of the FFN's second matrix.
fn wide(poison: f32) -> (TempDir, BTreeMap<String, Vec<f32>>) {
    let dir = changed(
        "llama_gqa",
        &[
            ("config.json", "\"hidden_size\": 52", "\"hidden_size\": 64"),
            ("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1"),
            ("config.json", "\"head_dim\": 18", "\"head_dim\": 16"),
            ("config.json", "\"intermediate_size\": 61", "\"intermediate_size\": 72"),
        ],
    );
    let block = |name: &str| format!("model.layers.0.{name}.weight");
    let shapes: Vec<(String, Vec<usize>)> = vec![
        ("model.embed_tokens.weight".into(), vec![ROWS, WIDTH]),
        ("model.norm.weight".into(), vec![WIDTH]),
        (block("input_layernorm"), vec![WIDTH]),
        (block("post_attention_layernorm"), vec![WIDTH]),
        (block("self_attn.q_proj"), vec![64, WIDTH]),
        (block("self_attn.k_proj"), vec![32, WIDTH]),
        (block("self_attn.v_proj"), vec![32, WIDTH]),
        (block("self_attn.o_proj"), vec![WIDTH, 64]),
        (block("mlp.gate_proj"), vec![72, WIDTH]),
        (block("mlp.up_proj"), vec![72, WIDTH]),
        (block("mlp.down_proj"), vec![WIDTH, 72]),
    ];
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    let mut data: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (name, shape) in &shapes {
        data.insert(name.clone(), (0..shape.iter().product()).map(|_| random()).collect());
    }
    data.get_mut(&block("mlp.up_proj")).unwrap()[100] = poison;
    let tensors: Vec<_> =
        shapes.iter().map(|(name, shape)| TensorOut { name, shape, data: TensorData::F32(&data[name]) }).collect();
    write(&dir.path().join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
    (dir, data)
}

#[test]
fn quantised_matrices_are_within_a_step() {
    let (dir, data) = wide(0.25);
    for (to, number, steps) in [(GgmlType::Q8_0, 7, 127.0), (GgmlType::Q4_0, 2, 8.0)] {
        let (_out, gguf) = written(dir.path(), to);
        assert_eq!(gguf.metadata().u32("general.file_type").unwrap(), number);
        for (theirs, ours, ggml_type) in [
            ("token_embd", "model.embed_tokens", to),
            ("blk.0.attn_q", "model.layers.0.self_attn.q_proj", to),
            ("blk.0.attn_v", "model.layers.0.self_attn.v_proj", to),
            ("blk.0.ffn_gate", "model.layers.0.mlp.gate_proj", to),
            ("blk.0.ffn_down", "model.layers.0.mlp.down_proj", GgmlType::F16),
            ("output_norm", "model.norm", GgmlType::F32),
        ] {
            let name = format!("{theirs}.weight");
            assert_eq!(gguf.get(&name).unwrap().ggml_type, ggml_type, "{name}");
            let values = &data[&format!("{ours}.weight")];
            let expected = if theirs.ends_with("attn_q") { neighbours(values, WIDTH, 16) } else { values.clone() };
            for (i, (x, y)) in numbers(&gguf, &name).iter().zip(&expected).enumerate() {
                if ggml_type == GgmlType::F16 {
                    assert_eq!(*x, f16::from_f32(*y).to_f32(), "{name} {i}");
                } else if ggml_type == GgmlType::F32 {
                    assert_eq!(x, y, "{name} {i}");
                } else {
                    // half a step, and for the end of Q4_0's range that it lacks a whole one; the scale is rounded too
                    let most = if to == GgmlType::Q4_0 { 1.01 } else { 0.6 };
                    assert!((x - y).abs() <= 0.5 / steps * most, "{name} {i}: {x} for {y}");
                }
            }
        }
    }
}

#[test]
fn what_a_file_cannot_say_is_refused() {
    for (name, words) in [
        ("llama_dynamic", &["dynamic rotation"][..]),
        ("gpt2_untied", &["unsupported"]),
        ("gemma2_odd", &["scores multiplied by 0.27"]),
        ("qwen2_mixed", &["2 blocks with a window"]),
        ("neox_parallel", &["gpt_neox", "llama"]),
        ("olmo2_odd", &["olmo2"]),
        ("roberta_odd", &["roberta"]),
        ("bert_head_151", &["pooling mean+cls"]),
        ("bert_prefixed", &["Relu"]),
        ("bert_bf16_sharded", &["dense layers"]),
    ] {
        refused(try_write(&fixture(name)), words);
    }
    let one = |name: &str, file: &str, old: &str, new: &str| try_write(changed(name, &[(file, old, new)]).path());
    let tokenizer = "tokenizer.json";
    refused(one("llama_gqa", tokenizer, "\"use_regex\":true", "\"use_regex\":false"), &["unknown pre-tokenizer"]);
    refused(one("llama_gqa", tokenizer, "\"normalizer\":null", "\"normalizer\":{\"type\":\"NFKC\"}"), &["normalizer"]);
    refused(one("llama_gqa", tokenizer, "\"ignore_merges\":false", "\"ignore_merges\":true"), &["ignore_merges"]);
    refused(one("bert_odd", "tokenizer.json", "\"BertPreTokenizer\"", "\"Whitespace\""), &["WordPiece"]);
    let (dir, _) = wide(0.0);
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    refused(try_write(dir.path()), &["tokenizer"]);
    let out = dir.path().join("m.gguf");
    refused(write_gguf(dir.path(), &out, GgmlType::Q4K, &Task::default()), &["Q4_K"]);
}

#[test]
fn merges_become_scores_in_sentence_pieces_form() {
    let (dir, _) = wide(0.0);
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["pre_tokenizer"] = serde_json::Value::Null;
    json["decoder"] = serde_json::Value::Null;
    json["normalizer"] = serde_json::json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let bytes = (0..256).map(|b| format!("<0x{b:02X}>"));
    let pieces = ["▁", "a", "b", "c", "ab", "abc", "bc"].map(String::from);
    let tokens = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes).chain(pieces);
    let vocab = tokens.enumerate().map(|(id, token)| (token, serde_json::Value::from(id)));
    json["model"]["vocab"] = serde_json::Value::Object(vocab.collect());
    json["model"]["byte_fallback"] = true.into();
    json["model"]["unk_token"] = "<unk>".into();
    json["model"]["merges"] = serde_json::json!([["b", "c"], ["a", "b"], ["a", "bc"], ["ab", "c"]]);
    std::fs::write(&path, json.to_string()).unwrap();
    let (_out, gguf) = written(dir.path(), GgmlType::Q8_0);
    let metadata = gguf.metadata();
    assert_eq!(metadata.str("tokenizer.ggml.model").unwrap(), "llama");
    assert!(!metadata.bool_or("tokenizer.ggml.add_space_prefix", true).unwrap());
    let scores = metadata.opt_f32s("tokenizer.ggml.scores").unwrap().unwrap();
    assert_eq!(scores[259..267], [-5.0, -5.0, -5.0, -5.0, -1.0, -2.0, 0.0, -5.0]);
    let types = metadata.opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((types[1], types[3], types[258], types[259], types[266]), (3, 6, 6, 1, 5));

    json["model"]["merges"] = serde_json::json!([["b", "c"], ["a", "b"], ["a", "bc"]]);
    std::fs::write(&path, json.to_string()).unwrap();
    refused(try_write(dir.path()), &["does not join \"ab\" and \"c\""]);
    json["model"]["vocab"].as_object_mut().unwrap().remove("<0x41>");
    json["model"]["merges"] = serde_json::json!([]);
    std::fs::write(&path, json.to_string()).unwrap();
    refused(try_write(dir.path()), &["a token for each byte"]);
}

#[test]
fn numbers_that_a_type_cannot_hold_are_named() {
    for (poison, word) in [(f32::NAN, "NaN at index 100"), (1e30, "is too large for Q8_0"), (1e30, "at index 100")] {
        let (dir, _) = wide(poison);
        refused(try_write(dir.path()), &["model.safetensors", "model.layers.0.mlp.up_proj.weight", word]);
    }
}

#[test]
fn a_write_that_is_cancelled_leaves_the_old_file() {
    let (dir, _) = wide(0.0);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("m.gguf");
    std::fs::write(&path, "what was there").unwrap();
    let task = Task { cancel: CancelToken::new(), progress: None };
    task.cancel.cancel();
    let error = write_gguf(dir.path(), &path, GgmlType::F16, &task).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
    let written = write_gguf(dir.path(), &path, GgmlType::F16, &Task::default()).unwrap();
    assert_eq!(written.types, [("F16".to_string(), 8), ("F32".to_string(), 3)].into());
    assert_eq!(written.bytes, Gguf::open(&path).unwrap().tensors().iter().map(|t| t.bytes).sum::<u64>());
}
