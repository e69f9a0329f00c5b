//! Cases of `l2_normalize`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan};
use crate::kernels::Reduce;
use crate::kernels::l2_normalize::L2Normalize;
use crate::reference;
use crate::schedule::{Batch, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 3, 63, 65, 384, 1000] {
            for (rows, spread) in [(1, 1.0), (9, 1e-15), (9, 1e18)] {
                plans.push(case(reduce, rows, columns, spread));
            }
        }
    }
    plans
}

pub(crate) fn case(reduce: Reduce, rows: usize, columns: usize, spread: f32) -> Plan {
    let kernel = L2Normalize { reduce, values: Slot::Scratch(0), columns };
    let shape = format!("{rows} rows of {columns}, ± {spread:e}");
    Plan::new("l2_normalize", shape, vec![kernel.dispatch()], vec![(Slot::Scratch(0), columns)], move |random| {
        let values = random.values(rows * columns, 0.0, spread);
        let mut batch = Batch::new(32);
        for _ in 0..rows {
            batch.push([(0, 0, 0)], 0);
        }
        let expected = reference::l2_normalize(&widen(&values), columns);
        let contents = Contents::from([(Slot::Scratch(0), bytes(&values))]);
        Inputs::new(batch, contents, vec![(Slot::Scratch(0), expected)])
    })
}
