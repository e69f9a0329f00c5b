//! A spec as llama.cpp's keys, and what llama.cpp's architectures cannot say: that is refused, since a file would load
//! and compute something else.

use std::path::Path;

use super::architecture::{ARCHITECTURES, Architecture, Windows};
use crate::error::{Error, Result};
use crate::files::gguf::{Array, Value};
use crate::files::{Config, GgmlType, Pooling, SentenceConfig};
use crate::kernels::attention::Mask;
use crate::model::{NormKind, Positions, Rope, Scaling, Spec};

/// Keys and values, in the file's order.
pub type Keys = Vec<(String, Value)>;

/// Tensors of numbers that stand for a rotary embedding: a name, and a number for each pair.
pub type Factors = Vec<(&'static str, Vec<f32>)>;

/// The architecture of a model, once it is known to be able to say everything that the spec says.
pub fn architecture(spec: &Spec, config: &Config) -> Result<&'static Architecture> {
    let unsupported = |what: String| Err(Error::unsupported(config.path(), what));
    let Some(arch) = ARCHITECTURES.iter().find(|a| a.model_types.contains(&spec.model_type.as_str())) else {
        let known: Vec<_> = ARCHITECTURES.iter().flat_map(|a| a.model_types).copied().collect();
        let (found, known) = (&spec.model_type, known.join(", "));
        return unsupported(format!("model_type {found:?} in a GGUF file; supported are {known}"));
    };
    let name = arch.name;
    if !arch.activations.contains(&spec.activation) {
        return unsupported(format!("an FFN with {:?}, which the architecture {name} does not have", spec.activation));
    }
    let scale = arch.scale(spec);
    if let Some(block) = spec.blocks.iter().find(|b| (b.scale - scale).abs() > 1e-5 * scale) {
        let what = format!("scores multiplied by {}, which the architecture {name} multiplies by {scale}", block.scale);
        return unsupported(what);
    }
    let (biases, may) = (spec.biases, arch.biases);
    if (biases.qkv && !may.qkv) || (biases.o && !may.o) || (biases.mlp && !may.mlp) {
        return unsupported(format!("biases that the architecture {name} does not have"));
    }
    let caps = (spec.attention_cap.is_some(), spec.head.is_some_and(|head| head.cap.is_some()));
    if arch.capped && caps != (true, true) {
        return unsupported(format!("the architecture {name} without one of its soft caps"));
    }
    if arch.square && spec.num_attention_heads * spec.head_size != spec.hidden_size {
        return unsupported(format!("the architecture {name} with heads that are not as wide as the model together"));
    }
    let windowed = spec.blocks.iter().filter(|b| b.mask.before != Mask::CAUSAL.before).count();
    let takes = match arch.windows {
        Windows::None => windowed == 0,
        Windows::All => windowed == 0 || windowed == spec.blocks.len(),
        Windows::Pattern => true,
    };
    if !takes || (windowed == 0 && arch.capped) {
        return unsupported(format!("{windowed} blocks with a window, which the architecture {name} cannot say"));
    }
    Ok(arch)
}

fn string(text: &str) -> Value {
    Value::String(text.as_bytes().into())
}

fn u32(n: usize) -> Value {
    // a spec's sizes are far below
    Value::U32(u32::try_from(n).unwrap_or(u32::MAX))
}

/// `general.…`: what the file is.
pub fn general(arch: &Architecture, dir: &Path, to: GgmlType) -> Keys {
    let file_type = match to {
        GgmlType::F32 => 0,
        GgmlType::F16 => 1,
        GgmlType::Q4_0 => 2,
        _ => 7,
    };
    // of a path such as `.` too
    let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.into());
    let name = whole.file_name().map_or_else(|| arch.name.into(), |name| name.to_string_lossy().into_owned());
    vec![
        ("general.architecture".into(), string(arch.name)),
        ("general.type".into(), string("model")),
        ("general.name".into(), string(&name)),
        ("general.file_type".into(), Value::U32(file_type)),
        ("general.quantization_version".into(), Value::U32(2)),
    ]
}

/// `ARCHITECTURE.…`: the model's numbers; and what is a tensor there though it is a number in config.json.
pub fn model(arch: &Architecture, spec: &Spec, config: &Config, sentence: &SentenceConfig) -> Result<(Keys, Factors)> {
    let mut keys = Keys::new();
    let mut put = |key: &str, value: Value| keys.push((format!("{}.{key}", arch.name), value));
    put("vocab_size", u32(spec.vocab_size));
    put("context_length", u32(spec.max_position_embeddings));
    put("embedding_length", u32(spec.hidden_size));
    put("block_count", u32(spec.num_hidden_layers));
    put("feed_forward_length", u32(spec.intermediate_size));
    put("attention.head_count", u32(spec.num_attention_heads));
    put("attention.head_count_kv", u32(spec.num_key_value_heads));
    let epsilon = match spec.norm {
        NormKind::Layer | NormKind::LayerNoBias => "attention.layer_norm_epsilon",
        NormKind::Rms | NormKind::RmsPlusOne => "attention.layer_norm_rms_epsilon",
    };
    put(epsilon, Value::F32(spec.norm_eps));
    if let Some(cap) = spec.attention_cap {
        put("attn_logit_softcapping", Value::F32(cap));
    }
    if let Some(cap) = spec.head.and_then(|head| head.cap) {
        put("final_logit_softcapping", Value::F32(cap));
    }
    let windows: Vec<bool> = spec.blocks.iter().map(|b| b.mask.before != Mask::CAUSAL.before).collect();
    if let Some(block) = spec.blocks.iter().zip(&windows).find_map(|(block, &windowed)| windowed.then_some(block)) {
        put("attention.sliding_window", Value::U32(block.mask.before + 1));
        if arch.windows == Windows::Pattern {
            put("attention.sliding_window_pattern", Value::Array(Array::Bool(windows)));
        }
    } else if arch.name == "phi3" {
        // without the key, readers take it for one of the first files, which lacked it
        put("attention.sliding_window", Value::U32(0));
    }
    if spec.type_vocab_size > 0 {
        put("attention.causal", Value::Bool(false));
        put("pooling_type", Value::U32(pooling(sentence)?));
        keys.push(("tokenizer.ggml.token_type_count".into(), u32(spec.type_vocab_size)));
    }
    if spec.positions != Positions::Rotary {
        return Ok((keys, Factors::new()));
    }
    let mut put = |key: &str, value: Value| keys.push((format!("{}.{key}", arch.name), value));
    put("attention.key_length", u32(spec.head_size));
    put("attention.value_length", u32(spec.head_size));
    let factors = rotary(arch, spec, config, &mut put)?;
    Ok((keys, factors))
}

/// The number of a pooling. What follows it, the normalisation, is the reader's business.
fn pooling(sentence: &SentenceConfig) -> Result<u32> {
    let path = sentence.transformer_dir.join("config.json");
    if !sentence.dense.is_empty() {
        return Err(Error::unsupported(path, "dense layers after the pooling in a GGUF file"));
    }
    match sentence.pooling[..] {
        [Pooling::Mean] => Ok(1),
        [Pooling::Cls] => Ok(2),
        [Pooling::LastToken] => Ok(3),
        _ => {
            let names: Vec<_> = sentence.pooling.iter().map(|mode| mode.name()).collect();
            Err(Error::unsupported(path, format!("pooling {} in a GGUF file", names.join("+"))))
        }
    }
}

/// The object of config.json that describes the rotary embedding of blocks that see everything.
fn rope_object(config: &Config) -> Result<Config> {
    if let Some(object) = config.opt_object("rope_scaling")?.filter(|object| object.keys().next().is_some()) {
        return Ok(object);
    }
    let empty = || Config::from_map(config.path(), serde_json::Map::new());
    let object = config.opt_object("rope_parameters")?.unwrap_or_else(empty);
    Ok(object.opt_object("full_attention")?.unwrap_or(object))
}

fn rotary(arch: &Architecture, spec: &Spec, config: &Config, put: &mut impl FnMut(&str, Value)) -> Result<Factors> {
    let unsupported = |what: String| Err(Error::unsupported(config.path(), what));
    let Some(rope) = spec.ropes.first() else { return Ok(Factors::new()) };
    if rope.dims % 2 != 0 || (rope.dims != spec.head_size && arch.name != "phi3") {
        let (dims, size) = (rope.dims, spec.head_size);
        return unsupported(format!("rotation of {dims} of {size} elements in the architecture {}", arch.name));
    }
    put("rope.dimension_count", u32(rope.dims));
    put("rope.freq_base", Value::F32(rope.theta));
    if let Some(local) = spec.ropes.get(1) {
        if local.scaling != Scaling::None {
            return unsupported("a scaled rotation of blocks with a window".into());
        }
        put("rope.freq_base_swa", Value::F32(local.theta));
    }
    let object = rope_object(config)?;
    let kind = match object.opt_str("rope_type")? {
        Some(kind) => kind,
        None => object.str_or("type", "default")?,
    };
    let refused = || unsupported(format!("{kind} rotation in the architecture {}", arch.name));
    match (&rope.scaling, kind) {
        (Scaling::None, _) => {
            if arch.name == "phi3" {
                put("rope.scaling.original_context_length", u32(spec.max_position_embeddings));
            }
        }
        (Scaling::Fixed(_), "linear") => {
            put("rope.scaling.type", string("linear"));
            put("rope.scaling.factor", Value::F32(object.f32("factor")?));
        }
        (Scaling::Fixed(_), "yarn") => {
            if !object.bool_or("truncate", true)? || object.is_null("factor") {
                return unsupported("yarn rotation that is not cut to whole elements, or without a factor".into());
            }
            let factor = object.f32("factor")?;
            put("rope.scaling.type", string("yarn"));
            put("rope.scaling.factor", Value::F32(factor));
            let original = match config.opt_usize("original_max_position_embeddings")? {
                Some(original) => original,
                None => object.usize_or("original_max_position_embeddings", spec.max_position_embeddings)?,
            };
            put("rope.scaling.original_context_length", u32(original));
            // the usual factor of cos and sin is the readers' own doing; this is what comes on top
            let usual = if factor <= 1.0 { 1.0 } else { 0.1 * f64::from(factor).ln() + 1.0 };
            let more = (f64::from(rope.attention_factor) / usual) as f32;
            if (more - 1.0).abs() > 1e-6 {
                put("rope.scaling.attn_factor", Value::F32(more));
            }
            for (key, usual) in [("beta_fast", 32.0), ("beta_slow", 1.0)] {
                let beta = object.opt_f32(key)?.filter(|&beta| beta != 0.0).unwrap_or(usual);
                put(&format!("rope.scaling.yarn_{key}"), Value::F32(beta));
            }
        }
        (Scaling::Fixed(scaled), "llama3") if arch.name == "llama" => {
            let plain = Rope { scaling: Scaling::None, ..rope.clone() }.frequencies(0);
            return Ok(vec![("rope_freqs.weight", plain.iter().zip(scaled).map(|(p, s)| p / s).collect())]);
        }
        (Scaling::LongRope { original, .. }, _) if arch.name == "phi3" => {
            put("rope.scaling.original_context_length", u32(*original));
            put("rope.scaling.attn_factor", Value::F32(rope.attention_factor));
            let (long, short) = (object.f32s("long_factor")?, object.f32s("short_factor")?);
            return Ok(vec![("rope_factors_long.weight", long), ("rope_factors_short.weight", short)]);
        }
        _ => return refused(),
    }
    Ok(Factors::new())
}
