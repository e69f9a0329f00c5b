//! Llama 1 to 3, and what is published as Llama: TinyLlama, SmolLM.

use super::names::Family;
use super::options::{LLAMA, LLAMA_NAMES, ROTARY, Rotary, attention_biases, causal, gated_decoder, inverse_sqrt, rope};
use super::spec::Spec;
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family { model_types: &["llama"], spec, names: LLAMA_NAMES };

fn spec(config: &Config) -> Result<Spec> {
    let spec = gated_decoder(config, &LLAMA)?;
    // the configs of Llama 1 and 2 have no base
    let rotary = Rotary { missing_theta: Some(10_000.0), ..ROTARY };
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &rotary)?],
        blocks: causal(&vec![false; spec.num_hidden_layers], None, inverse_sqrt(spec.head_size as f64), config)?,
        biases: attention_biases(config, false, config.bool_or("mlp_bias", false)?)?,
        ..spec
    })
}
