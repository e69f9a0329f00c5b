//! Error scopes: wgpu's errors come back as values from the call that caused them.

use super::Gpu;
use crate::error::{Error, Result};

impl Gpu {
    /// Runs `work` and turns what wgpu reports meanwhile on this thread into an error; `during` says what it was.
    pub(crate) fn scoped<T>(&self, during: &str, work: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        let (result, error) = self.caught(work);
        match error {
            None => Ok(result),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(Error::OutOfMemory(format!("the driver refused an allocation in {during}")))
            }
            Some(error) => {
                self.alive()?;
                Err(Error::Internal { during: during.into(), message: one_line(&error.to_string()) })
            }
        }
    }

    /// Runs `work` and returns its result with what wgpu reported meanwhile on this thread, the lack of memory before anything else.
    ///
    /// Scopes belong to the thread, so a host's own work and callbacks are untouched. The futures of popped scopes
    /// are ready at once on native backends, so waiting for them does not block.
    pub(super) fn caught<T>(&self, work: impl FnOnce() -> T) -> (T, Option<wgpu::Error>) {
        let device = self.device();
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work();
        // popped from the innermost on
        let validation = pollster::block_on(validation.pop());
        let internal = pollster::block_on(internal.pop());
        let memory = pollster::block_on(memory.pop());
        (result, memory.or(internal).or(validation))
    }
}

/// wgpu's errors are small trees; an error message here is one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
