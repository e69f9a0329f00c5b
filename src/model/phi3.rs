//! Phi-3, Phi-3.5 and Phi-4-mini: Llama with fused projections and longrope.

use super::names::{Family, Names};
use super::options::{
    LLAMA, LLAMA_NAMES, Missing, ROTARY, Rotary, causal, gated_decoder, inverse_sqrt, refuse, rope, window,
};
use super::spec::Spec;
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["phi3"],
    spec,
    names: Names { qkv: &["self_attn.qkv_proj"], up: &["mlp.gate_up_proj"], ..LLAMA_NAMES },
};

const PHI: Rotary = Rotary {
    partial: Some(("partial_rotary_factor", 1.0)),
    original: Some(4096),
    // the first configs called it by these names
    kinds: &[("default", "default"), ("longrope", "longrope"), ("su", "longrope"), ("yarn", "longrope")],
    ..ROTARY
};

fn spec(config: &Config) -> Result<Spec> {
    refuse(config, &["attention_bias", "mlp_bias"])?;
    let spec = gated_decoder(config, &Missing { norm_eps: 1e-5, ..LLAMA })?;
    let window = window(config, "sliding_window", None)?;
    let windowed = vec![window.is_some(); spec.num_hidden_layers];
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &PHI)?],
        blocks: causal(&windowed, window, inverse_sqrt(spec.head_size as f64), config)?,
        ..spec
    })
}
