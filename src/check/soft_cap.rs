//! Cases of `soft_cap`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::matmul::MatMul;
use crate::kernels::soft_cap::SoftCap;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, columns) in [(1, 1), (3, 5), (7, 256), (4, 1027)] {
        // values far below the cap, around it, and far beyond it
        for spread in [0.5, 30.0, 5e4] {
            let values = random.values(rows * columns, 0.0, spread);
            let kernel = SoftCap { values: Slot::Scratch(0), rows: MatMul::TOKENS, columns, cap: 30.0 };
            cases.push(Case {
                kernel: "soft_cap",
                shape: format!("{rows} rows of {columns} within {spread}"),
                dispatches: vec![kernel.dispatch()],
                batch: tokens(rows),
                contents: Contents::from([(Slot::Scratch(0), bytes(&values))]),
                expected: vec![(Slot::Scratch(0), reference::soft_cap(&widen(&values), 30.0))],
                token_rows: vec![(Slot::Scratch(0), columns)],
                tolerance: TOLERANCE,
            });
        }
    }
    cases
}
