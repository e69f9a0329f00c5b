//! How the next token is chosen.

use crate::schedule::Draw;
use crate::{Error, Result};

/// How the next token is chosen: the largest logit, or a draw from what the options leave. They are applied in the order of
/// Hugging Face's logits processors: repetition penalty, temperature, top-k, top-p, min-p.
///
/// The choice is a function of the logits, these options and the token's position alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by this before they become probabilities; 0 takes the largest, the lowest id of equal ones, and
    /// leaves all options but the repetition penalty without effect.
    pub temperature: f32,
    /// Only so many of the most probable tokens count, and those as probable as the last of them; 0 is all.
    pub top_k: u32,
    /// Only the most probable tokens that make up this much of the probability count, at least one; 1 is all.
    pub top_p: f32,
    /// Only tokens count that are at least this probable, relative to the most probable; 0 is all.
    pub min_p: f32,
    /// Positive logits of tokens that the sequence holds already, its prompt included, are divided by this, the others
    /// multiplied; 1 is none.
    pub repeat_penalty: f32,
    /// Another seed draws other tokens.
    pub seed: u64,
}

impl Default for Sampling {
    /// The largest logit.
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// [`Error::Input`] that names the option, its range and what it is.
    pub fn validate(&self) -> Result<()> {
        let Sampling { temperature, top_p, min_p, repeat_penalty, .. } = *self;
        let checks = [
            (
                "temperature",
                temperature,
                "a finite number of at least 0",
                temperature.is_finite() && temperature >= 0.0,
            ),
            ("top_p", top_p, "more than 0 and at most 1", top_p > 0.0 && top_p <= 1.0),
            ("min_p", min_p, "from 0 to 1", (0.0..=1.0).contains(&min_p)),
            (
                "repeat_penalty",
                repeat_penalty,
                "a finite number above 0",
                repeat_penalty.is_finite() && repeat_penalty > 0.0,
            ),
        ];
        match checks.into_iter().find(|(.., fits)| !fits) {
            Some((name, value, range, _)) => Err(Error::Input(format!("{name} must be {range}, and is {value}"))),
            None => Ok(()),
        }
    }

    /// Whether the ids that a sequence holds play a part.
    pub fn needs_seen(&self) -> bool {
        self.repeat_penalty != 1.0
    }

    /// The draw of the token at a position of its sequence.
    ///
    /// # Errors
    /// As for [`Sampling::validate`].
    pub fn draw(&self, position: u32) -> Result<Draw> {
        self.validate()?;
        Ok(Draw {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            penalty: self.repeat_penalty,
            seed_low: self.seed as u32,
            seed_high: (self.seed >> 32) as u32,
            position,
            first_seen: 0,
            seen: 0,
            unused: [0; 2],
        })
    }
}
