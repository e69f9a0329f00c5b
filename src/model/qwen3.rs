//! Qwen 3: Qwen 2 without biases, and with norms of queries and keys.

use super::names::Family;
use super::options::{LLAMA, LLAMA_NAMES, Missing, attention_biases, gated_decoder};
use super::qwen2::qwen;
use super::spec::{QkNorm, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family { model_types: &["qwen3"], spec, names: LLAMA_NAMES };

fn spec(config: &Config) -> Result<Spec> {
    let spec = gated_decoder(config, &Missing { key_value_heads: Some(32), head_dim: Some(128), ..LLAMA })?;
    Ok(Spec { qk_norm: QkNorm::Head, biases: attention_biases(config, false, false)?, ..qwen(config, spec)? })
}
