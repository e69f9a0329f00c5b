//! Mistral: Llama with a window in every block, or in none.

use super::names::Family;
use super::options::{LLAMA, LLAMA_NAMES, Missing, ROTARY, causal, gated_decoder, inverse_sqrt, refuse, rope, window};
use super::spec::Spec;
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family { model_types: &["mistral"], spec, names: LLAMA_NAMES };

fn spec(config: &Config) -> Result<Spec> {
    refuse(config, &["attention_bias", "mlp_bias"])?;
    let spec = gated_decoder(config, &Missing { key_value_heads: Some(8), ..LLAMA })?;
    let window = window(config, "sliding_window", Some(4096))?;
    let windowed = vec![window.is_some(); spec.num_hidden_layers];
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &ROTARY)?],
        blocks: causal(&windowed, window, inverse_sqrt(spec.head_size as f64), config)?,
        ..spec
    })
}
