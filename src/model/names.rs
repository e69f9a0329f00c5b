//! What a family is: a reader of its configs, and what its tensors are called and how they lie.

use super::spec::Spec;
use crate::error::Result;
use crate::files::{Config, Source};

/// A family: which configs it reads, and what its tensors are called and how they lie.
pub struct Family {
    /// Values of `model_type`.
    pub model_types: &'static [&'static str],
    /// The config as a spec.
    pub spec: fn(&Config) -> Result<Spec>,
    /// The tensors.
    pub names: Names,
}

/// A family's table of tensor names. Stems get `.weight` and `.bias`; norms also take `.gamma` and `.beta`. What a family
/// does not have is empty.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// What may stand before every name but the heads'.
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
    /// W_Q, W_K and W_V; or one tensor that holds them.
    pub qkv: &'static [&'static str],
    /// How W_Q, W_K and W_V lie in one tensor.
    pub qkv_rows: QkvRows,
    /// Norms of queries and of keys.
    pub qk_norms: [&'static str; 2],
    /// W_O.
    pub o: &'static str,
    /// Norm before attention, and with post-norm blocks the one after it.
    pub attention_norm: &'static str,
    /// Norm of attention's output, before it is added.
    pub attention_post_norm: &'static str,
    /// First matrix of the FFN; gate and up; or one tensor that holds gate, then up.
    pub up: &'static [&'static str],
    /// Second matrix of the FFN.
    pub down: &'static str,
    /// Norm before the FFN, and with post-norm blocks the one after it.
    pub mlp_norm: &'static str,
    /// Norm of the FFN's output, before it is added.
    pub mlp_post_norm: &'static str,
    /// Norm after the last block.
    pub final_norm: &'static str,
    /// What the head may be called, without prefix.
    pub heads: &'static [&'static str],
    /// What the head for masked tokens may be called, without prefix.
    pub masked_heads: &'static [MaskedNames],
    /// Table of relative biases.
    pub relative_bias: &'static str,
    /// Whether the blocks' matrices are stored `[in, out]`.
    pub transposed: bool,
}

impl Names {
    /// Nothing.
    pub const NONE: Names = Names {
        prefixes: &[""],
        words: "",
        positions: "",
        types: "",
        embedding_norm: "",
        block: "",
        qkv: &[],
        qkv_rows: QkvRows::Stacked,
        qk_norms: ["", ""],
        o: "",
        attention_norm: "",
        attention_post_norm: "",
        up: &[],
        down: "",
        mlp_norm: "",
        mlp_post_norm: "",
        final_norm: "",
        heads: &[],
        masked_heads: &[],
        relative_bias: "",
        transposed: false,
    };

    /// The head for masked tokens that a checkpoint holds.
    pub(super) fn masked_head(&self, source: &Source) -> Option<MaskedNames> {
        self.masked_heads.iter().copied().find(|head| source.get(&format!("{}.weight", head.dense)).is_some())
    }
}

/// Tensors of a head for masked tokens, without prefix.
#[derive(Clone, Copy, Debug)]
pub struct MaskedNames {
    /// The dense layer.
    pub dense: &'static str,
    /// The norm behind it.
    pub norm: &'static str,
    /// The decoder's weight, which need not be stored.
    pub decoder: &'static str,
    /// What the decoder's bias may be called.
    pub biases: &'static [&'static str],
}

impl MaskedNames {
    /// RoBERTa's, which others have too.
    pub const ROBERTA: MaskedNames = MaskedNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        decoder: "lm_head.decoder.weight",
        biases: &["lm_head.bias", "lm_head.decoder.bias"],
    };
}

/// How W_Q, W_K and W_V lie in one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkvRows {
    /// All of Q, then all of K, then all of V.
    Stacked,
    /// For each head its q, its k and its v: GPT-NeoX.
    PerHead,
    /// Stacked, and of each head of Q and of K a row of the first half, then the row of the second half that it turns
    /// with, and so on: llama.cpp's Llama.
    Interleaved,
}
