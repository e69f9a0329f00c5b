//! The probes that measure a device's ceilings: kernels of their own, in `shaders/bench`, that no model runs.

use crate::kernels::ParamType::{F32, U32};
use crate::kernels::{COOPERATION, Kernel, Needs, Variant, read, write};

/// All of them; tests treat them as they treat kernels.
pub const PROBES: &[Kernel] = &[
    Kernel { name: "copy", token_local: true, variants: || COPIES.map(copy).to_vec(), params: &[("count", U32)] },
    Kernel { name: "fma_rate", token_local: true, variants: || vec![fma_f32(), fma_f16()], params: FMA },
    Kernel {
        name: "matrix_rate",
        token_local: true,
        variants: || MATRICES.map(matrix).to_vec(),
        params: &[("loops", U32)],
    },
];

const FMA: &[(&str, crate::kernels::ParamType)] = &[("loops", U32), ("factor", F32), ("shift", F32)];

/// Sides of the cooperative matrices whose rate is measured.
pub(super) const MATRICES: [u32; 2] = [8, 16];

/// vec4s an invocation of the copy: which is the fastest differs from machine to machine.
pub(super) const COPIES: [u32; 2] = [1, 4];

/// Copies vec4s, so many an invocation.
pub(super) fn copy(steps: u32) -> Variant {
    let bindings = vec![read("input"), write("output")];
    Variant { bindings, constants: vec![("STEPS", steps)], ..Variant::new("copy", &[&steps.to_string()]) }
}

fn probe(name: &'static str, part: &'static str) -> Variant {
    Variant { parts: vec![part], bindings: vec![read("starts"), write("sums")], ..Variant::new(name, &[part]) }
}

/// Chains of f32 fma.
pub(super) fn fma_f32() -> Variant {
    probe("fma_rate", "real_f32")
}

/// Chains of f16 fma.
pub(super) fn fma_f16() -> Variant {
    let needs = Needs { features: wgpu::Features::SHADER_F16, ..Needs::NOTHING };
    Variant { needs, ..probe("fma_rate", "real_f16") }
}

/// Chains of products of cooperative matrices of that side.
pub(super) fn matrix(side: u32) -> Variant {
    let needs = Needs { features: COOPERATION, subgroup: side, matrix: side };
    Variant { needs, ..probe("matrix_rate", if side == 8 { "matrices8" } else { "matrices16" }) }
}
