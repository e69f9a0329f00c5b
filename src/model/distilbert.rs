//! DistilBERT: BERT without token types, with names of its own and a fixed epsilon.

use super::spec::{Family, Names, Positions, Spec, activation, head_size, refuse_decoder};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["distilbert"],
    spec,
    names: Names {
        prefixes: &["", "distilbert."],
        words: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        types: "",
        embedding_norm: "embeddings.LayerNorm",
        block: "transformer.layer.{l}.",
        q: "attention.q_lin",
        k: "attention.k_lin",
        v: "attention.v_lin",
        o: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        up: "ffn.lin1",
        down: "ffn.lin2",
        mlp_norm: "output_layer_norm",
        relative_bias: "",
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_decoder(config)?;
    let hidden_size = config.usize("dim")?;
    let num_attention_heads = config.usize("n_heads")?;
    Ok(Spec {
        model_type: "distilbert".into(),
        hidden_size,
        num_hidden_layers: config.usize("n_layers")?,
        num_attention_heads,
        head_size: head_size(config, hidden_size, num_attention_heads)?,
        intermediate_size: config.usize("hidden_dim")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        // sinusoidal positions are stored as a table like learned ones
        positions: Positions::FromZero,
        type_vocab_size: 0,
        layer_norm_eps: 1e-12,
        activation: activation(config, "activation")?,
        relative_bias: None,
    })
}
