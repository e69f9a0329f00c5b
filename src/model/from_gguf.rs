//! Models in GGUF files: their metadata as the config that they were converted from, and what llama.cpp calls tensors.
//!
//! The families read the config as if it lay in a folder, so that a model is the same from either; what the converter
//! changed in the tensors themselves stands in the table of names and in the spec.

use serde_json::{Map, Value, json};

use super::names::{Names, QkvRows};
use super::rope::Scaling;
use super::spec::{Biases, LmHead, NormKind, Positions, Spec};
use crate::error::{Error, Result};
use crate::files::gguf::Metadata;
use crate::files::{Config, Gguf, Pooling, SentenceConfig};

/// What the tensors of llama.cpp's Llama are called; others differ by the entries below.
const LLAMA: Names = Names {
    prefixes: &[""],
    words: "token_embd",
    positions: "position_embd",
    types: "token_types",
    embedding_norm: "token_embd_norm",
    block: "blk.{l}.",
    qkv: &["attn_q", "attn_k", "attn_v"],
    qk_norms: ["attn_q_norm", "attn_k_norm"],
    o: "attn_output",
    attention_norm: "attn_norm",
    up: &["ffn_gate", "ffn_up"],
    down: "ffn_down",
    mlp_norm: "ffn_norm",
    final_norm: "output_norm",
    heads: &["output.weight"],
    ..Names::NONE
};

const GEMMA: Names = Names { attention_post_norm: "post_attention_norm", mlp_post_norm: "post_ffw_norm", ..LLAMA };

/// Gate and up, or W_Q, W_K and W_V, in one tensor.
const FUSED_QKV: &[&str] = &["attn_qkv"];
const FUSED_UP: &[&str] = &["ffn_up"];

/// An architecture of llama.cpp, and what it is called by Hugging Face.
struct Architecture {
    name: &'static str,
    model_type: &'static str,
    names: Names,
    config: fn(&Reader<'_>) -> Result<Map<String, Value>>,
}

const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        model_type: "llama",
        names: Names { qkv_rows: QkvRows::Interleaved, ..LLAMA },
        config: llama,
    },
    Architecture { name: "qwen2", model_type: "qwen2", names: LLAMA, config: gated },
    Architecture { name: "qwen3", model_type: "qwen3", names: LLAMA, config: gated },
    Architecture { name: "gemma2", model_type: "gemma2", names: GEMMA, config: gemma },
    Architecture { name: "gemma3", model_type: "gemma3_text", names: GEMMA, config: gemma },
    Architecture { name: "phi3", model_type: "phi3", names: Names { up: FUSED_UP, ..LLAMA }, config: phi3 },
    Architecture { name: "gpt2", model_type: "gpt2", names: Names { up: FUSED_UP, ..LLAMA }, config: gpt2 },
    Architecture {
        name: "bert",
        model_type: "bert",
        names: Names { up: FUSED_UP, attention_norm: "attn_output_norm", mlp_norm: "layer_output_norm", ..LLAMA },
        config: bert,
    },
];

/// What a file's model is, and what its tensors are called.
///
/// # Errors
/// [`Error::Unsupported`] for another architecture, or for a key that stands for what this engine does not do;
/// [`Error::File`] for a key that is missing or out of its range.
pub fn read(gguf: &Gguf) -> Result<(Spec, Names)> {
    let metadata = gguf.metadata();
    let name = metadata.str("general.architecture")?;
    let Some(architecture) = ARCHITECTURES.iter().find(|a| a.name == name) else {
        let known: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
        let what = format!("architecture {name:?}; supported in GGUF files are {}", known.join(", "));
        return Err(Error::unsupported(gguf.path(), what));
    };
    if metadata.opt_u32("split.count")?.is_some_and(|count| count > 1) {
        return Err(Error::unsupported(gguf.path(), "a model split over several files; merge them into one"));
    }
    let reader = Reader { gguf, metadata, prefix: name };
    for key in ["expert_count", "attention.clamp_kqv", "attention.max_alibi_bias"] {
        if metadata.value(&reader.key(key)).is_some_and(|v| v.as_f64().is_some_and(|n| n > 0.0)) {
            return Err(metadata.unsupported(&reader.key(key)));
        }
    }
    let mut map = (architecture.config)(&reader)?;
    map.entry("model_type").or_insert(architecture.model_type.into());
    let (spec, _) = Spec::read(&Config::from_map(gguf.path(), map))?;
    let fused = gguf.get("blk.0.attn_qkv.weight").is_some();
    Ok((reader.as_stored(spec)?, names(architecture.name, fused)))
}

/// What the tensors of an architecture are called; W_Q, W_K and W_V may be one tensor.
pub(super) fn names(architecture: &str, fused: bool) -> Names {
    let names = ARCHITECTURES.iter().find(|a| a.name == architecture).map_or(Names::NONE, |a| a.names);
    Names { qkv: if fused { FUSED_QKV } else { names.qkv }, ..names }
}

/// What makes vectors of an encoder's stream: the pooling that the file names, else the mean, scaled to length 1.
///
/// # Errors
/// [`Error::Unsupported`] for a pooling that makes no vectors.
pub fn sentence(gguf: &Gguf) -> Result<SentenceConfig> {
    let metadata = gguf.metadata();
    let key = format!("{}.pooling_type", metadata.str("general.architecture")?);
    let pooling = match metadata.opt_u32(&key)? {
        None | Some(1) => Pooling::Mean,
        Some(2) => Pooling::Cls,
        Some(3) => Pooling::LastToken,
        _ => return Err(metadata.unsupported(&key)),
    };
    Ok(SentenceConfig { pooling: vec![pooling], ..SentenceConfig::plain(gguf.path()) })
}

/// A file's metadata, by keys under its architecture.
struct Reader<'a> {
    gguf: &'a Gguf,
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Reader<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    fn usize(&self, key: &str) -> Result<usize> {
        self.metadata.usize(&self.key(key))
    }

    fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        self.metadata.opt_usize(&self.key(key))
    }

    fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.metadata.opt_f32(&self.key(key))
    }

    /// A number that may be given for each block, and must then be the same for all.
    fn uniform(&self, key: &str) -> Result<Option<usize>> {
        let key = self.key(key);
        if let Ok(Some(list)) = self.metadata.opt_u32s(&key) {
            return match list.first() {
                Some(first) if list.iter().all(|n| n == first) => Ok(Some(*first as usize)),
                _ => Err(self.metadata.unsupported(&key)),
            };
        }
        self.metadata.opt_usize(&key)
    }

    fn need(&self, key: &str) -> Result<usize> {
        match self.uniform(key)? {
            Some(n) => Ok(n),
            None => self.usize(key),
        }
    }

    /// Rows of a table.
    fn rows(&self, tensor: &str) -> Result<usize> {
        match self.gguf.get(tensor) {
            Some(info) => Ok(info.shape[0]),
            None => Err(Error::file(self.gguf.path(), format!("tensor {tensor} is missing"))),
        }
    }

    /// The one-dimensional tensor of that name as f32, where there is one.
    fn vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>> {
        let Some(info) = self.gguf.get(name) else { return Ok(None) };
        if info.shape != [length] || info.ggml_type != crate::files::GgmlType::F32 {
            let what = format!("expected shape [{length}] of type F32, found {:?} of {}", info.shape, info.ggml_type);
            return Err(self.gguf.error(info, what));
        }
        let mut bytes = vec![0; 4 * length];
        self.gguf.read(info, 0, &mut bytes)?;
        let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().find(|x| !(x.is_finite() && **x > 0.0)) {
            Some(x) => Err(self.gguf.error(info, format!("expected numbers above 0, found {x}"))),
            None => Ok(Some(values)),
        }
    }

    /// The spec as this file's tensors have it: which biases there are, γ with 1 added already, and frequencies that the
    /// converter computed.
    fn as_stored(&self, mut spec: Spec) -> Result<Spec> {
        let has = |name: &str| self.gguf.get(&format!("blk.0.{name}.bias")).is_some();
        spec.biases = Biases { qkv: has("attn_q") || has("attn_qkv"), o: has("attn_output"), mlp: has("ffn_down") };
        if spec.norm == NormKind::RmsPlusOne {
            spec.norm = NormKind::Rms;
        }
        let tied = self.gguf.get("output.weight").is_none();
        spec.head = spec.head.map(|head| LmHead { tied, ..head });
        spec.masked_head = None; // the converter leaves it out
        if let (Positions::Rotary, Some(rope)) = (spec.positions, spec.ropes.first_mut())
            && let Some(factors) = self.vector("rope_freqs.weight", rope.pairs)?
        {
            if rope.scaling != Scaling::None {
                let what = "tensor rope_freqs.weight beside another scaling of the rotary embedding";
                return Err(Error::unsupported(self.gguf.path(), what));
            }
            let plain = rope.frequencies(0);
            rope.scaling = Scaling::Fixed(plain.iter().zip(factors).map(|(plain, factor)| plain / factor).collect());
        }
        Ok(spec)
    }
}

/// What every architecture has, under the names of Llama's config.
fn sizes(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let heads = r.need("attention.head_count")?;
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.into(), value);
    put("hidden_size", r.usize("embedding_length")?.into());
    put("num_hidden_layers", r.usize("block_count")?.into());
    put("num_attention_heads", heads.into());
    put("num_key_value_heads", r.uniform("attention.head_count_kv")?.unwrap_or(heads).into());
    put("intermediate_size", r.need("feed_forward_length")?.into());
    put("vocab_size", r.rows("token_embd.weight")?.into());
    put("max_position_embeddings", r.usize("context_length")?.into());
    Ok(map)
}

/// Llama, and Mistral where the file says a window: llama.cpp's converter does not, and this crate does.
fn llama(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let mut map = gated(r)?;
    if let Some(window) = r.opt_usize("attention.sliding_window")?.filter(|&window| window > 0) {
        map.insert("sliding_window".into(), window.into());
        map.insert("model_type".into(), "mistral".into());
    }
    Ok(map)
}

/// What Llama, Qwen, Gemma and Phi-3 have in common.
fn gated(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let mut map = sizes(r)?;
    let (key, value) = (r.opt_usize("attention.key_length")?, r.opt_usize("attention.value_length")?);
    if key != value && value.is_some() {
        return Err(r.metadata.unsupported(&r.key("attention.value_length")));
    }
    if let Some(size) = key {
        map.insert("head_dim".into(), size.into());
    }
    map.insert("rms_norm_eps".into(), json!(r.metadata.f32(&r.key("attention.layer_norm_rms_epsilon"))?));
    let theta = r.opt_f32("rope.freq_base")?.unwrap_or(10_000.0);
    map.insert("rope_theta".into(), json!(theta));
    if let Some(scaling) = scaling(r)? {
        map.insert("rope_scaling".into(), scaling);
    }
    let head_size = head_size(&map);
    if let Some(turned) = r.opt_usize("rope.dimension_count")?.filter(|turned| Some(*turned) != head_size)
        && r.prefix != "phi3"
    {
        let what = format!("{turned} elements that turn of heads of {}", head_size.unwrap_or(0));
        return Err(r.metadata.error(&r.key("rope.dimension_count"), what));
    }
    Ok(map)
}

fn head_size(map: &Map<String, Value>) -> Option<usize> {
    let get = |key: &str| map.get(key).and_then(Value::as_u64);
    get("head_dim").or_else(|| get("hidden_size")?.checked_div(get("num_attention_heads")?)).map(|n| n as usize)
}

/// `rope.scaling.*`, or the old `rope.scale_linear`, as Hugging Face's object.
fn scaling(r: &Reader<'_>) -> Result<Option<Value>> {
    let key = r.key("rope.scaling.type");
    let kind = r.metadata.opt_str(&key)?;
    let factor = match r.opt_f32("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => r.opt_f32("rope.scale_linear")?,
    };
    match (kind, factor) {
        // 0 is the converter's way to say none
        (Some("none") | None, None) => Ok(None),
        (Some("linear") | None, Some(factor)) if factor == 0.0 || factor == 1.0 => Ok(None),
        (Some("linear") | None, Some(factor)) => Ok(Some(json!({"rope_type": "linear", "factor": factor}))),
        (Some("yarn"), Some(factor)) => {
            let mut map = Map::new();
            map.insert("rope_type".into(), "yarn".into());
            map.insert("factor".into(), json!(factor));
            if let Some(original) = r.opt_usize("rope.scaling.original_context_length")? {
                map.insert("original_max_position_embeddings".into(), original.into());
            }
            // theirs is the whole factor, llama.cpp's is one on top of YaRN's own
            if let Some(times) = r.opt_f32("rope.scaling.attn_factor")?.filter(|&times| times != 1.0) {
                let whole = f64::from(times) * (0.1 * f64::from(factor).max(1.0).ln() + 1.0);
                map.insert("attention_factor".into(), json!(whole));
            }
            for (ours, theirs) in
                [("rope.scaling.yarn_beta_fast", "beta_fast"), ("rope.scaling.yarn_beta_slow", "beta_slow")]
            {
                if let Some(number) = r.opt_f32(ours)? {
                    map.insert(theirs.into(), json!(number));
                }
            }
            Ok(Some(map.into()))
        }
        // frequencies of their own, read from tensors
        (Some("longrope"), _) => Ok(None),
        _ => Err(r.metadata.unsupported(&key)),
    }
}

/// Gemma 2 and 3. What the scores are scaled by is not in the file: it is the head size, but for the models of 27B, which
/// are known by their number of blocks.
fn gemma(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let mut map = gated(r)?;
    let number = |key: &str| map.get(key).and_then(Value::as_u64).unwrap_or(0);
    let (blocks, hidden, heads) =
        (number("num_hidden_layers"), number("hidden_size"), number("num_attention_heads").max(1));
    let large = if r.prefix == "gemma2" { 46 } else { 62 };
    let scalar = match head_size(&map) {
        Some(size) if blocks != large => size as u64,
        _ => hidden / heads,
    };
    map.insert("query_pre_attn_scalar".into(), scalar.into());
    // null is none, and a missing key is not
    let window = r.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
    map.insert("sliding_window".into(), json!(window));
    for (ours, theirs) in
        [("attn_logit_softcapping", "attn_logit_softcapping"), ("final_logit_softcapping", "final_logit_softcapping")]
    {
        let cap = r.opt_f32(ours)?.filter(|&cap| cap != 0.0);
        map.insert(theirs.into(), json!(cap));
    }
    if r.prefix == "gemma3" {
        if r.opt_f32("rope.freq_base")?.is_none() {
            map.insert("rope_theta".into(), json!(1_000_000.0));
        }
        map.insert("rope_local_base_freq".into(), json!(r.opt_f32("rope.freq_base_swa")?.unwrap_or(10_000.0)));
        if let Ok(Some(period)) = r.opt_usize("attention.sliding_window_pattern") {
            map.insert("sliding_window_pattern".into(), period.into());
        }
    }
    Ok(map)
}

fn phi3(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let mut map = gated(r)?;
    let window = r.opt_usize("attention.sliding_window")?.filter(|&window| window > 0);
    map.insert("sliding_window".into(), json!(window));
    let head = head_size(&map).unwrap_or(0);
    let turned = r.opt_usize("rope.dimension_count")?.unwrap_or(head);
    if turned > head || turned == 0 {
        return Err(r.metadata.error(&r.key("rope.dimension_count"), format!("{turned} of heads of {head}")));
    }
    if head > 0 {
        // the share whose product with the head size is this number again
        map.insert("partial_rotary_factor".into(), json!((turned as f64 + 0.25) / head as f64));
    }
    let factors = ["long", "short"].map(|kind| r.vector(&format!("rope_factors_{kind}.weight"), turned / 2));
    if let [Ok(Some(long)), Ok(Some(short))] = &factors {
        let mut scaling = json!({"rope_type": "longrope", "long_factor": long, "short_factor": short});
        if let Some(factor) = r.opt_f32("rope.scaling.attn_factor")? {
            scaling["attention_factor"] = json!(factor);
        }
        map.insert("rope_scaling".into(), scaling);
        let original = r.usize("rope.scaling.original_context_length")?;
        map.insert("original_max_position_embeddings".into(), original.into());
    }
    factors.into_iter().collect::<Result<Vec<_>>>()?;
    Ok(map)
}

fn gpt2(r: &Reader<'_>) -> Result<Map<String, Value>> {
    let mut map = sizes(r)?;
    for (llama, own) in [("hidden_size", "n_embd"), ("num_hidden_layers", "n_layer"), ("num_attention_heads", "n_head")]
    {
        if let Some(value) = map.remove(llama) {
            map.insert(own.into(), value);
        }
    }
    // the converter writes four times the width, whatever the model has
    map.insert("n_inner".into(), r.rows("blk.0.ffn_up.weight")?.into());
    map.insert("n_positions".into(), r.rows("position_embd.weight")?.into());
    map.insert("layer_norm_epsilon".into(), json!(r.metadata.f32(&r.key("attention.layer_norm_epsilon"))?));
    Ok(map)
}

/// BERT and, with positions already counted from 0, RoBERTa.
fn bert(r: &Reader<'_>) -> Result<Map<String, Value>> {
    if r.metadata.bool_or(&r.key("attention.causal"), false)? {
        return Err(r.metadata.unsupported(&r.key("attention.causal")));
    }
    let mut map = sizes(r)?;
    map.insert("max_position_embeddings".into(), r.rows("position_embd.weight")?.into());
    let types = r.gguf.get("token_types.weight").map_or(0, |info| info.shape[0]);
    map.insert("type_vocab_size".into(), types.into());
    map.insert("layer_norm_eps".into(), json!(r.metadata.f32(&r.key("attention.layer_norm_epsilon"))?));
    Ok(map)
}
