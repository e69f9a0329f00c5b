//! Cases of `summarize`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::Reduce;
use crate::kernels::summarize::{NUMBERS, Summarize};
use crate::reference;
use crate::schedule::Slot;

/// Rows, where the first group begins, groups, elements of a group, elements behind the last.
type Shape = (usize, usize, usize, usize, usize);

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for shape in [(1, 0, 1, 1, 0), (5, 3, 1, 7, 2), (9, 0, 1, 64, 0), (7, 5, 3, 65, 1), (3, 0, 1, 1000, 0)] {
            for (center, spread) in [(0.0, 1.0), (4.0, 1.0), (0.0, 1e-15), (0.0, 1e18)] {
                plans.push(case(reduce, shape, center, spread));
            }
        }
        // of a prompt of GPT-2
        plans.push(case(reduce, (128, 768, 12, 64, 768), 0.0, 1.0).sized(Size::Large));
    }
    plans
}

fn case(reduce: Reduce, shape: Shape, center: f32, spread: f32) -> Plan {
    let (rows, first, groups, columns, behind) = shape;
    let stride = first + groups * columns + behind;
    let (values, summary) = (Slot::Scratch(0), Slot::Scratch(1));
    let kernel = Summarize { reduce, values, stride, first, groups, columns, summary };
    let token_rows = vec![(values, stride), (summary, NUMBERS * groups)];
    let shape = format!("{rows} rows of {groups} × {columns} from {first} of {stride}, {center} ± {spread:e}");
    Plan::new("summarize", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let x = random.values(rows * stride, center, spread);
        let expected = reference::summarize(&widen(&x), stride, first, groups, columns);
        let contents = Contents::from([(values, bytes(&x)), (summary, POISON.to_le_bytes().repeat(expected.len()))]);
        Inputs::new(tokens(rows), contents, vec![(summary, expected)])
    })
}
