//! Buffers: allocation with typed errors, upload in bounded chunks, readback.

use futures_channel::oneshot;

use super::{Counters, Gpu};
use crate::error::{Error, Result};

impl Gpu {
    /// Allocates a buffer of at least `bytes` (rounded up to 16, never 0).
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with the numbers, where the device's limits or the driver refuse.
    pub(crate) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer> {
        let size = bytes.max(1).next_multiple_of(16);
        let limits = &self.capabilities().limits;
        let (limit, name) = if usage.contains(wgpu::BufferUsages::STORAGE) {
            (limits.max_storage_buffer_binding_size.min(limits.max_buffer_size), "one storage binding")
        } else {
            (limits.max_buffer_size, "one buffer")
        };
        if size > limit {
            return Err(Error::OutOfMemory(format!(
                "{label} needs {size} bytes, and this device allows {limit} for {name}"
            )));
        }
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
        let buffer =
            self.scoped(&format!("allocation of {label} ({size} bytes)"), || self.device().create_buffer(&descriptor))?;
        Counters::add(&self.counters().buffers, 1);
        Counters::add(&self.counters().bytes, size);
        Ok(buffer)
    }

    /// Writes `data` and waits until the GPU has it, so that staging memory never holds more than one chunk.
    pub(crate) async fn upload(&self, buffer: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let submission = self.scoped("upload", || {
            self.queue().write_buffer(buffer, offset, data);
            self.queue().submit([])
        })?;
        self.finished(submission).await
    }

    /// Reads the first `bytes` of a mappable buffer after `submission`; the buffer is unmapped again, also when the
    /// future is dropped early.
    pub(crate) async fn read(
        &self,
        buffer: &wgpu::Buffer,
        bytes: u64,
        submission: wgpu::SubmissionIndex,
    ) -> Result<Vec<u8>> {
        struct Unmap<'a>(&'a Gpu, &'a wgpu::Buffer);
        impl Drop for Unmap<'_> {
            fn drop(&mut self) {
                // a buffer that went with its device cannot be unmapped, which is no error of anyone's
                self.0.caught(|| self.1.unmap());
            }
        }
        if bytes == 0 {
            self.finished(submission).await?;
            return Ok(Vec::new());
        }
        let (sender, mapped) = oneshot::channel();
        self.scoped("readback", || {
            buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |outcome| {
                let _ = sender.send(outcome);
            });
        })?;
        let _unmap = Unmap(self, buffer);
        Counters::add(&self.counters().readbacks, 1);
        self.finished(submission).await?;
        let lost = || Error::DeviceLost("the result could not be read back".into());
        // The callback has run, or is about to on a thread whose own submission took it over from the waiter.
        match mapped.await {
            Ok(Ok(())) => {}
            _ => return Err(lost()),
        }
        let view = buffer.slice(..bytes).get_mapped_range().map_err(|_| lost())?;
        Ok(view.to_vec())
    }
}
