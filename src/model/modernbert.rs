//! ModernBERT: an encoder with rotary positions, a gated FFN, and windows to both sides in most blocks.

use super::names::{Family, MaskedNames, Names};
use super::options::{
    ROTARY, Rotary, activation, attention_biases, head_size, inverse_sqrt, layer_types, layers, period, refuse,
    two_ropes,
};
use super::spec::{BlockSpec, MaskedHead, NormKind, Placement, Positions, Spec};
use crate::error::Result;
use crate::files::Config;
use crate::kernels::attention::Mask;

pub const FAMILY: Family = Family {
    model_types: &["modernbert"],
    spec,
    names: Names {
        prefixes: &["", "model."],
        words: "embeddings.tok_embeddings",
        embedding_norm: "embeddings.norm",
        block: "layers.{l}.",
        qkv: &["attn.Wqkv"],
        o: "attn.Wo",
        attention_norm: "attn_norm",
        up: &["mlp.Wi"],
        down: "mlp.Wo",
        mlp_norm: "mlp_norm",
        final_norm: "final_norm",
        masked_heads: &[MaskedNames {
            dense: "head.dense",
            norm: "head.norm",
            decoder: "decoder.weight",
            biases: &["decoder.bias"],
        }],
        ..Names::NONE
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse(config, &["is_decoder", "add_cross_attention", "is_encoder_decoder"])?;
    if config.has("rope_scaling") {
        return Err(config.unsupported("rope_scaling"));
    }
    let hidden_size = config.usize("hidden_size")?;
    let num_attention_heads = config.usize("num_attention_heads")?;
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "num_hidden_layers")?;
    let full = Rotary { theta: "global_rope_theta", missing_theta: Some(160_000.0), ..ROTARY };
    let local = Rotary { theta: "local_rope_theta", missing_theta: Some(10_000.0), ..ROTARY };
    let side = match config.usize_or("local_attention", 128)? / 2 {
        0 => return Err(config.error("local_attention", "a window of 0 tokens to each side")),
        side => side as u32,
    };
    let period = period(config, "global_attn_every_n_layers", 3)?;
    let windowed = layer_types(config, num_hidden_layers, |l| l % period != 0)?;
    let block = |(l, local): (usize, bool)| BlockSpec {
        mask: if local { Mask { before: side, after: side } } else { Mask::NONE },
        rope: Some(local.into()),
        scale: inverse_sqrt(head_size as f64),
        // the embedding's norm stands right before the first block
        attention_norm: l > 0,
    };
    Ok(Spec {
        model_type: "modernbert".into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        positions: Positions::Rotary,
        norm: if config.bool_or("norm_bias", false)? { NormKind::Layer } else { NormKind::LayerNoBias },
        norm_eps: config.f32_or("norm_eps", 1e-5)?,
        placement: Placement::Pre,
        ropes: two_ropes(config, head_size, &full, &local)?,
        blocks: windowed.into_iter().enumerate().map(block).collect(),
        activation: activation(config, "hidden_activation", "gelu")?,
        gated: true,
        biases: attention_biases(config, false, config.bool_or("mlp_bias", false)?)?,
        final_norm: true,
        masked_head: Some(MaskedHead {
            activation: activation(config, "classifier_activation", "gelu")?,
            dense_bias: config.bool_or("classifier_bias", false)?,
            bias: config.bool_or("decoder_bias", true)?,
            tied: config.bool_or("tie_word_embeddings", true)?,
        }),
        ..Spec::neutral()
    })
}
