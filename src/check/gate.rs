//! Cases of `gate`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::activation::Activation;
use crate::kernels::gate::Gate;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for activation in Activation::ALL {
        for (rows, columns) in [(1, 1), (3, 85), (7, 128), (33, 61)] {
            cases.push(case(random, activation, rows, columns));
        }
    }
    cases
}

fn case(random: &mut Random, activation: Activation, rows: usize, columns: usize) -> Case {
    let gate_up = random.values(rows * 2 * columns, 1.0, 4.0);
    let gate = Gate { activation, gate_up: Slot::Scratch(0), output: Slot::Scratch(1), columns };
    Case {
        kernel: "gate",
        shape: format!("{rows} rows of {columns}"),
        dispatches: vec![gate.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([
            (Slot::Scratch(0), bytes(&gate_up)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(rows * columns)),
        ]),
        expected: vec![(Slot::Scratch(1), reference::gate(&widen(&gate_up), columns, activation))],
        token_rows: vec![(Slot::Scratch(0), 2 * columns), (Slot::Scratch(1), columns)],
        tolerance: TOLERANCE,
    }
}
