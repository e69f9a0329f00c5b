//! The machine: one adapter's device and queue, what it can do, and everything that is made on it.

mod adapter;
mod buffer;
mod capabilities;
mod kept;
mod memory;
mod pipeline;
mod scope;
mod waiter;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

pub use adapter::{AdapterChoice, GpuOptions, adapters};
pub use capabilities::{AdapterClass, Capabilities, SubgroupSizes};
pub(crate) use kept::{hash, write_whole};
pub(crate) use memory::host as host_memory;
pub(crate) use pipeline::Pipeline;

use crate::check::Verdicts;
use crate::error::{Error, Result};
use pipeline::Pipelines;
use waiter::Waiter;

/// A GPU to run models on: cheap to clone, `Send + Sync`, used by `&self` from any thread.
///
/// Every fallible call returns a typed [`Error`]; once the device is lost, every later call says so.
#[derive(Clone)]
pub struct Gpu(Arc<Inner>);

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    info: wgpu::AdapterInfo,
    capabilities: Capabilities,
    counters: Counters,
    /// Compiled kernels: each is compiled once for all models of this `Gpu`.
    pipelines: Pipelines,
    waiter: Waiter,
    /// Why the device was lost, once it is.
    lost: Arc<OnceLock<String>>,
    submission_budget: Duration,
    /// What is known of the variants' numbers on this adapter, once something was asked.
    verdicts: Mutex<Option<Verdicts>>,
    /// What it was opened with; none where a host brought the device.
    options: Option<GpuOptions>,
}

/// Well below the two seconds after which systems reset a GPU that is busy.
const SUBMISSION_BUDGET: Duration = Duration::from_millis(250);

/// How often the engine did the things that cost time or memory, since the `Gpu` was made.
///
/// A forward after warm-up adds one submission (more only when split), one readback, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buffers allocated on the device.
    pub buffers: u64,
    /// Bytes of those buffers.
    pub bytes: u64,
    /// Bind groups made.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Command buffers submitted for forwards (uploads of weights are not counted).
    pub submissions: u64,
    /// Kernel dispatches encoded.
    pub dispatches: u64,
    /// Buffers mapped to read results back.
    pub readbacks: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub buffers: AtomicU64,
    pub bytes: AtomicU64,
    pub bind_groups: AtomicU64,
    pub pipelines: AtomicU64,
    pub submissions: AtomicU64,
    pub dispatches: AtomicU64,
    pub readbacks: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

impl Gpu {
    /// Opens the adapter that the options choose, with everything that the kernels can use on it.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] where nothing fits, [`Error::Unsuitable`] where a WebGPU default limit is not met.
    pub async fn new(options: GpuOptions) -> Result<Self> {
        let adapter = adapter::choose(&options).await?;
        let (mut features, limits) = Self::required(&adapter);
        if options.may_cooperate() {
            features |= capabilities::cooperation(&adapter);
        }
        let lost = Arc::new(OnceLock::new());
        let (device, queue) = adapter::open(&adapter, features, limits).await?;
        // This device is ours, so its callbacks are too: errors are logged instead of aborting the program.
        device.on_uncaptured_error(Arc::new(|error| log::error!("uncaptured GPU error: {error}")));
        let flag = Arc::clone(&lost);
        device.set_device_lost_callback(move |reason, message| {
            let _ = flag.set(format!("{reason:?}: {message}"));
        });
        let budget = options.submission_budget.unwrap_or(SUBMISSION_BUDGET);
        Self::assemble(&adapter, device, queue, lost, budget, Some(options))
    }

    /// [`Gpu::new`], blocking the calling thread.
    pub fn new_blocking(options: GpuOptions) -> Result<Self> {
        pollster::block_on(Self::new(options))
    }

    /// Uses a device that the host program already has (the one its window draws with).
    ///
    /// The host's callbacks for errors and loss are left alone. Ask for [`Gpu::required`] when the device is made
    /// to get the fast kernels; WebGPU's default limits and no feature at all are enough to run.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] where the device has less than WebGPU's default limits.
    pub fn from_host(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Result<Self> {
        Self::assemble(adapter, device, queue, Arc::new(OnceLock::new()), SUBMISSION_BUDGET, None)
    }

    /// After the device was lost: the same adapter (by the same options) with a new device. Models and sessions follow
    /// with [`Model::rebuild`](crate::Model::rebuild), [`Encoder::rebuild`](crate::Encoder::rebuild),
    /// [`Decoder::rebuild`](crate::Decoder::rebuild) and [`Session::rebuild`](crate::Session::rebuild).
    ///
    /// # Errors
    /// As [`Gpu::new`]; [`Error::Input`] where a host brought the device: it brings the next one too, to
    /// [`Gpu::from_host`].
    pub async fn rebuild(&self) -> Result<Self> {
        match &self.0.options {
            Some(options) => Self::new(options.clone()).await,
            None => Err(Error::Input("the device was the host's, which has to bring another one".into())),
        }
    }

    /// [`Gpu::rebuild`], blocking the calling thread.
    pub fn rebuild_blocking(&self) -> Result<Self> {
        pollster::block_on(self.rebuild())
    }

    fn assemble(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        lost: Arc<OnceLock<String>>,
        submission_budget: Duration,
        options: Option<GpuOptions>,
    ) -> Result<Self> {
        let info = adapter.get_info();
        let capabilities = Capabilities::of(adapter, &device)?;
        log::info!("{} ({:?}): {}", info.name, info.backend, capabilities.summary());
        let waiter = Waiter::start(device.clone(), Arc::clone(&lost))?;
        let gpu = Gpu(Arc::new(Inner {
            device,
            queue,
            info,
            capabilities,
            counters: Counters::default(),
            pipelines: Pipelines::default(),
            waiter,
            lost,
            submission_budget,
            verdicts: Mutex::default(),
            options,
        }));
        gpu.open_pipeline_cache();
        Ok(gpu)
    }

    /// What a host should ask its device for, of what this adapter has: features that variants use, and limits. Cooperative
    /// matrices are not among them, since wgpu wants `unsafe` consent for experimental features; a host that gives it, and
    /// asks for `EXPERIMENTAL_COOPERATIVE_MATRIX` too, gets the products that use them.
    pub fn required(adapter: &wgpu::Adapter) -> (wgpu::Features, wgpu::Limits) {
        (capabilities::useful_features(adapter), capabilities::useful_limits(adapter))
    }

    /// Name, driver and backend of the adapter.
    pub fn info(&self) -> &wgpu::AdapterInfo {
        &self.0.info
    }

    /// What the device can do; the only place that kernels ask.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// The device, for a host that wants to use the engine's buffers.
    pub fn device(&self) -> &wgpu::Device {
        &self.0.device
    }

    /// The queue that everything is submitted to.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.0.queue
    }

    /// What has been allocated, compiled and submitted so far.
    pub fn counts(&self) -> Counts {
        let c = &self.0.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            buffers: get(&c.buffers),
            bytes: get(&c.bytes),
            bind_groups: get(&c.bind_groups),
            pipelines: get(&c.pipelines),
            submissions: get(&c.submissions),
            dispatches: get(&c.dispatches),
            readbacks: get(&c.readbacks),
        }
    }

    /// Fails if the device is known to be lost.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.0.lost.get() {
            Some(why) => Err(Error::DeviceLost(why.clone())),
            None => Ok(()),
        }
    }

    /// The longest that one submission should keep the GPU busy, by estimate.
    pub(crate) fn submission_budget(&self) -> Duration {
        self.0.submission_budget
    }

    /// What is known of the variants' numbers.
    pub(crate) fn verdicts(&self) -> MutexGuard<'_, Option<Verdicts>> {
        self.0.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("adapter", &self.0.info.name).field("backend", &self.0.info.backend).finish()
    }
}
