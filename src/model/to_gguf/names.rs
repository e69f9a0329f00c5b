//! What llama.cpp calls a model's tensors: one table for every architecture.

use crate::model::{Names, Placement};

/// What a tensor is in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Word table.
    Words,
    /// Position table.
    Positions,
    /// Type table.
    Types,
    /// Norm of the embedding sum.
    EmbeddingNorm,
    /// Norm before attention; of post-norm blocks the one after it.
    AttentionNorm,
    /// W_Q.
    Q,
    /// W_K.
    K,
    /// W_V.
    V,
    /// W_Q, W_K and W_V in one.
    Qkv,
    /// Norm of queries.
    QNorm,
    /// Norm of keys.
    KNorm,
    /// W_O.
    O,
    /// Norm of attention's output.
    AttentionPostNorm,
    /// Norm before the FFN; of post-norm blocks the one after it.
    MlpNorm,
    /// The gate of the FFN.
    Gate,
    /// First matrix of the FFN; gate and up in one where they are stored so.
    Up,
    /// Second matrix of the FFN.
    Down,
    /// Norm of the FFN's output.
    MlpPostNorm,
    /// Norm after the last block.
    FinalNorm,
    /// The language model's head.
    Head,
}

/// Each role's name in a file, without `.weight` and `.bias`; `{l}` is the block's number. Of a role that has two names
/// the second one is that of post-norm blocks.
pub const GGUF_NAMES: [(Role, &str); 22] = [
    (Role::Words, "token_embd"),
    (Role::Positions, "position_embd"),
    (Role::Types, "token_types"),
    (Role::EmbeddingNorm, "token_embd_norm"),
    (Role::AttentionNorm, "blk.{l}.attn_norm"),
    (Role::AttentionNorm, "blk.{l}.attn_output_norm"),
    (Role::Q, "blk.{l}.attn_q"),
    (Role::K, "blk.{l}.attn_k"),
    (Role::V, "blk.{l}.attn_v"),
    (Role::Qkv, "blk.{l}.attn_qkv"),
    (Role::QNorm, "blk.{l}.attn_q_norm"),
    (Role::KNorm, "blk.{l}.attn_k_norm"),
    (Role::O, "blk.{l}.attn_output"),
    (Role::AttentionPostNorm, "blk.{l}.post_attention_norm"),
    (Role::MlpNorm, "blk.{l}.ffn_norm"),
    (Role::MlpNorm, "blk.{l}.layer_output_norm"),
    (Role::Gate, "blk.{l}.ffn_gate"),
    (Role::Up, "blk.{l}.ffn_up"),
    (Role::Down, "blk.{l}.ffn_down"),
    (Role::MlpPostNorm, "blk.{l}.post_ffw_norm"),
    (Role::FinalNorm, "output_norm"),
    (Role::Head, "output"),
];

/// A role's name in a GGUF file, without `.weight` and `.bias`; `block` counts from 0 and is not looked at outside of
/// blocks.
pub fn gguf_name(role: Role, block: usize, placement: Placement) -> String {
    let mut names = GGUF_NAMES.iter().filter(|(other, _)| *other == role).map(|(_, name)| *name);
    let first = names.next().unwrap_or_default();
    let name = if placement == Placement::Post { names.next().unwrap_or(first) } else { first };
    name.replace("{l}", &block.to_string())
}

/// A role's name in a Hugging Face folder, as the family's table has it: without prefix, without the block's own,
/// without `.weight` and `.bias`. Empty where the family has no such tensor.
pub fn stem(role: Role, names: &Names) -> &'static str {
    let of = |list: &'static [&'static str], length: usize, i: usize| {
        if list.len() == length { list[i] } else { "" }
    };
    let gated = names.up.len() == 2;
    match role {
        Role::Words => names.words,
        Role::Positions => names.positions,
        Role::Types => names.types,
        Role::EmbeddingNorm => names.embedding_norm,
        Role::AttentionNorm => names.attention_norm,
        Role::Q => of(names.qkv, 3, 0),
        Role::K => of(names.qkv, 3, 1),
        Role::V => of(names.qkv, 3, 2),
        Role::Qkv => of(names.qkv, 1, 0),
        Role::QNorm => names.qk_norms[0],
        Role::KNorm => names.qk_norms[1],
        Role::O => names.o,
        Role::AttentionPostNorm => names.attention_post_norm,
        Role::MlpNorm => names.mlp_norm,
        Role::Gate => of(names.up, 2, 0),
        Role::Up if gated => names.up[1],
        Role::Up => of(names.up, 1, 0),
        Role::Down => names.down,
        Role::MlpPostNorm => names.mlp_post_norm,
        Role::FinalNorm => names.final_norm,
        // heads are whole names
        Role::Head => "",
    }
}
