//! Qwen 2 and 2.5: Llama with biases of queries, keys and values.

use super::names::Family;
use super::options::{
    LLAMA, LLAMA_NAMES, Missing, ROTARY, causal, gated_decoder, inverse_sqrt, layer_types, rope, window,
};
use super::spec::{Biases, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family { model_types: &["qwen2"], spec, names: LLAMA_NAMES };

fn spec(config: &Config) -> Result<Spec> {
    let spec = gated_decoder(config, &Missing { key_value_heads: Some(32), ..LLAMA })?;
    Ok(Spec { biases: Biases { qkv: true, o: false, mlp: false }, ..qwen(config, spec)? })
}

/// What Qwen 3 shares: one rotary embedding, and a window in the upper blocks, which is off as a rule.
pub fn qwen(config: &Config, spec: Spec) -> Result<Spec> {
    let window = match config.bool_or("use_sliding_window", false)? {
        true => window(config, "sliding_window", Some(4096))?,
        false => None,
    };
    let full = config.usize_or("max_window_layers", 28)?;
    let windowed = layer_types(config, spec.num_hidden_layers, |l| window.is_some() && l >= full)?;
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &ROTARY)?],
        blocks: causal(&windowed, window, inverse_sqrt(spec.head_size as f64), config)?,
        ..spec
    })
}
