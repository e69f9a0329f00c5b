//! Gemma 2: norms around both sublayers, soft caps, and a window in every other block.

use super::names::{Family, Names};
use super::options::{
    LLAMA, LLAMA_NAMES, Missing, ROTARY, attention_biases, causal, gated_decoder, inverse_sqrt, layer_types, rope,
    window,
};
use super::spec::{LmHead, NormKind, Placement, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family { model_types: &["gemma2"], spec, names: NAMES };

/// Also Gemma 3's. `post_attention_layernorm` is not the norm that Llama calls so.
pub const NAMES: Names = Names {
    attention_post_norm: "post_attention_layernorm",
    mlp_norm: "pre_feedforward_layernorm",
    mlp_post_norm: "post_feedforward_layernorm",
    ..LLAMA_NAMES
};

fn spec(config: &Config) -> Result<Spec> {
    let spec = gemma(config, Some(30.0))?;
    let window = window(config, "sliding_window", Some(4096))?;
    let windowed = layer_types(config, spec.num_hidden_layers, |l| l % 2 == 0)?;
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &ROTARY)?],
        blocks: causal(&windowed, window, scale(config)?, config)?,
        attention_cap: cap(config, "attn_logit_softcapping", Some(50.0))?,
        ..spec
    })
}

/// What Gemma 3 shares; `missing_cap` is the cap of the logits where the config has no such key.
pub fn gemma(config: &Config, missing_cap: Option<f32>) -> Result<Spec> {
    let missing = Missing {
        key_value_heads: Some(4),
        head_dim: Some(256),
        // `hidden_act` stands in these configs too, and is not read
        activation: ("hidden_activation", "gelu_pytorch_tanh"),
        tied: true,
        ..LLAMA
    };
    let spec = gated_decoder(config, &missing)?;
    let cap = cap(config, "final_logit_softcapping", missing_cap)?;
    Ok(Spec {
        norm: NormKind::RmsPlusOne,
        placement: Placement::Around,
        embedding_scale: (spec.hidden_size as f64).sqrt() as f32,
        biases: attention_biases(config, false, false)?,
        head: spec.head.map(|head| LmHead { cap, ..head }),
        ..spec
    })
}

/// Of the scores: it need not be the head size's.
pub fn scale(config: &Config) -> Result<f32> {
    const KEY: &str = "query_pre_attn_scalar";
    match config.opt_f64(KEY)?.unwrap_or(256.0) {
        scalar if scalar > 0.0 => Ok(inverse_sqrt(scalar)),
        scalar => Err(config.error(KEY, format!("expected a number above 0, found {scalar}"))),
    }
}

/// Null is none, whatever a missing key means.
fn cap(config: &Config, key: &str, missing: Option<f32>) -> Result<Option<f32>> {
    if config.is_null(key) { Ok(None) } else { Ok(config.opt_f32(key)?.or(missing)) }
}
