//! What tensors are to a model, whatever they are called.

use crate::model::Names;

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

/// A role's name as a table has it: without prefix, without the block's own, without `.weight` and `.bias`. Empty where
/// there is no such tensor.
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
        Role::Head => names.heads.first().and_then(|head| head.strip_suffix(".weight")).unwrap_or_default(),
    }
}
