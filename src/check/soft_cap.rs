//! Cases of `soft_cap`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::matmul::MatMul;
use crate::kernels::soft_cap::SoftCap;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    // values far below the cap, around it, and far beyond it
    for spread in [0.5, 30.0, 5e4] {
        for (rows, columns) in [(1, 1), (3, 5), (7, 256), (4, 1027)] {
            plans.push(case(rows, columns, spread));
        }
        // half of Gemma 2's vocabulary
        plans.push(case(1, 128_000, spread).sized(Size::Large));
    }
    plans
}

pub(crate) fn case(rows: usize, columns: usize, spread: f32) -> Plan {
    let kernel = SoftCap { values: Slot::Scratch(0), rows: MatMul::TOKENS, columns, cap: 30.0 };
    let shape = format!("{rows} rows of {columns} within {spread}");
    Plan::new("soft_cap", shape, vec![kernel.dispatch()], vec![(Slot::Scratch(0), columns)], move |random| {
        let values = random.values(rows * columns, 0.0, spread);
        let expected = reference::soft_cap(&widen(&values), 30.0);
        let contents = Contents::from([(Slot::Scratch(0), bytes(&values))]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(0), expected)])
    })
}
