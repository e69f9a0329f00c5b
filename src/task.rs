//! Cancelling and watching what takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Cancels the operations that it was given to, from any thread; clones share one flag.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the operations to stop; each returns [`Error::Cancelled`] at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether [`CancelToken::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Called with what is done and the total, in bytes for a load and in inputs for embeddings. It may call the engine.
pub type Progress = Arc<dyn Fn(u64, u64) + Send + Sync>;

/// How a long operation is cancelled and watched.
#[derive(Clone, Default)]
pub struct Task {
    /// Stops it.
    pub cancel: CancelToken,
    /// Watches it.
    pub progress: Option<Progress>,
}

impl Task {
    pub(crate) fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn report(&self, done: u64, total: u64) {
        if let Some(progress) = &self.progress {
            progress(done, total);
        }
    }
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task").field("cancel", &self.cancel).field("progress", &self.progress.is_some()).finish()
    }
}
