//! Per-kernel times of a forward, by timestamps: each dispatch in a pass of its own.

use super::batch::Batch;
use super::program::{Lease, Program};
use super::sizes::Dims;
use super::workspace::CacheView;
use crate::error::{Error, Result};

/// One dispatch's label and time on the GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct DispatchTime {
    /// The variant's label.
    pub label: String,
    /// Nanoseconds between the timestamps around it; `None` where the device's clock stood still or went back.
    pub nanoseconds: Option<f64>,
    /// Floating-point operations that it did.
    pub flops: f64,
}

impl Program {
    /// Runs a batch with timestamps around every dispatch. The passes make it slower than [`Program::run`].
    ///
    /// # Errors
    /// [`Error::Input`] where the device has no timestamps; otherwise as [`Program::run`].
    pub async fn profile(&self, batch: &Batch) -> Result<Vec<DispatchTime>> {
        self.start_profile(batch, None)?.finish().await
    }

    /// The part of it that the cache must stay the same for.
    pub(crate) fn start_profile(&self, batch: &Batch, cache: Option<CacheView<'_>>) -> Result<Profile<'_>> {
        if !self.gpu.capabilities().timestamps {
            return Err(Error::Input("this device has no timestamps".into()));
        }
        batch.check(&self.recording, cache.map_or(0, |c| c.rows))?;
        use wgpu::BufferUsages as U;
        let dims = batch.dims();
        let count = 2 * self.pipelines.len() as u32;
        let bytes = 8 * u64::from(count);
        let mut lease = self.lease(dims, cache)?;
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
                    label: Some(&dispatch.fitted(&dims).0.label),
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
        Ok(Profile { lease, submission, readback, dims })
    }
}

/// A profile that was submitted.
pub(crate) struct Profile<'a> {
    lease: Lease<'a>,
    submission: wgpu::SubmissionIndex,
    readback: wgpu::Buffer,
    dims: Dims,
}

impl Profile<'_> {
    /// Waits for the forward and reads its timestamps.
    pub async fn finish(self) -> Result<Vec<DispatchTime>> {
        let Program { gpu, recording, pipelines, .. } = self.lease.program();
        let bytes = 16 * pipelines.len() as u64;
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.read(&self.readback, bytes, self.submission).await?);
        let period = f64::from(gpu.queue().get_timestamp_period());
        Ok(recording
            .dispatches()
            .zip(ticks.chunks_exact(2))
            .map(|(dispatch, t)| DispatchTime {
                label: dispatch.fitted(&self.dims).0.label.clone(),
                nanoseconds: nanoseconds(t[0], t[1], period),
                flops: dispatch.work.flops * f64::from(self.dims.get(dispatch.work.dim)),
            })
            .collect())
    }
}

/// The time between two ticks. No work takes none: a clock without a difference, or without a period, tells nothing.
pub(crate) fn nanoseconds(start: u64, end: u64, period: f64) -> Option<f64> {
    let time = end.checked_sub(start)? as f64 * period;
    (time > 0.0 && time.is_finite()).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn a_clock_that_stands_still_tells_no_time() {
        assert_eq!(nanoseconds(10, 30, 0.5), Some(10.0));
        assert_eq!(nanoseconds(u64::MAX - 1, u64::MAX, 1.0), Some(1.0));
        for (start, end, period) in [(7, 7, 1.0), (0, 0, 1.0), (30, 10, 1.0), (10, 30, 0.0), (10, 30, f64::NAN)] {
            assert_eq!(nanoseconds(start, end, period), None);
        }
    }
}
