//! Cases of `summarize`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::Reduce;
use crate::kernels::summarize::{Summarize, numbers};
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

/// Rows, where the first group begins, groups, elements of a group, elements behind the last.
type Shape = (usize, usize, usize, usize, usize);

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for shape in [(1, 0, 1, 1, 0), (5, 3, 1, 7, 2), (9, 0, 1, 64, 0), (7, 5, 3, 65, 1), (3, 0, 1, 1000, 0)] {
            for (center, spread) in [(0.0, 1.0), (4.0, 1.0), (0.0, 1e-15), (0.0, 1e18)] {
                plans.push(case(reduce, shape, 1, center, spread));
            }
            // none; and more than there are
            plans.push(case(reduce, shape, 0, 0.0, 1.0));
            plans.push(case(reduce, shape, 9, 0.0, 1.0));
        }
        // equal ones, of which every invocation tells more than one
        plans.push(case(reduce, (3, 1, 2, 150, 0), 100, 2.0, 0.0));
        // of a prompt of GPT-2; of logits
        plans.push(case(reduce, (128, 768, 12, 64, 768), 4, 0.0, 1.0).sized(Size::Large));
        plans.push(case(reduce, (3, 0, 1, 50257, 0), 64, 0.0, 1.0).sized(Size::Large));
    }
    plans
}

fn case(reduce: Reduce, shape: Shape, top: usize, center: f32, spread: f32) -> Plan {
    let (rows, first, groups, columns, behind) = shape;
    let stride = first + groups * columns + behind;
    let (values, summary) = (Slot::Scratch(0), Slot::Scratch(1));
    let fixed = |n: usize| Extent::new(n as u64, Dim::One);
    let kernel = Summarize {
        reduce,
        values,
        rows: Extent::new(1, Dim::Tokens),
        stride: fixed(stride),
        first: fixed(first),
        groups,
        columns: fixed(columns),
        top,
        summary,
    };
    let token_rows = vec![(values, stride), (summary, numbers(top) * groups)];
    let shape = format!("{top} of {rows} rows of {groups} × {columns} from {first} of {stride}, {center} ± {spread:e}");
    Plan::new("summarize", shape, vec![kernel.dispatch()], token_rows, move |random| {
        let x = random.values(rows * stride, center, spread);
        let expected = reference::summarize(&widen(&x), stride, first, groups, columns, top);
        let contents = Contents::from([(values, bytes(&x)), (summary, POISON.to_le_bytes().repeat(expected.len()))]);
        Inputs::new(tokens(rows), contents, vec![(summary, expected)])
    })
}
