//! Cases of `l2_normalize`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE};
use crate::kernels::Reduce;
use crate::kernels::l2_normalize::L2Normalize;
use crate::reference;
use crate::schedule::{Batch, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 3, 63, 65, 384, 1000] {
            for (rows, spread) in [(1, 1.0), (9, 1e-15), (9, 1e18)] {
                cases.push(case(random, reduce, rows, columns, spread));
            }
        }
    }
    cases
}

fn case(random: &mut Random, reduce: Reduce, rows: usize, columns: usize, spread: f32) -> Case {
    let values = random.values(rows * columns, 0.0, spread);
    let mut batch = Batch::new(32);
    for _ in 0..rows {
        batch.push([(0, 0, 0)], 0);
    }
    Case {
        kernel: "l2_normalize",
        shape: format!("{rows} rows of {columns}, ± {spread:e}"),
        dispatches: vec![L2Normalize { reduce, values: Slot::Scratch(0), columns }.dispatch()],
        batch,
        contents: Contents::from([(Slot::Scratch(0), bytes(&values))]),
        expected: vec![(Slot::Scratch(0), reference::l2_normalize(&widen(&values), columns))],
        token_rows: vec![(Slot::Scratch(0), columns)],
        tolerance: TOLERANCE,
    }
}
