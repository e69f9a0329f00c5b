//! Cases of `softmax`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan, tokens};
use crate::kernels::Reduce;
use crate::kernels::softmax::Softmax;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for columns in [1, 2, 3, 63, 64, 65, 130, 1000] {
            for (rows, center, spread) in [(1, 0.0, 1.0), (7, 0.0, 30.0), (33, 1e4, 3.0), (2, -1e4, 3.0)] {
                plans.push(case(reduce, rows, columns, center, spread));
            }
        }
    }
    plans
}

pub(crate) fn case(reduce: Reduce, rows: usize, columns: usize, center: f32, spread: f32) -> Plan {
    let softmax = Softmax {
        reduce,
        values: Slot::Scratch(0),
        rows: Extent::new(1, Dim::Tokens),
        columns: Extent::new(columns as u64, Dim::One),
    };
    let shape = format!("{rows} rows of {columns}, {center} ± {spread}");
    Plan::new("softmax", shape, vec![softmax.dispatch()], vec![(Slot::Scratch(0), columns)], move |random| {
        let values = random.values(rows * columns, center, spread);
        let expected = reference::softmax(&widen(&values), columns);
        let contents = Contents::from([(Slot::Scratch(0), bytes(&values))]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(0), expected)])
    })
}
