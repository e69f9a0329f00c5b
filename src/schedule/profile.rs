//! Per-kernel times of a forward, by timestamps: each dispatch in a pass of its own.

use super::batch::Batch;
use super::program::Program;
use crate::error::{Error, Result};

/// One dispatch's label and time on the GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatchTime {
    /// The variant's label.
    pub label: String,
    /// Nanoseconds between the timestamps around it.
    pub nanoseconds: f64,
    /// Floating-point operations that it did.
    pub flops: f64,
}

impl Program {
    /// Runs a batch with timestamps around every dispatch. The passes make it slower than [`Program::run`].
    ///
    /// # Errors
    /// [`Error::Input`] where the device has no timestamps; otherwise as [`Program::run`].
    pub async fn profile(&self, batch: &Batch) -> Result<Vec<DispatchTime>> {
        if !self.gpu.capabilities().timestamps {
            return Err(Error::Input("this device has no timestamps".into()));
        }
        batch.check(&self.recording, 0)?;
        use wgpu::BufferUsages as U;
        let dims = batch.dims();
        let count = 2 * self.pipelines.len() as u32;
        let bytes = 8 * u64::from(count);
        let mut lease = self.lease(dims, None)?;
        let workspace = lease.workspace();
        let (resolved, readback) = (
            self.gpu.buffer("timestamps", bytes, U::QUERY_RESOLVE | U::COPY_SRC)?,
            self.gpu.buffer("timestamps readback", bytes, U::MAP_READ | U::COPY_DST)?,
        );
        let submission = self.gpu.scoped("profile", || -> Result<_> {
            let queries = self.gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            workspace.upload(self.gpu.queue(), &self.recording, batch);
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            for (i, dispatch) in self.recording.dispatches().enumerate() {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some(&dispatch.variant.label),
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &queries,
                        beginning_of_pass_write_index: Some(2 * i as u32),
                        end_of_pass_write_index: Some(2 * i as u32 + 1),
                    }),
                });
                self.dispatch(&mut pass, workspace, dispatch, i, &dims)?;
            }
            encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &readback, 0, bytes);
            Ok(self.gpu.queue().submit([encoder.finish()]))
        })??;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&self.gpu.read(&readback, bytes, submission).await?);
        let period = f64::from(self.gpu.queue().get_timestamp_period());
        Ok(self
            .recording
            .dispatches()
            .zip(ticks.chunks_exact(2))
            .map(|(dispatch, t)| DispatchTime {
                label: dispatch.variant.label.clone(),
                nanoseconds: t[1].saturating_sub(t[0]) as f64 * period,
                flops: dispatch.work.flops * f64::from(dims.get(dispatch.work.dim)),
            })
            .collect())
    }
}
