//! GPT-2: learned positions, LayerNorms before both sublayers, matrices stored `[in, out]`.

use super::names::{Family, Names};
use super::options::{activation, head_size, inverse_sqrt, layers, refuse_other};
use super::spec::{BlockSpec, LmHead, Placement, Positions, Spec};
use crate::error::Result;
use crate::files::Config;
use crate::kernels::attention::Mask;

pub const FAMILY: Family = Family {
    model_types: &["gpt2"],
    spec,
    names: Names {
        prefixes: &["", "transformer."],
        words: "wte",
        positions: "wpe",
        block: "h.{l}.",
        qkv: &["attn.c_attn"],
        o: "attn.c_proj",
        attention_norm: "ln_1",
        up: &["mlp.c_fc"],
        down: "mlp.c_proj",
        mlp_norm: "ln_2",
        final_norm: "ln_f",
        heads: &["lm_head.weight"],
        transposed: true,
        ..Names::NONE
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_other(config)?;
    let hidden_size = config.usize("n_embd")?;
    let num_attention_heads = config.usize("n_head")?;
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "n_layer")?;
    let scale = match config.bool_or("scale_attn_weights", true)? {
        true => inverse_sqrt(head_size as f64),
        false => 1.0,
    };
    let by_number = config.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let block = |l: usize| {
        let scale = if by_number { scale / (l + 1) as f32 } else { scale };
        BlockSpec { mask: Mask::CAUSAL, rope: None, scale, attention_norm: true }
    };
    Ok(Spec {
        model_type: "gpt2".into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        intermediate_size: config.usize_or("n_inner", hidden_size.saturating_mul(4))?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("n_positions")?,
        positions: Positions::FromZero,
        embedding_norm: false,
        norm_eps: config.f32_or("layer_norm_epsilon", 1e-5)?,
        placement: Placement::Pre,
        blocks: (0..num_hidden_layers).map(block).collect(),
        activation: activation(config, "activation_function", "gelu_new")?,
        final_norm: true,
        head: Some(LmHead { tied: config.bool_or("tie_word_embeddings", true)?, cap: None }),
        ..Spec::neutral()
    })
}
