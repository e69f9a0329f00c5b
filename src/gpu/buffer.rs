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
        let mut mapping = Mapping { gpu: self, buffer, mapped, heard: false };
        Counters::add(&self.counters().readbacks, 1);
        self.finished(submission).await?;
        let lost = || Error::DeviceLost("the result could not be read back".into());
        // The callback has run, or is about to on a thread whose own submission took it over from the waiter.
        let outcome = (&mut mapping.mapped).await;
        mapping.heard = true;
        match outcome {
            Ok(Ok(())) => {}
            _ => return Err(lost()),
        }
        let view = buffer.slice(..bytes).get_mapped_range().map_err(|_| lost())?;
        Ok(view.to_vec())
    }
}

/// A buffer that was asked to be mapped, unmapped again at the end, also where its future is dropped early.
struct Mapping<'a> {
    gpu: &'a Gpu,
    buffer: &'a wgpu::Buffer,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
    /// Whether the outcome has been received.
    heard: bool,
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        // a buffer that went with its device cannot be unmapped, which is no error of anyone's
        let (_, refused) = self.gpu.caught(|| self.buffer.unmap());
        if refused.is_none() || self.heard {
            return;
        }
        // Another thread is mapping it at this moment: wgpu has taken the request and not yet marked the buffer, so that
        // it took it for unmapped. The callback follows at once, and never where the device is gone.
        for _ in 0..1000 {
            if !matches!(self.mapped.try_recv(), Ok(None)) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        self.gpu.caught(|| self.buffer.unmap());
    }
}
