//! Finding an adapter and opening a device on it.

use crate::error::{Error, Result};

/// Which adapter to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AdapterChoice {
    /// `WGPU_ADAPTER_NAME` where it is set, else the fastest kind: discrete, integrated, other, software.
    #[default]
    Best,
    /// By its place in the list of [`adapters`].
    Index(usize),
    /// The first whose name contains this, whatever the case.
    Name(String),
}

impl std::str::FromStr for AdapterChoice {
    type Err = std::convert::Infallible;

    /// A number is an index, anything else a name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(text.parse().map_or_else(|_| AdapterChoice::Name(text.into()), AdapterChoice::Index))
    }
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AdapterChoice::Best => f.write_str("a usable adapter"),
            AdapterChoice::Index(n) => write!(f, "adapter {n}"),
            AdapterChoice::Name(name) => write!(f, "an adapter named {name:?}"),
        }
    }
}

/// How to find and open the GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Which backends to look at; `None` means `WGPU_BACKEND` where it is set, else all of them.
    pub backends: Option<wgpu::Backends>,
    /// A forward is split at block boundaries into submissions of about this long, by estimate; `None` means 250 ms.
    pub submission_budget: Option<std::time::Duration>,
    /// Where what is learnt of the adapter is kept; `None` means [`cache_dir`](crate::cache_dir).
    pub cache_dir: Option<std::path::PathBuf>,
    /// Whether compiled kernels are neither taken from the cache directory nor kept there.
    pub skip_pipeline_cache: bool,
    /// Whether the device may be asked for cooperative matrices, an experimental feature of wgpu, where the adapter has
    /// some that a product can use; `None` means yes, unless `THALWEG_COOPERATIVE_MATRICES` is `0`.
    pub cooperative_matrices: Option<bool>,
}

impl GpuOptions {
    /// Whether the device may be asked for cooperative matrices.
    pub(super) fn may_cooperate(&self) -> bool {
        let forbidden = || std::env::var("THALWEG_COOPERATIVE_MATRICES").is_ok_and(|value| value == "0");
        self.cooperative_matrices.unwrap_or_else(|| !forbidden())
    }
}

/// All adapters of the chosen backends (`None`: `WGPU_BACKEND` where set, else all), the order of `--adapter N`: those of
/// native backends first, then OpenGL's.
pub async fn adapters(backends: Option<wgpu::Backends>) -> Vec<wgpu::Adapter> {
    let mut found = enumerate(backends, NATIVE).await;
    found.extend(enumerate(backends, wgpu::Backends::GL).await);
    found
}

const NATIVE: wgpu::Backends = wgpu::Backends::all().difference(wgpu::Backends::GL);

/// The adapters of those of the chosen backends that are in `among`; no other backend is even loaded.
async fn enumerate(chosen: Option<wgpu::Backends>, among: wgpu::Backends) -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    descriptor.backends = chosen.unwrap_or(descriptor.backends) & among;
    if descriptor.backends.is_empty() {
        return Vec::new();
    }
    let backends = descriptor.backends;
    wgpu::Instance::new(descriptor).enumerate_adapters(backends).await
}

/// The adapter that the options choose. OpenGL is looked at only where no native adapter will do.
pub(super) async fn choose(options: &GpuOptions) -> Result<wgpu::Adapter> {
    let wanted = match (&options.adapter, std::env::var("WGPU_ADAPTER_NAME")) {
        (AdapterChoice::Best, Ok(name)) if !name.is_empty() => AdapterChoice::Name(name),
        (choice, _) => choice.clone(),
    };
    let mut found = enumerate(options.backends, NATIVE).await;
    if pick(&found, &wanted).is_none() {
        found.extend(enumerate(options.backends, wgpu::Backends::GL).await);
    }
    if let Some(place) = pick(&found, &wanted) {
        return Ok(found.swap_remove(place));
    }
    Err(Error::NoAdapter(if found.is_empty() {
        "none was found; install a Vulkan driver (on Debian and Ubuntu, mesa-vulkan-drivers has a software one)".into()
    } else {
        let names: Vec<_> = found.iter().enumerate().map(|(i, a)| format!("{i}: {}", a.get_info().name)).collect();
        format!("{wanted} is not among {}", names.join(", "))
    }))
}

fn pick(found: &[wgpu::Adapter], wanted: &AdapterChoice) -> Option<usize> {
    match wanted {
        AdapterChoice::Index(n) => (*n < found.len()).then_some(*n),
        AdapterChoice::Name(name) => {
            let name = name.to_lowercase();
            found.iter().position(|a| a.get_info().name.to_lowercase().contains(&name))
        }
        AdapterChoice::Best => (0..found.len()).min_by_key(|&i| rank(&found[i].get_info())),
    }
}

/// Lower is better: the kind of device first, then native backends before OpenGL.
fn rank(info: &wgpu::AdapterInfo) -> (u8, u8) {
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::VirtualGpu => 1,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    (kind, u8::from(info.backend == wgpu::Backend::Gl))
}

/// Opens a device of our own.
pub(super) async fn open(
    adapter: &wgpu::Adapter,
    required_features: wgpu::Features,
    required_limits: wgpu::Limits,
) -> Result<(wgpu::Device, wgpu::Queue)> {
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("thalweg"),
        required_features,
        required_limits,
        memory_hints: wgpu::MemoryHints::Performance,
        experimental_features: experimental(required_features),
        ..Default::default()
    };
    adapter
        .request_device(&descriptor)
        .await
        .map_err(|e| Error::Unsuitable { adapter: adapter.get_info().name, what: e.to_string() })
}

/// The consent that wgpu wants for its experimental features, where one is asked for.
#[expect(unsafe_code, reason = "cooperative matrices are experimental in wgpu: nothing else gives access to them")]
fn experimental(features: wgpu::Features) -> wgpu::ExperimentalFeatures {
    if !features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        return wgpu::ExperimentalFeatures::disabled();
    }
    // SAFETY: what this consents to is that wgpu's code behind the feature may be wrong. Shaders come from this crate
    // alone; the few that use the feature read and write workgroup memory at places that are constants or numbers of
    // subgroups, with barriers around, are valid for naga, and are tried on the adapter before a model runs them.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}
