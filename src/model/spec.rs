//! What a model is, apart from its weights: the numbers of its config and the choices of its family, as plain data.

use crate::error::{Error, Result};
use crate::files::Config;
use crate::kernels::attention::MAX_HEAD_SIZE;
use crate::kernels::matmul::Activation;

/// A post-norm encoder: O = LayerNorm(X + Attention(X)), H = LayerNorm(O + FFN(O)), after an embedding sum and its norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `model_type` of the config.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// Width of the FFN.
    pub intermediate_size: usize,
    /// Rows of the word table.
    pub vocab_size: usize,
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// How positions are numbered.
    pub positions: Positions,
    /// Rows of the type table; 0 where there is none.
    pub type_vocab_size: usize,
    /// Added to the variance in every norm.
    pub layer_norm_eps: f32,
    /// Of the FFN.
    pub activation: Activation,
    /// Bias of the scores by relative position, shared by all blocks.
    pub relative_bias: Option<RelativeBuckets>,
}

/// How positions are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// 0, 1, 2 …
    FromZero,
    /// RoBERTa's: tokens other than the padding id count up from `padding_idx + 1`; the padding id itself, which a text
    /// may spell out, gets `padding_idx` and is not counted.
    AfterPadding {
        /// The padding id.
        padding_idx: u32,
    },
}

/// T5's buckets for relative positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBuckets {
    /// Rows of the table, half of them for each direction.
    pub buckets: usize,
    /// Distances from here on share the last bucket.
    pub max_distance: usize,
}

/// A family: which configs it reads, and what its tensors are called.
pub struct Family {
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// The config as a spec.
    pub spec: fn(&Config) -> Result<Spec>,
    /// The tensors.
    pub names: Names,
}

/// A family's table of tensor names. Stems get `.weight` and `.bias`; norms also take `.gamma` and `.beta`.
pub struct Names {
    /// What may stand before every name.
    pub prefixes: &'static [&'static str],
    /// Word table.
    pub words: &'static str,
    /// Position table.
    pub positions: &'static str,
    /// Type table.
    pub types: &'static str,
    /// Norm of the embedding sum.
    pub embedding_norm: &'static str,
    /// What stands before the names of block `{l}`.
    pub block: &'static str,
    /// W_Q.
    pub q: &'static str,
    /// W_K.
    pub k: &'static str,
    /// W_V.
    pub v: &'static str,
    /// W_O.
    pub o: &'static str,
    /// Norm after attention.
    pub attention_norm: &'static str,
    /// First matrix of the FFN.
    pub up: &'static str,
    /// Second matrix of the FFN.
    pub down: &'static str,
    /// Norm after the FFN.
    pub mlp_norm: &'static str,
    /// Table of relative biases.
    pub relative_bias: &'static str,
}

impl Spec {
    /// Reads a config.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by name for what this engine does not do, [`Error::File`] for a damaged config.
    pub fn read(config: &Config) -> Result<(Self, &'static Family)> {
        let model_type = config.str("model_type")?;
        let Some(family) = super::FAMILIES.iter().find(|f| f.model_types.contains(&model_type)) else {
            let known: Vec<_> = super::FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
            return Err(Error::unsupported(
                config.path(),
                format!("model_type {model_type:?}; supported are {}", known.join(", ")),
            ));
        };
        let spec = (family.spec)(config)?;
        spec.check(config)?;
        Ok((spec, family))
    }

    /// Most tokens that the position table serves.
    pub fn max_tokens(&self) -> usize {
        match self.positions {
            Positions::FromZero => self.max_position_embeddings,
            Positions::AfterPadding { padding_idx } => {
                self.max_position_embeddings.saturating_sub(padding_idx as usize + 1)
            }
        }
    }

    /// Positions of a sequence's tokens.
    pub fn positions_of(&self, ids: &[u32]) -> Vec<u32> {
        match self.positions {
            Positions::FromZero => (0..ids.len() as u32).collect(),
            Positions::AfterPadding { padding_idx } => {
                let mut last = padding_idx;
                let mut next = |id| {
                    if id == padding_idx {
                        return padding_idx;
                    }
                    last += 1;
                    last
                };
                ids.iter().map(|&id| next(id)).collect()
            }
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let sizes = [
            ("hidden size", self.hidden_size),
            ("number of heads", self.num_attention_heads),
            ("head size", self.head_size),
            ("FFN size", self.intermediate_size),
            ("vocabulary size", self.vocab_size),
            ("number of positions", self.max_tokens()),
        ];
        if let Some((name, _)) = sizes.iter().find(|(_, size)| *size == 0) {
            return Err(Error::file(config.path(), format!("the {name} is 0")));
        }
        // keeps every product of two sizes below 2^32, which is what kernels index with
        if let Some((name, size)) = sizes.iter().find(|(name, size)| *size > 1 << 16 && *name != "vocabulary size") {
            return Err(Error::unsupported(config.path(), format!("a {name} of {size}, above 65536")));
        }
        if self.num_hidden_layers > 1024 {
            return Err(Error::unsupported(config.path(), format!("{} blocks", self.num_hidden_layers)));
        }
        if self.head_size > MAX_HEAD_SIZE {
            return Err(Error::unsupported(
                config.path(),
                format!("heads of {} elements, above {MAX_HEAD_SIZE}", self.head_size),
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(Error::file(config.path(), format!("a layer norm epsilon of {}", self.layer_norm_eps)));
        }
        Ok(())
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
    Ok(hidden_size / heads)
}

/// The activation under a key, by transformers' names.
pub(super) fn activation(config: &Config, key: &str) -> Result<Activation> {
    match config.str_or(key, "gelu")? {
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

/// Refuses what turns an encoder into something else.
pub(super) fn refuse_decoder(config: &Config) -> Result<()> {
    for key in ["is_decoder", "add_cross_attention", "is_encoder_decoder"] {
        if config.bool_or(key, false)? {
            return Err(config.unsupported(key));
        }
    }
    if config.str_or("position_embedding_type", "absolute")? != "absolute" {
        return Err(config.unsupported("position_embedding_type"));
    }
    Ok(())
}
