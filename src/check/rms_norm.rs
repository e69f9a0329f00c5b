//! Cases of `rms_norm`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::rms_norm::RmsNorm;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for add_one in [false, true] {
            for columns in [1, 2, 3, 63, 64, 65, 130, 576, 1000] {
                for rows in [1, 7, 33] {
                    cases.push(case(random, reduce, add_one, rows, columns));
                }
            }
        }
    }
    cases
}

fn case(random: &mut Random, reduce: Reduce, add_one: bool, rows: usize, columns: usize) -> Case {
    let values = random.values(rows * columns, 0.5, 2.0);
    let gamma = random.values(columns, if add_one { 0.2 } else { 1.0 }, 0.5);
    let eps = 1e-6f32;
    let norm = RmsNorm {
        reduce,
        gamma: Slot::Weight(0),
        add_one,
        rows: Slot::Scratch(0),
        output: Slot::Scratch(1),
        columns,
        eps,
    };
    let scale: Vec<f64> = widen(&gamma).iter().map(|g| g + f64::from(u8::from(add_one))).collect();
    Case {
        kernel: "rms_norm",
        shape: format!("{rows} rows of {columns}"),
        dispatches: vec![norm.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([
            (Slot::Weight(0), bytes(&gamma)),
            (Slot::Scratch(0), bytes(&values)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(rows * columns)),
        ]),
        expected: vec![(Slot::Scratch(1), reference::rms_norm(&widen(&values), &scale, f64::from(eps)))],
        token_rows: vec![(Slot::Scratch(0), columns), (Slot::Scratch(1), columns)],
        tolerance: TOLERANCE,
    }
}
