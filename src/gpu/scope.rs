//! Error scopes: wgpu's errors come back as values from the call that caused them.

use super::Gpu;
use crate::error::{Error, Result};

impl Gpu {
    /// Runs `work` and turns what wgpu reports meanwhile on this thread into an error; `during` says what it was.
    ///
    /// Scopes belong to the thread, so a host's own work and callbacks are untouched. The futures of popped scopes
    /// are ready at once on native backends, so waiting for them does not block.
    pub(crate) fn scoped<T>(&self, during: &str, work: impl FnOnce() -> T) -> Result<T> {
        self.alive()?;
        let device = self.device();
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work();
        // innermost first; all three are popped whatever they hold
        let caught = [validation.pop(), internal.pop()].map(pollster::block_on);
        let memory = pollster::block_on(memory.pop());
        if memory.is_some() {
            return Err(Error::OutOfMemory(format!("the driver refused an allocation in {during}")));
        }
        match caught.into_iter().flatten().next() {
            Some(error) => {
                self.alive()?;
                Err(Error::Internal { during: during.into(), message: one_line(&error.to_string()) })
            }
            None => Ok(result),
        }
    }
}

/// wgpu's errors are small trees; an error message here is one line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
