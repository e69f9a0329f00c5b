//! What families' configs have in common: both generations of their spelling, and what a missing key means.

use super::names::Names;
use super::rope::{Base, Rope};
use super::spec::{Biases, BlockSpec, LmHead, NormKind, Placement, Positions, Spec};
use crate::error::{Error, Result};
use crate::files::Config;
use crate::kernels::attention::{MAX_HEAD_SIZE, Mask};
use crate::kernels::matmul::Activation;

/// The number of blocks, 1 or more, which is checked before anything is made for each of them.
pub(super) fn layers(config: &Config, key: &str) -> Result<usize> {
    match config.usize(key)? {
        0 => Err(Error::unsupported(config.path(), format!("a model without blocks (`{key}` is 0)"))),
        blocks @ 1..=1024 => Ok(blocks),
        blocks => Err(Error::unsupported(config.path(), format!("{blocks} blocks, above 1024"))),
    }
}

/// The head size of a model whose heads divide its width.
pub(super) fn head_size(config: &Config, hidden_size: usize, heads: usize) -> Result<usize> {
    if heads == 0 || !hidden_size.is_multiple_of(heads) {
        return Err(Error::file(
            config.path(),
            format!("a width of {hidden_size} cannot be divided among {heads} attention heads"),
        ));
    }
    // transformers would turn heads of that size, and attend with others
    if config.opt_usize("head_dim")?.is_some_and(|stated| stated != hidden_size / heads) {
        return Err(config.unsupported("head_dim"));
    }
    Ok(hidden_size / heads)
}

/// The activation under a key, by transformers' names.
pub(super) fn activation(config: &Config, key: &str, missing: &str) -> Result<Activation> {
    match config.str_or(key, missing)? {
        "gelu" | "gelu_python" => Ok(Activation::GeluErf),
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" | "gelu_python_tanh" | "gelu_accurate" => {
            Ok(Activation::GeluTanh)
        }
        "relu" => Ok(Activation::Relu),
        "tanh" => Ok(Activation::Tanh),
        "sigmoid" => Ok(Activation::Sigmoid),
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(config.unsupported(key)),
    }
}

/// Refuses switches that are on.
pub(super) fn refuse(config: &Config, keys: &[&str]) -> Result<()> {
    for key in keys {
        if config.bool_or(key, false)? {
            return Err(config.unsupported(key));
        }
    }
    Ok(())
}

/// Refuses what turns an encoder into something else.
pub(super) fn refuse_decoder(config: &Config) -> Result<()> {
    refuse(config, &["is_decoder", "add_cross_attention", "is_encoder_decoder"])?;
    if config.str_or("position_embedding_type", "absolute")? != "absolute" {
        return Err(config.unsupported("position_embedding_type"));
    }
    Ok(())
}

/// Refuses what turns a decoder into something else, or part of it into a mixture of experts.
pub(super) fn refuse_other(config: &Config) -> Result<()> {
    refuse(config, &["add_cross_attention", "is_encoder_decoder", "use_bidirectional_attention"])?;
    for key in ["num_experts", "num_local_experts", "n_routed_experts"] {
        if config.usize_or(key, 0)? > 0 {
            return Err(config.unsupported(key));
        }
    }
    Ok(())
}

/// n^-½, rounded once.
pub(super) fn inverse_sqrt(n: f64) -> f32 {
    n.sqrt().recip() as f32
}

/// What a gated decoder with RMS norms has where its config does not say.
pub(super) struct Missing {
    /// Heads of keys and values; as many as there are heads where there is no such default.
    pub key_value_heads: Option<usize>,
    /// Head size; the width divided among the heads where there is no such default.
    pub head_dim: Option<usize>,
    /// `rms_norm_eps`.
    pub norm_eps: f32,
    /// Key of the activation, and its default.
    pub activation: (&'static str, &'static str),
    /// `tie_word_embeddings`.
    pub tied: bool,
}

/// Of Llama and most of its relatives.
pub(super) const LLAMA: Missing =
    Missing { key_value_heads: None, head_dim: None, norm_eps: 1e-6, activation: ("hidden_act", "silu"), tied: false };

/// What Llama and its relatives read alike: a gated decoder of pre-norm blocks with RMS norms, without biases. Blocks and
/// rotary embeddings are left to the family.
pub(super) fn gated_decoder(config: &Config, missing: &Missing) -> Result<Spec> {
    refuse_other(config)?;
    let hidden_size = config.usize("hidden_size")?;
    let heads = config.usize("num_attention_heads")?;
    // null means as many as heads, whatever a missing key means
    let shared = match missing.key_value_heads {
        Some(shared) if !config.is_null("num_key_value_heads") => shared,
        _ => heads,
    };
    let head_size = match (config.opt_usize("head_dim")?, missing.head_dim) {
        (Some(size), _) => size,
        (None, Some(_)) if config.is_null("head_dim") => config.usize("head_dim")?,
        (None, Some(size)) => size,
        (None, None) => head_size(config, hidden_size, heads)?,
    };
    let tied = config.bool_or("tie_word_embeddings", missing.tied)?;
    Ok(Spec {
        model_type: config.str("model_type")?.into(),
        hidden_size,
        num_hidden_layers: layers(config, "num_hidden_layers")?,
        num_attention_heads: heads,
        num_key_value_heads: config.usize_or("num_key_value_heads", shared)?,
        head_size,
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        positions: Positions::Rotary,
        embedding_norm: false,
        norm: NormKind::Rms,
        norm_eps: config.f32_or("rms_norm_eps", missing.norm_eps)?,
        placement: Placement::Pre,
        activation: activation(config, missing.activation.0, missing.activation.1)?,
        gated: true,
        biases: Biases { qkv: false, o: false, mlp: false },
        final_norm: true,
        head: Some(LmHead { tied, cap: None }),
        ..Spec::neutral()
    })
}

/// The tensors of Llama and most of its relatives.
pub(super) const LLAMA_NAMES: Names = Names {
    prefixes: &["model.", ""],
    words: "embed_tokens",
    block: "layers.{l}.",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    qk_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    o: "self_attn.o_proj",
    attention_norm: "input_layernorm",
    up: &["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    mlp_norm: "post_attention_layernorm",
    final_norm: "norm",
    heads: &["lm_head.weight"],
    ..Names::NONE
};

/// `attention_bias`, which is for W_Q, W_K, W_V and W_O.
pub(super) fn attention_biases(config: &Config, missing: bool, mlp: bool) -> Result<Biases> {
    let attention = config.bool_or("attention_bias", missing)?;
    Ok(Biases { qkv: attention, o: attention, mlp })
}

/// A window under a key: null is none.
pub(super) fn window(config: &Config, key: &str, missing: Option<usize>) -> Result<Option<usize>> {
    match config.opt_usize(key)? {
        Some(0) => Err(config.error(key, "a window of 0 tokens")),
        None if config.is_null(key) => Ok(None),
        window => Ok(window.or(missing)),
    }
}

/// Which blocks have a window: `layer_types`, or where the key is missing what `pattern` says of a block's number.
pub(super) fn layer_types(config: &Config, layers: usize, pattern: impl Fn(usize) -> bool) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let Some(types) = config.opt_strings(KEY)? else { return Ok((0..layers).map(pattern).collect()) };
    if types.len() != layers {
        return Err(config.error(KEY, format!("expected {layers} entries, one for each block, found {}", types.len())));
    }
    let windowed = |name: &str| match name {
        "full_attention" | "attention" => Ok(false),
        "sliding_attention" => Ok(true),
        _ => Err(Error::unsupported(config.path(), format!("`{KEY}` with an entry {name:?}"))),
    };
    types.into_iter().map(windowed).collect()
}

/// The number of blocks after which a pattern repeats.
pub(super) fn period(config: &Config, key: &str, missing: usize) -> Result<usize> {
    match config.usize_or(key, missing)? {
        0 => Err(config.error(key, "a pattern of 0 blocks")),
        period => Ok(period),
    }
}

/// Causal blocks that share the first rotary embedding; `windowed` says which have the window.
pub(super) fn causal(windowed: &[bool], window: Option<usize>, scale: f32, config: &Config) -> Result<Vec<BlockSpec>> {
    let block = |&windowed: &bool| {
        let mask = match (windowed, window) {
            (false, _) => Mask::CAUSAL,
            (true, Some(window)) => Mask::window(window as u32),
            (true, None) => {
                let what = "blocks of the type \"sliding_attention\" without a `sliding_window`";
                return Err(Error::unsupported(config.path(), what));
            }
        };
        Ok(BlockSpec { mask, rope: Some(0), scale, attention_norm: true })
    };
    windowed.iter().map(block).collect()
}

/// How a family spells a rotary embedding.
pub(super) struct Rotary {
    /// Key of the base, where it is not in the embedding's own object.
    pub theta: &'static str,
    /// The base where it is nowhere; a missing one is an error where no published model leaves it out.
    pub missing_theta: Option<f64>,
    /// Key of the share of a head that turns, and its default; `None` in families that turn whole heads.
    pub partial: Option<(&'static str, f64)>,
    /// `original_max_position_embeddings` where it is missing at the top, whatever the embedding's object says.
    pub original: Option<usize>,
    /// Names of scalings, and what they mean.
    pub kinds: &'static [(&'static str, &'static str)],
}

/// Of most families.
pub(super) const ROTARY: Rotary = Rotary {
    theta: "rope_theta",
    missing_theta: None,
    partial: None,
    original: None,
    kinds: &[
        ("default", "default"),
        ("linear", "linear"),
        ("dynamic", "dynamic"),
        ("llama3", "llama3"),
        ("yarn", "yarn"),
        ("longrope", "longrope"),
        ("su", "longrope"),
    ],
};

const KINDS_OF_BLOCKS: [&str; 2] = ["full_attention", "sliding_attention"];
const ORIGINAL: &str = "original_max_position_embeddings";
const PARTIAL: &str = "partial_rotary_factor";

/// The rotary embedding that all blocks share: `rope_scaling` with keys beside it, or `rope_parameters`.
pub(super) fn rope(config: &Config, head_size: usize, rotary: &Rotary) -> Result<Rope> {
    let (key, object) = match scaling(config)? {
        Some(object) => ("rope_scaling", object),
        None => ("rope_parameters", object(config, "rope_parameters")?),
    };
    if KINDS_OF_BLOCKS.iter().any(|kind| object.has(kind)) {
        return Err(Error::unsupported(config.path(), format!("`{key}` for each kind of block in this family")));
    }
    let original = match (config.opt_usize(ORIGINAL)?, rotary.original) {
        (Some(original), _) | (None, Some(original)) => Some(original),
        (None, None) => None,
    };
    one_rope(config, &object, head_size, rotary, original)
}

/// The rotary embeddings of blocks that see everything and of those with a window: `rope_parameters` has one object for
/// each, or there are none, and `scaling` of the former lies in `rope_scaling`.
pub(super) fn two_ropes(config: &Config, head_size: usize, full: &Rotary, local: &Rotary) -> Result<Vec<Rope>> {
    let parameters = object(config, "rope_parameters")?;
    if let Some(key) = parameters.keys().find(|key| !KINDS_OF_BLOCKS.contains(key)) {
        let what = format!("expected an object for each of {}, found {key:?}", KINDS_OF_BLOCKS.join(" and "));
        return Err(config.error("rope_parameters", what));
    }
    let global = match scaling(config)? {
        None => object(&parameters, KINDS_OF_BLOCKS[0])?,
        // transformers would pass over it in silence
        Some(scaling) if scaling.has("type") && !scaling.has("rope_type") => return Err(scaling.unsupported("type")),
        Some(_) if config.has("rope_parameters") => {
            return Err(config.error("rope_scaling", "`rope_parameters` says the same again"));
        }
        Some(scaling) => scaling,
    };
    let windowed = object(&parameters, KINDS_OF_BLOCKS[1])?;
    let one = |object, rotary| one_rope(config, object, head_size, rotary, None);
    Ok(vec![one(&global, full)?, one(&windowed, local)?])
}

/// `rope_scaling`, unless it says nothing.
fn scaling(config: &Config) -> Result<Option<Config>> {
    Ok(config.opt_object("rope_scaling")?.filter(|object| object.keys().next().is_some()))
}

/// The object of a key, empty where there is none.
fn object(config: &Config, key: &str) -> Result<Config> {
    Ok(config.opt_object(key)?.unwrap_or_else(|| Config::from_map(config.path(), serde_json::Map::new())))
}

fn one_rope(
    config: &Config,
    object: &Config,
    head_size: usize,
    rotary: &Rotary,
    original: Option<usize>,
) -> Result<Rope> {
    let key = if object.has("rope_type") || object.is_null("rope_type") { "rope_type" } else { "type" };
    let name = if object.is_null(key) { return Err(object.unsupported(key)) } else { object.str_or(key, "default")? };
    let Some(&(_, kind)) = rotary.kinds.iter().find(|(known, _)| *known == name) else {
        return Err(object.unsupported(key));
    };
    let theta = match rotary.missing_theta {
        _ if object.has("rope_theta") || object.is_null("rope_theta") => object.f64("rope_theta")?,
        Some(theta) if !config.has(rotary.theta) && !config.is_null(rotary.theta) => theta,
        _ => config.f64(rotary.theta)?,
    };
    if theta <= 0.0 {
        return Err(config.error(rotary.theta, format!("expected a base above 0, found {theta}")));
    }
    let dims = turned(config, object, head_size, rotary, kind)?;
    let length = config.usize("max_position_embeddings")?;
    let original = match original {
        Some(original) => original,
        None => object.usize_or(ORIGINAL, length)?,
    };
    if original == 0 || length == 0 {
        return Err(config.error(if length == 0 { "max_position_embeddings" } else { ORIGINAL }, "a length of 0"));
    }
    Rope::read(object, &Base { kind, dims, theta, length, original })
}

/// Elements of a head that turn.
fn turned(config: &Config, object: &Config, head_size: usize, rotary: &Rotary, kind: &str) -> Result<usize> {
    if head_size > MAX_HEAD_SIZE {
        return Err(Error::unsupported(config.path(), format!("a head size of {head_size}, above {MAX_HEAD_SIZE}")));
    }
    let (key, missing) = rotary.partial.unwrap_or((PARTIAL, 1.0));
    let (holder, key) = if object.has(PARTIAL) { (object, PARTIAL) } else { (config, key) };
    let dims = match rotary.partial {
        // transformers turns the whole head there, whatever the key says
        None if kind == "default" => head_size,
        _ => (head_size as f64 * holder.opt_f64(key)?.unwrap_or(missing)) as usize,
    };
    let whole = rotary.partial.is_some() || dims == head_size;
    if head_size > 0 && (dims == 0 || dims > head_size || !whole) {
        return Err(holder.unsupported(key));
    }
    // an odd number of elements is rounded up to pairs
    if dims.next_multiple_of(2) > head_size {
        let what = format!("rotation of all elements of an odd head size, {head_size}");
        return Err(Error::unsupported(config.path(), what));
    }
    Ok(dims)
}
