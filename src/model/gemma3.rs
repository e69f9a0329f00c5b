//! Gemma 3, the language model alone: Gemma 2 with norms of queries and keys instead of caps of the scores, and another
//! rotary embedding in blocks with a window.

use super::gemma2::{NAMES, gemma, scale};
use super::names::Family;
use super::options::{ROTARY, Rotary, causal, layer_types, period, two_ropes, window};
use super::spec::{BlockSpec, QkNorm, Spec};
use crate::error::Result;
use crate::files::Config;

/// `gemma3` is the wrapper that also sees pictures; its text model lies under other keys and names.
pub const FAMILY: Family = Family { model_types: &["gemma3_text"], spec, names: NAMES };

fn spec(config: &Config) -> Result<Spec> {
    let spec = gemma(config, None)?;
    let window = window(config, "sliding_window", Some(4096))?;
    let period = period(config, "sliding_window_pattern", 6)?;
    let windowed = layer_types(config, spec.num_hidden_layers, |l| (l + 1) % period != 0)?;
    let local = Rotary { theta: "rope_local_base_freq", missing_theta: Some(10_000.0), ..ROTARY };
    let blocks = causal(&windowed, window, scale(config)?, config)?;
    let turn = |(block, local): (BlockSpec, &bool)| BlockSpec { rope: Some((*local).into()), ..block };
    Ok(Spec {
        ropes: two_ropes(config, spec.head_size, &ROTARY, &local)?,
        blocks: blocks.into_iter().zip(&windowed).map(turn).collect(),
        qk_norm: QkNorm::Head,
        ..spec
    })
}
