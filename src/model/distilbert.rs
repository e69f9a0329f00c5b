//! DistilBERT: BERT without token types, with names of its own and a fixed epsilon.

use super::names::{Family, MaskedNames, Names};
use super::options::{activation, head_size, layers, refuse_decoder};
use super::spec::{BlockSpec, MaskedHead, Positions, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["distilbert"],
    spec,
    names: Names {
        prefixes: &["", "distilbert."],
        words: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        embedding_norm: "embeddings.LayerNorm",
        block: "transformer.layer.{l}.",
        qkv: &["attention.q_lin", "attention.k_lin", "attention.v_lin"],
        o: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        up: &["ffn.lin1"],
        down: "ffn.lin2",
        mlp_norm: "output_layer_norm",
        masked_heads: &[MaskedNames {
            dense: "vocab_transform",
            norm: "vocab_layer_norm",
            decoder: "vocab_projector.weight",
            biases: &["vocab_projector.bias"],
        }],
        ..Names::NONE
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_decoder(config)?;
    let hidden_size = config.usize("dim")?;
    let num_attention_heads = config.usize("n_heads")?;
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "n_layers")?;
    let activation = activation(config, "activation", "gelu")?;
    Ok(Spec {
        model_type: "distilbert".into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        blocks: vec![BlockSpec::full(head_size); num_hidden_layers],
        intermediate_size: config.usize("hidden_dim")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        // sinusoidal positions are stored as a table like learned ones
        positions: Positions::FromZero,
        activation,
        masked_head: Some(MaskedHead {
            activation,
            dense_bias: true,
            bias: true,
            tied: config.bool_or("tie_word_embeddings", true)?,
        }),
        ..Spec::neutral()
    })
}
