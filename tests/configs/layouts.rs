//! Both generations of config.json mean the same, and a layout takes every row of every tensor of a checkpoint, once.

use std::collections::BTreeMap;

use thalweg::Dtype;
use thalweg::files::{Checkpoint, Source};
use thalweg::model::{Change, Layout};

use super::{fixture, folders, read, spellings};

#[test]
fn both_spellings_are_one_model() {
    for folder in folders() {
        let [one, other] = spellings(&folder).map(|map| read(&map).unwrap_or_else(|e| panic!("{folder}: {e}")).0);
        assert_eq!(one, other, "{folder}");
    }
}

fn source(folder: &str) -> Source {
    Source::Folder(Checkpoint::open(&fixture(folder)).unwrap())
}

/// Tensors of checkpoints that are no weights of the model: buffers, and a head that is the word table again.
fn stale(folder: &str, name: &str) -> bool {
    let buffers = ["attn.bias", "attn.masked_bias", "attention.bias", "attention.masked_bias", "rotary_emb.inv_freq"];
    buffers.iter().any(|end| name.ends_with(&format!(".{end}"))) || (folder == "qwen2_bias" && name == "lm_head.weight")
}

#[test]
fn layouts_take_every_weight_once() {
    for folder in folders() {
        let sources = [source(&folder)];
        for map in spellings(&folder) {
            let (spec, family) = read(&map).unwrap();
            // the small limit splits matrices into chunks
            for limit in [1 << 27, 4096] {
                let layout = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, limit)
                    .unwrap_or_else(|error| panic!("{folder}: {error}"));
                let mut taken: BTreeMap<&str, Vec<bool>> = BTreeMap::new();
                for parameter in &layout.parameters {
                    for part in &parameter.parts {
                        let shape = &sources[0].get(&part.tensor).unwrap().shape;
                        let rows = shape[usize::from(parameter.change == Change::Transpose)];
                        let rows = taken.entry(&part.tensor).or_insert_with(|| vec![false; rows]);
                        for taken in &mut rows[part.first_row..part.first_row + part.rows] {
                            assert!(!*taken, "{folder}: {} is taken twice", part.tensor);
                            *taken = true;
                        }
                    }
                }
                for name in Checkpoint::open(&fixture(&folder)).unwrap().names() {
                    let whole = taken.get(name).is_some_and(|rows| rows.iter().all(|taken| *taken));
                    assert_eq!(whole, !stale(&folder, name), "{folder}: {name}");
                }
                let head = spec.is_decoder() || spec.masked_head.is_some();
                assert_eq!(layout.tensors.head.is_some(), head, "{folder}");
            }
        }
    }
}

/// The rows of GPT-NeoX's fused tensor and of its bias, gathered by heads: all of q, then all of k, then all of v.
#[test]
fn heads_are_gathered() {
    let sources = [source("neox_serial")];
    let (spec, family) = read(&spellings("neox_serial")[0]).unwrap();
    let layout = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, 1 << 27).unwrap();
    for end in ["weight", "bias"] {
        let name = format!("gpt_neox.layers.1.attention.query_key_value.{end}");
        let parameter = layout.parameters.iter().find(|p| p.label == name).unwrap();
        let firsts: Vec<_> = parameter.parts.iter().map(|p| (p.first_row, p.rows)).collect();
        assert_eq!(firsts, [(0, 15), (45, 15), (15, 15), (60, 15), (30, 15), (75, 15)]);
    }
}

/// Every shape is checked: a config that says something else is refused with the tensor's name.
#[test]
fn shapes_are_checked() {
    for (folder, key, value, tensor) in [
        ("gpt2_odd", "n_inner", 42, "h.0.mlp.c_fc.weight"),
        ("gpt2_odd", "n_positions", 85, "wpe.weight"),
        ("gpt2_odd", "vocab_size", 276, "wte.weight"),
        ("gpt2_odd", "n_layer", 3, "h.2.attn.c_attn.weight"),
        ("neox_parallel", "intermediate_size", 52, "gpt_neox.layers.0.mlp.dense_h_to_4h.weight"),
        ("llama_gqa", "head_dim", 20, "model.layers.0.self_attn.q_proj.weight"),
        ("llama_gqa", "num_key_value_heads", 4, "model.layers.0.self_attn.k_proj.weight"),
        ("phi3_fused", "num_key_value_heads", 3, "model.layers.0.self_attn.qkv_proj.weight"),
        ("phi3_fused", "intermediate_size", 54, "model.layers.0.mlp.gate_up_proj.weight"),
        ("olmo2_odd", "num_hidden_layers", 4, "model.layers.3.self_attn.q_proj.weight"),
        ("modernbert_odd", "intermediate_size", 74, "model.layers.0.mlp.Wi.weight"),
    ] {
        let sources = [source(folder)];
        let mut map = spellings(folder)[0].clone();
        map.insert(key.into(), value.into());
        let (spec, family) = read(&map).unwrap();
        let error = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, 1 << 27).unwrap_err();
        assert_eq!(error.exit_code(), 4);
        assert!(error.to_string().contains(tensor), "{folder}, {key}: {error}");
    }
    for (folder, key, tensor) in [
        ("llama_gqa", "attention_bias", "model.layers.0.self_attn.q_proj.bias"),
        ("llama_gqa", "mlp_bias", "model.layers.0.mlp.gate_proj.bias"),
        ("qwen3_norm", "attention_bias", "model.layers.0.self_attn.q_proj.bias"),
        ("modernbert_odd", "norm_bias", "model.embeddings.norm.bias"),
        ("modernbert_odd", "mlp_bias", "model.layers.0.mlp.Wi.bias"),
    ] {
        let sources = [source(folder)];
        let mut map = spellings(folder)[0].clone();
        map.insert(key.into(), true.into());
        let (spec, family) = read(&map).unwrap();
        let error = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, 1 << 27).unwrap_err();
        assert!(error.to_string().contains(tensor), "{folder}, {key}: {error}");
    }
}

/// A config that does not tie the head needs one of its own.
#[test]
fn a_missing_head_is_named() {
    let mut map = spellings("llama_gqa")[0].clone();
    map.insert("tie_word_embeddings".into(), false.into());
    let (spec, family) = read(&map).unwrap();
    let sources = [source("llama_gqa")];
    let error = Layout::new(&spec, &family.names, &sources, &[], Dtype::Auto, 1 << 27).unwrap_err();
    assert!(error.to_string().contains("lm_head.weight"), "{error}");
}
