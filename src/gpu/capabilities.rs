//! What a device can do, asked once: kernels choose their variants from this and from nothing else.

use crate::error::{Error, Result};
use crate::kernels::{COOPERATION, Needs};

/// What the device can do, and what kind of machine it is.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// `f16` in shaders (`SHADER_F16`).
    pub f16: bool,
    /// `u64` in shaders (`SHADER_INT64`).
    pub int64: bool,
    /// Subgroup operations, with the smallest and largest subgroup that may happen.
    pub subgroups: Option<SubgroupSizes>,
    /// Cooperative matrix shapes; empty where there are none.
    pub cooperative_matrices: Vec<wgpu::wgt::CooperativeMatrixProperties>,
    /// Timestamps around compute passes (`TIMESTAMP_QUERY`).
    pub timestamps: bool,
    /// The device's limits, not the adapter's; buffers are never larger than 2 GiB.
    pub limits: wgpu::Limits,
    /// What the kernels' defaults are chosen for.
    pub class: AdapterClass,
    /// Bytes that buffers may take when the device is opened, where the system says so.
    pub memory: Option<u64>,
}

/// The range of subgroup sizes, in invocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubgroupSizes {
    /// Smallest.
    pub min: u32,
    /// Largest.
    pub max: u32,
}

/// The kinds of machine between which good defaults differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterClass {
    /// A software driver: workgroup memory and barriers cost, uniform loads are cheap.
    Cpu,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A GPU with its own memory, or one of an unknown kind.
    Discrete,
}

impl AdapterClass {
    /// A deliberately low guess of sustained f32 arithmetic in FLOP/s, for the estimate that splits submissions.
    pub(crate) fn flops(self) -> f64 {
        match self {
            AdapterClass::Cpu => 4e9,
            AdapterClass::Integrated => 300e9,
            AdapterClass::Discrete => 2e12,
        }
    }
}

/// DX12 and most Vulkan drivers go wrong beyond this, whatever they promise, and byte offsets must fit 32 bits.
const LARGEST_BUFFER: u64 = (1 << 31) - 256;

/// Features that some variant uses, and the one by which compiled kernels are kept.
pub(super) fn useful_features(adapter: &wgpu::Adapter) -> wgpu::Features {
    use wgpu::Features as F;
    // words of 64 bits are for drivers that run on the CPU
    let wide = if adapter.get_info().device_type == wgpu::DeviceType::Cpu { F::SHADER_INT64 } else { F::empty() };
    adapter.features() & (F::SHADER_F16 | F::SUBGROUP | F::TIMESTAMP_QUERY | F::PIPELINE_CACHE | wide)
}

/// Cooperative matrices, where the adapter has a shape of them that some variant uses, and what these variants need besides.
pub(super) fn cooperation(adapter: &wgpu::Adapter) -> wgpu::Features {
    let shapes = shapes(adapter);
    let usable = [8, 16].iter().any(|&size| has_shape(&shapes, size));
    let all = adapter.features().contains(COOPERATION);
    if usable && all { wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX } else { wgpu::Features::empty() }
}

/// The adapter's shapes of cooperative matrices, but for those that no shader may use.
fn shapes(adapter: &wgpu::Adapter) -> Vec<wgpu::wgt::CooperativeMatrixProperties> {
    let info = adapter.get_info();
    // Mesa's software driver compiles them for subgroups of 8, and crashes where it has others (26.1.6)
    if info.device_type == wgpu::DeviceType::Cpu && info.subgroup_max_size != 8 {
        return Vec::new();
    }
    adapter.cooperative_matrix_properties()
}

/// Whether square matrices of f16 of that size are among these, with sums in f32.
fn has_shape(shapes: &[wgpu::wgt::CooperativeMatrixProperties], size: u32) -> bool {
    use wgpu::wgt::CooperativeScalarType::{F16, F32};
    shapes.iter().any(|shape| {
        [shape.m_size, shape.n_size, shape.k_size] == [size; 3] && (shape.ab_type, shape.cr_type) == (F16, F32)
    })
}

/// WebGPU's defaults, raised where more helps: binding and buffer sizes, workgroup memory and invocations.
pub(super) fn useful_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    let has = adapter.limits();
    wgpu::Limits {
        max_buffer_size: has.max_buffer_size,
        max_storage_buffer_binding_size: has.max_storage_buffer_binding_size,
        max_compute_workgroup_storage_size: has.max_compute_workgroup_storage_size,
        max_compute_invocations_per_workgroup: has.max_compute_invocations_per_workgroup,
        max_compute_workgroup_size_x: has.max_compute_workgroup_size_x,
        max_storage_buffers_per_shader_stage: has.max_storage_buffers_per_shader_stage,
        ..wgpu::Limits::defaults()
    }
    // An adapter below a default (some GL drivers) gets what it has; `Capabilities::of` says what is too little.
    .or_worse_values_from(&has)
}

impl Capabilities {
    /// Of a device, which may have been opened with less than its adapter has.
    pub(super) fn of(adapter: &wgpu::Adapter, device: &wgpu::Device) -> Result<Self> {
        let info = adapter.get_info();
        let features = device.features();
        let mut limits = device.limits();
        check_limits(&info.name, &limits)?;
        limits.max_buffer_size = limits.max_buffer_size.min(LARGEST_BUFFER);
        limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(LARGEST_BUFFER);
        let subgroups = features
            .contains(wgpu::Features::SUBGROUP)
            .then_some(SubgroupSizes { min: info.subgroup_min_size, max: info.subgroup_max_size });
        let cooperative_matrices = if features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
            shapes(adapter)
        } else {
            Vec::new()
        };
        let class = match info.device_type {
            wgpu::DeviceType::Cpu => AdapterClass::Cpu,
            wgpu::DeviceType::IntegratedGpu => AdapterClass::Integrated,
            _ => AdapterClass::Discrete,
        };
        Ok(Capabilities {
            f16: features.contains(wgpu::Features::SHADER_F16),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            subgroups,
            cooperative_matrices,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            memory: super::memory::available(adapter, class),
            class,
            limits,
        })
    }

    /// Whether a variant that needs this can be compiled and is right.
    pub(crate) fn offers(&self, needs: Needs) -> bool {
        self.lacks(needs).is_empty()
    }

    /// What it needs and is not there, as users know it.
    pub(crate) fn lacks(&self, needs: Needs) -> Vec<String> {
        let mut has = wgpu::Features::empty();
        has.set(wgpu::Features::SHADER_F16, self.f16);
        has.set(wgpu::Features::SHADER_INT64, self.int64);
        has.set(wgpu::Features::SUBGROUP, self.subgroups.is_some());
        has.set(wgpu::Features::TIMESTAMP_QUERY, self.timestamps);
        let cooperation = !self.cooperative_matrices.is_empty();
        has.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, cooperation);
        let features = needs.features.difference(has).iter_names();
        let mut lacks: Vec<_> = features.map(|(name, _)| name.to_lowercase().replace('_', " ")).collect();
        if self.subgroups.map_or(0, |sizes| sizes.min) < needs.subgroup {
            lacks.push(format!("subgroups of at least {}", needs.subgroup));
        }
        let side = needs.matrix;
        if side > 0 && !has_shape(&self.cooperative_matrices, side) {
            lacks.push(format!("cooperative matrices of {side} × {side} with f16 and f32"));
        }
        lacks
    }

    /// One line for logs and `thalweg devices`.
    pub fn summary(&self) -> String {
        let subgroups = match self.subgroups {
            Some(s) if s.min == s.max => format!("subgroups of {}", s.min),
            Some(s) => format!("subgroups of {} to {}", s.min, s.max),
            None => "no subgroups".into(),
        };
        format!(
            "{:?}, {}, {subgroups}, {} cooperative matrix shapes, {}, bindings up to {} MiB, {} KiB of workgroup memory",
            self.class,
            if self.f16 { "f16" } else { "no f16" },
            self.cooperative_matrices.len(),
            if self.timestamps { "timestamps" } else { "no timestamps" },
            self.limits.max_storage_buffer_binding_size >> 20,
            self.limits.max_compute_workgroup_storage_size >> 10,
        )
    }
}

/// Every kernel has a variant for WebGPU's default limits; below them nothing is promised.
fn check_limits(adapter: &str, limits: &wgpu::Limits) -> Result<()> {
    let need = wgpu::Limits::defaults();
    let checks: [(&str, u64, u64); 6] = [
        (
            "max_storage_buffers_per_shader_stage",
            limits.max_storage_buffers_per_shader_stage.into(),
            need.max_storage_buffers_per_shader_stage.into(),
        ),
        (
            "max_compute_workgroup_storage_size",
            limits.max_compute_workgroup_storage_size.into(),
            need.max_compute_workgroup_storage_size.into(),
        ),
        (
            "max_compute_invocations_per_workgroup",
            limits.max_compute_invocations_per_workgroup.into(),
            need.max_compute_invocations_per_workgroup.into(),
        ),
        (
            "max_compute_workgroups_per_dimension",
            limits.max_compute_workgroups_per_dimension.into(),
            need.max_compute_workgroups_per_dimension.into(),
        ),
        (
            "max_storage_buffer_binding_size",
            limits.max_storage_buffer_binding_size,
            need.max_storage_buffer_binding_size,
        ),
        ("max_buffer_size", limits.max_buffer_size, need.max_buffer_size),
    ];
    match checks.iter().find(|(_, has, need)| has < need) {
        Some((name, has, need)) => Err(Error::Unsuitable {
            adapter: adapter.into(),
            what: format!("its {name} is {has}, and {need} is the least that the kernels run with"),
        }),
        None => Ok(()),
    }
}
