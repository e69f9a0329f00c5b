//! How fast this device prefills: the guess of its class, corrected by what chunks really took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::gpu::AdapterClass;

/// The longest that a prefill's chunk should keep the GPU busy, so that a window keeps drawing.
pub(super) const CHUNK_SECONDS: f64 = 0.05;

/// FLOP/s, as the bits of an f64. How a prompt is cut changes no bit of what comes of it, so the estimate may move.
pub(super) struct Pace(AtomicU64);

impl Pace {
    pub fn new(class: AdapterClass) -> Self {
        Pace(AtomicU64::new(class.flops().to_bits()))
    }

    fn rate(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// The time that so much arithmetic will take.
    pub fn seconds(&self, flops: f64) -> f64 {
        flops / self.rate()
    }

    /// So much took that long, submission and wake-up included. Chunks too small to tell are left out.
    pub fn measured(&self, flops: f64, took: Duration) {
        let seconds = took.as_secs_f64();
        if seconds > 0.005 {
            let rate = (0.5 * (self.rate() + flops / seconds)).clamp(1e9, 1e15);
            self.0.store(rate.to_bits(), Ordering::Relaxed);
        }
    }
}
