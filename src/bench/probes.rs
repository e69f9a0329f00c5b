//! The probes that measure a device's ceilings: kernels of their own, in `shaders/bench`, that no model runs.

use crate::kernels::ParamType::{F32, U32};
use crate::kernels::{Kernel, Needs, Variant, read, write};

/// All of them; tests treat them as they treat kernels.
pub const PROBES: &[Kernel] = &[
    Kernel { name: "copy", token_local: true, variants: || COPIES.map(copy).to_vec(), params: &[("count", U32)] },
    Kernel { name: "fma_f16", token_local: true, variants: || vec![fma_f16()], params: FMA },
    Kernel { name: "fma_f32", token_local: true, variants: || vec![fma_f32()], params: FMA },
];

const FMA: &[(&str, crate::kernels::ParamType)] = &[("loops", U32), ("factor", F32), ("shift", F32)];

/// vec4s an invocation of the copy: which is the fastest differs from machine to machine.
pub(super) const COPIES: [u32; 2] = [1, 4];

/// Copies vec4s, so many an invocation.
pub(super) fn copy(steps: u32) -> Variant {
    let bindings = vec![read("input"), write("output")];
    Variant { bindings, constants: vec![("STEPS", steps)], ..Variant::new("copy", &[&steps.to_string()]) }
}

/// Chains of f32 fma.
pub(super) fn fma_f32() -> Variant {
    Variant { bindings: vec![read("starts"), write("sums")], ..Variant::new("fma_f32", &[]) }
}

/// Chains of f16 fma.
pub(super) fn fma_f16() -> Variant {
    let needs = Needs { features: wgpu::Features::SHADER_F16, subgroup: 0 };
    Variant { needs, bindings: fma_f32().bindings, ..Variant::new("fma_f16", &[]) }
}
