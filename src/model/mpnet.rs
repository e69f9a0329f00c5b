//! MPNet: RoBERTa's positions, no token types, and a bias of the scores by relative position.

use super::spec::{Family, Names, Positions, RelativeBuckets, Spec, activation, head_size, refuse_decoder};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["mpnet"],
    spec,
    names: Names {
        prefixes: &["", "mpnet."],
        words: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        types: "",
        embedding_norm: "embeddings.LayerNorm",
        block: "encoder.layer.{l}.",
        q: "attention.attn.q",
        k: "attention.attn.k",
        v: "attention.attn.v",
        o: "attention.attn.o",
        attention_norm: "attention.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        mlp_norm: "output.LayerNorm",
        relative_bias: "encoder.relative_attention_bias",
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_decoder(config)?;
    let hidden_size = config.usize("hidden_size")?;
    let num_attention_heads = config.usize("num_attention_heads")?;
    let buckets = config.usize_or("relative_attention_num_buckets", 32)?;
    if buckets != 32 {
        // transformers computes 32 buckets whatever the config says, so no such model can have been trained
        return Err(config.unsupported("relative_attention_num_buckets"));
    }
    Ok(Spec {
        model_type: "mpnet".into(),
        hidden_size,
        num_hidden_layers: config.usize("num_hidden_layers")?,
        num_attention_heads,
        head_size: head_size(config, hidden_size, num_attention_heads)?,
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        // MPNet's padding index is fixed in transformers
        positions: Positions::AfterPadding { padding_idx: 1 },
        type_vocab_size: 0,
        layer_norm_eps: config.f32_or("layer_norm_eps", 1e-12)?,
        activation: activation(config, "hidden_act")?,
        relative_bias: Some(RelativeBuckets { buckets, max_distance: 128 }),
    })
}
