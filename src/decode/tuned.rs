//! Tuning of decoders: what `src/tune.rs` finds for the reading of prompts.

use std::sync::{Arc, Mutex};

use super::{Decoder, Programs};
use crate::error::{Error, Result};
use crate::schedule::{Purpose, Watch};
use crate::tune::Tuning;

impl Decoder {
    /// As [`Encoder::tune`](crate::Encoder::tune): times reading prompts of about so many tokens with each form of products and
    /// of attention, and keeps the fastest. A step's products keep theirs, since each form of them sums in an order of its own.
    ///
    /// # Errors
    /// [`Error::Input`] where there are sessions, or the model was loaded with choices of one's own; [`Error::DeviceLost`],
    /// [`Error::OutOfMemory`].
    pub async fn tune(&mut self, tokens: usize) -> Result<Tuning> {
        let Some(inner) = Arc::get_mut(&mut self.0) else {
            return Err(Error::Input("a decoder is tuned while it has no sessions".into()));
        };
        let purposes = [Purpose::Score, Purpose::Prefill, Purpose::Decode, Purpose::Logits];
        let tuning = inner.model.fastest(&purposes, tokens, &inner.plain.prefill).await?;
        if tuning.choices != inner.model.choices {
            inner.model.choices = tuning.choices;
            inner.plain = Programs::new(&inner.model, &Watch::default())?;
            inner.touched = Mutex::default();
        }
        Ok(tuning)
    }

    /// [`Decoder::tune`], blocking the calling thread.
    pub fn tune_blocking(&mut self, tokens: usize) -> Result<Tuning> {
        pollster::block_on(self.tune(tokens))
    }
}
