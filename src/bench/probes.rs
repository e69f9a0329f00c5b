//! The probes that measure a device's ceilings: kernels of their own, in `shaders/bench`, that no model runs.

use crate::kernels::ParamType::{F32, U32};
use crate::kernels::{Kernel, Variant, read, write};

/// All of them; tests treat them as they treat kernels.
pub const PROBES: &[Kernel] = &[
    Kernel { name: "copy", token_local: true, variants: || vec![copy()], params: &[("count", U32)] },
    Kernel { name: "fma_f16", token_local: true, variants: || vec![fma_f16()], params: FMA },
    Kernel { name: "fma_f32", token_local: true, variants: || vec![fma_f32()], params: FMA },
];

const FMA: &[(&str, crate::kernels::ParamType)] = &[("loops", U32), ("factor", F32), ("shift", F32)];

/// Copies vec4s.
pub(super) fn copy() -> Variant {
    Variant { bindings: vec![read("input"), write("output")], ..Variant::new("copy", &[]) }
}

/// Chains of f32 fma.
pub(super) fn fma_f32() -> Variant {
    Variant { bindings: vec![read("starts"), write("sums")], ..Variant::new("fma_f32", &[]) }
}

/// Chains of f16 fma.
pub(super) fn fma_f16() -> Variant {
    Variant { needs: wgpu::Features::SHADER_F16, bindings: fma_f32().bindings, ..Variant::new("fma_f16", &[]) }
}
