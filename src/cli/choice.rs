//! How tokens are chosen and where a text ends: the options that all commands which write text have in common.

use clap::Args;
use thalweg::Sampling;

/// How tokens are chosen, and what ends a text.
#[derive(Args)]
pub struct Choice {
    /// Logits are divided by this; 0 takes the most probable token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Only the K most probable tokens are drawn from; 0 is all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Only the most probable tokens that make up this much are drawn from
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Only tokens at least this probable, relative to the most probable, are drawn from
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Above 1, tokens that are in the text already become less probable
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repeat_penalty: f32,
    /// Seed of the draws
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Text before which to stop; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Goes on past tokens that end a text
    #[arg(long)]
    pub ignore_eos: bool,
}

impl Choice {
    /// The options as the engine takes them.
    pub fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            seed: self.seed,
        }
    }
}
