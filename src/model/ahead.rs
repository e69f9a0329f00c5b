//! A model's kernels, compiled and tried on threads of their own while its weights are read.

use std::thread::{self, JoinHandle};

use futures_channel::oneshot;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernels::Variant;
use crate::schedule::Choices;
use crate::task::CancelToken;

/// What is going on beside the load. Dropped early it stops soon, and is waited for: no thread of a load outlives it.
pub(super) struct Ahead {
    thread: Option<JoinHandle<()>>,
    stop: CancelToken,
    choices: oneshot::Receiver<Result<Choices>>,
}

impl Ahead {
    /// Compiles the variants that a model has with these choices and, where they are to be tried, finds out which choices are
    /// right on this adapter.
    pub fn begin(
        gpu: &Gpu,
        choices: Choices,
        tried: bool,
        variants: impl Fn(Choices) -> Vec<Variant> + Send + 'static,
    ) -> Result<Self> {
        let (gpu, stop) = (gpu.clone(), CancelToken::new());
        let (sender, receiver) = oneshot::channel();
        let stopped = stop.clone();
        let work = move || {
            let first = variants(choices);
            let right = thread::scope(|scope| {
                // one that does not compile is an error of whoever runs it: the self-check may choose another
                scope.spawn(|| gpu.compile_all(&first));
                if tried { pollster::block_on(gpu.right(choices, variants, &stopped)) } else { Ok(choices) }
            });
            let _ = sender.send(right);
        };
        let thread = thread::Builder::new().name("thalweg-kernels".into()).spawn(work);
        let thread =
            thread.map_err(|error| Error::Internal { during: "loading".into(), message: error.to_string() })?;
        Ok(Ahead { thread: Some(thread), stop, choices: receiver })
    }

    /// The choices that are right.
    ///
    /// # Errors
    /// As [`Gpu::right`].
    pub async fn finish(mut self) -> Result<Choices> {
        let lost = |_| Error::Internal { during: "the self-check".into(), message: "its thread panicked".into() };
        (&mut self.choices).await.map_err(lost)?
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
