//! MPNet: RoBERTa's positions, no token types, and a bias of the scores by relative position.

use super::names::{Family, MaskedNames, Names};
use super::options::{activation, head_size, layers, refuse_decoder};
use super::spec::{BlockSpec, MaskedHead, Positions, RelativeBuckets, Spec};
use crate::error::Result;
use crate::files::Config;
use crate::kernels::matmul::Activation;

pub const FAMILY: Family = Family {
    model_types: &["mpnet"],
    spec,
    names: Names {
        prefixes: &["", "mpnet."],
        words: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        embedding_norm: "embeddings.LayerNorm",
        block: "encoder.layer.{l}.",
        qkv: &["attention.attn.q", "attention.attn.k", "attention.attn.v"],
        o: "attention.attn.o",
        attention_norm: "attention.LayerNorm",
        up: &["intermediate.dense"],
        down: "output.dense",
        mlp_norm: "output.LayerNorm",
        masked_heads: &[MaskedNames::ROBERTA],
        relative_bias: "encoder.relative_attention_bias",
        ..Names::NONE
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
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "num_hidden_layers")?;
    Ok(Spec {
        model_type: "mpnet".into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        blocks: vec![BlockSpec::full(head_size); num_hidden_layers],
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        // MPNet's padding index is fixed in transformers
        positions: Positions::AfterPadding { padding_idx: 1 },
        norm_eps: config.f32_or("layer_norm_eps", 1e-12)?,
        activation: activation(config, "hidden_act", "gelu")?,
        relative_bias: Some(RelativeBuckets { buckets, max_distance: 128 }),
        masked_head: Some(MaskedHead {
            activation: Activation::GeluErf,
            dense_bias: true,
            bias: true,
            tied: config.bool_or("tie_word_embeddings", true)?,
        }),
        ..Spec::neutral()
    })
}
