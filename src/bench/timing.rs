//! Times executions on the device: warm-up, several samples, the wall clock, and the GPU's own clock where it has one that
//! can be believed.

use std::time::{Duration, Instant};

use crate::error::Result;
use crate::gpu::Gpu;
use crate::task::CancelToken;

/// What is timed, one execution at a time: encodes the execution with that number.
pub(super) type Encode<'a> = dyn FnMut(&mut wgpu::ComputePass<'_>, usize) + 'a;

/// Seconds of one execution, a sample each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    /// From the submission until it was known to be done, divided by its executions.
    pub wall: Vec<f64>,
    /// Between timestamps around the pass; `None` where there is no clock, or where it told nothing.
    pub gpu: Option<Vec<f64>>,
}

/// How things are timed.
pub(super) struct Timer<'a> {
    pub gpu: &'a Gpu,
    pub cancel: &'a CancelToken,
    /// Five at least.
    pub samples: usize,
    /// How long a sample should take.
    pub target: Duration,
    /// Whether timestamps are taken.
    pub clock: bool,
}

/// Executions of one submission at most.
const MOST: usize = 4096;

impl Timer<'_> {
    /// Times executions. Each sample is one submission, of as many as take the target's time.
    pub async fn time(&self, encode: &mut Encode<'_>) -> Result<Times> {
        let clock = if self.clock { Some(Clock::new(self.gpu)?) } else { None };
        let mut next = 0;
        let mut sample = async |count: usize| -> Result<(f64, Option<f64>)> {
            if self.cancel.is_cancelled() {
                return Err(crate::Error::Cancelled);
            }
            let first = next;
            next += count;
            self.sample(clock.as_ref(), encode, first..next).await
        };
        // the first also brings clocks and caches up; the second says how many fit into a sample
        let target = self.target.as_secs_f64();
        let fitting = |seconds: f64| ((target / seconds.max(1e-9)).ceil() as usize).clamp(1, MOST);
        let count = fitting(sample(1).await?.0).min(64);
        let count = fitting(sample(count).await?.0);
        let (mut wall, mut gpu) = (Vec::new(), Vec::new());
        for _ in 0..self.samples {
            let (seconds, own) = sample(count).await?;
            wall.push(seconds);
            gpu.extend(own);
        }
        // a clock that says nothing some of the time is none
        let gpu = (gpu.len() == wall.len()).then_some(gpu);
        Ok(Times { wall, gpu })
    }

    /// One submission: seconds of an execution by the wall clock and by the GPU's.
    async fn sample(
        &self,
        clock: Option<&Clock>,
        encode: &mut Encode<'_>,
        numbers: std::ops::Range<usize>,
    ) -> Result<(f64, Option<f64>)> {
        let count = numbers.len() as f64;
        let (start, submission) = self.gpu.scoped("a benchmark", || {
            let mut encoder = self.gpu.device().create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("benchmark"),
                timestamp_writes: clock.map(Clock::writes),
            });
            numbers.for_each(|number| encode(&mut pass, number));
            drop(pass);
            if let Some(clock) = clock {
                clock.resolve(&mut encoder);
            }
            let commands = encoder.finish();
            let start = Instant::now();
            (start, self.gpu.queue().submit([commands]))
        })?;
        self.gpu.finished(submission.clone()).await?;
        let wall = start.elapsed().as_secs_f64();
        let own = match clock {
            Some(clock) => clock.read(self.gpu, submission).await?,
            None => None,
        };
        Ok((wall / count, own.map(|own| own / count)))
    }
}

/// Two timestamps, and the way back to the host.
struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    readback: wgpu::Buffer,
}

impl Clock {
    fn new(gpu: &Gpu) -> Result<Self> {
        use wgpu::BufferUsages as U;
        let queries = gpu.scoped("timestamps", || {
            gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            })
        })?;
        Ok(Clock {
            queries,
            resolved: gpu.buffer("timestamps", 16, U::QUERY_RESOLVE | U::COPY_SRC)?,
            readback: gpu.buffer("timestamps readback", 16, U::MAP_READ | U::COPY_DST)?,
        })
    }

    fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.readback, 0, 16);
    }

    /// Seconds between the two.
    async fn read(&self, gpu: &Gpu, submission: wgpu::SubmissionIndex) -> Result<Option<f64>> {
        let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.read(&self.readback, 16, submission).await?);
        let period = f64::from(gpu.queue().get_timestamp_period());
        Ok(crate::schedule::nanoseconds(ticks[0], ticks[1], period).map(|time| time / 1e9))
    }
}
