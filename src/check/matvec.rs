//! Cases of `matvec`.

use super::Plan;
use super::matmul::{Typed, plans_of};
use crate::kernels::WeightType;
use crate::kernels::matmul::Product;
use crate::kernels::matvec::{Form, MatVec};

/// M, N, K: one row and several, around every edge of what a workgroup takes and of its lanes, and a model's.
const SHAPES: [(usize, usize, usize); 14] = [
    (1, 1, 1),
    (1, 5, 4),
    (2, 33, 7),
    (3, 32, 253),
    (4, 31, 256),
    (5, 4, 260),
    (1, 65, 17),
    (8, 35, 511),
    (6, 66, 20),
    (9, 130, 3),
    (16, 96, 36),
    (17, 2, 64),
    (1, 576, 576),
    (4, 100, 1536),
];

/// Products of real models' decode steps: GPT-2's FFN, MiniLM's vocabulary, and what quantised models have.
const REAL: [Typed; 8] = [
    (WeightType::F32, (1, 3072, 768)),
    (WeightType::F16, (1, 30522, 384)),
    (WeightType::Bf16, (3, 576, 1536)),
    (WeightType::Q8_0, (1, 5632, 2048)),
    (WeightType::Q4_0, (2, 2048, 5632)),
    (WeightType::Q4K, (1, 1024, 4096)),
    (WeightType::Q5K, (5, 896, 4864)),
    (WeightType::Q6K, (1, 4096, 2048)),
];

/// Those that take long: SmolLM2's head, and Llama 3's FFN.
const LARGE: [Typed; 2] = [(WeightType::F16, (1, 49152, 576)), (WeightType::Q4K, (1, 14336, 4096))];

pub fn plans() -> Vec<Plan> {
    // epilogues are parts that know nothing of forms; each type of float has them with one form for the CPU
    let crossed = |form: Form| match form {
        Form::Columns => &[WeightType::F32][..],
        Form::Wide => &[WeightType::F16],
        Form::Depth => &[WeightType::F32, WeightType::F16],
    };
    let product = |form| move |product: &Product| MatVec { form, product: *product }.dispatch();
    let of = |form: Form| {
        // without those that another form takes where this one is chosen
        let own = move |plan: &Plan| plan.label().starts_with(&format!("matvec[{},", form.name()));
        plans_of("matvec", &SHAPES, &REAL, &LARGE, crossed(form), &product(form)).into_iter().filter(own)
    };
    Form::ALL.into_iter().flat_map(of).collect()
}
