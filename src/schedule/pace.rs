//! How fast a device runs a program: the guess of its class, corrected by what submissions really took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::gpu::AdapterClass;

/// FLOP/s, as the bits of an f64. How work is cut changes no bit of what comes of it, so the estimate may move.
pub(crate) struct Pace {
    rate: AtomicU64,
    /// Nanoseconds of what took longest.
    longest: AtomicU64,
}

impl Pace {
    pub fn new(class: AdapterClass) -> Self {
        Pace { rate: AtomicU64::new(class.flops().to_bits()), longest: AtomicU64::new(0) }
    }

    fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }

    /// The time that so much arithmetic will take.
    pub fn seconds(&self, flops: f64) -> f64 {
        flops / self.rate()
    }

    /// What took longest since this was last asked.
    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed))
    }

    /// So much took that long, submission and wake-up included. What is short tells only that the device is no slower.
    pub fn measured(&self, flops: f64, took: Duration) {
        let seconds = took.as_secs_f64();
        self.longest.fetch_max(took.as_nanos() as u64, Ordering::Relaxed);
        if seconds > 0.005 || seconds > 0.0 && flops / seconds > self.rate() {
            let rate = (0.5 * (self.rate() + flops / seconds)).clamp(1e9, 1e15);
            self.rate.store(rate.to_bits(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_stands_still_or_jumps_leaves_a_pace() {
        let pace = Pace::new(AdapterClass::Cpu);
        let before = pace.seconds(1e9);
        pace.measured(1e9, Duration::ZERO);
        assert_eq!(pace.seconds(1e9), before);
        for took in [Duration::MAX, Duration::from_secs(1_000_000)] {
            (0..100).for_each(|_| pace.measured(1e9, took));
            assert!(pace.seconds(1e9).is_finite() && pace.seconds(1e9) > 0.0);
        }
        (0..100).for_each(|_| pace.measured(2e9, Duration::from_millis(20)));
        assert!((pace.seconds(1e11) - 1.0).abs() < 1e-3, "{}", pace.seconds(1e11));
    }
}
