//! GPT-NeoX and Pythia: attention and FFN side by side, and a part of each head that turns.

use super::names::{Family, Names, QkvRows};
use super::options::{
    ROTARY, Rotary, activation, attention_biases, causal, head_size, inverse_sqrt, layers, refuse_other, rope,
};
use super::spec::{LmHead, Placement, Positions, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    spec,
    names: Names {
        prefixes: &["gpt_neox.", ""],
        words: "embed_in",
        block: "layers.{l}.",
        qkv: &["attention.query_key_value"],
        qkv_rows: QkvRows::PerHead,
        o: "attention.dense",
        attention_norm: "input_layernorm",
        up: &["mlp.dense_h_to_4h"],
        down: "mlp.dense_4h_to_h",
        mlp_norm: "post_attention_layernorm",
        final_norm: "final_layer_norm",
        heads: &["embed_out.weight", "lm_head.weight"],
        ..Names::NONE
    },
};

const NEOX: Rotary =
    Rotary { theta: "rotary_emb_base", missing_theta: Some(10_000.0), partial: Some(("rotary_pct", 0.25)), ..ROTARY };

fn spec(config: &Config) -> Result<Spec> {
    refuse_other(config)?;
    let hidden_size = config.usize("hidden_size")?;
    let num_attention_heads = config.usize("num_attention_heads")?;
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "num_hidden_layers")?;
    Ok(Spec {
        model_type: "gpt_neox".into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        positions: Positions::Rotary,
        embedding_norm: false,
        norm_eps: config.f32_or("layer_norm_eps", 1e-5)?,
        placement: match config.bool_or("use_parallel_residual", true)? {
            true => Placement::Parallel,
            false => Placement::Pre,
        },
        blocks: causal(&vec![false; num_hidden_layers], None, inverse_sqrt(head_size as f64), config)?,
        ropes: vec![rope(config, head_size, &NEOX)?],
        activation: activation(config, "hidden_act", "gelu")?,
        biases: attention_biases(config, true, true)?,
        final_norm: true,
        head: Some(LmHead { tied: config.bool_or("tie_word_embeddings", false)?, cap: None }),
        ..Spec::neutral()
    })
}
