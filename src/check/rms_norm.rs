//! Cases of `rms_norm`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::Rows;
use crate::kernels::rms_norm::RmsNorm;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for sums in Rows::ALL {
        for add_one in [false, true] {
            for columns in [1, 2, 3, 63, 64, 65, 130, 576, 1000] {
                for rows in [1, 7, 33] {
                    plans.push(whole_rows(sums, add_one, rows, columns));
                }
            }
            // Qwen 2.5's, Gemma 2's, Llama 2's
            for (rows, columns) in [(64, 896), (17, 2304), (4, 4096)] {
                plans.push(whole_rows(sums, add_one, rows, columns).sized(Size::Large));
            }
            for (heads, columns) in [(1, 5), (3, 10), (4, 64), (7, 33)] {
                plans.push(heads_in_place(sums, add_one, heads, columns, 5));
            }
            // Qwen 3's, whose rows and heads are vec4s
            for (heads, columns) in [(1, 4), (5, 64)] {
                plans.push(heads_in_place(sums, add_one, heads, columns, 8));
            }
        }
    }
    plans
}

/// A model's, of which rows like these say nothing.
const EPS: f32 = 1e-6;

/// Rows from one buffer into another.
pub(crate) fn whole_rows(sums: Rows, add_one: bool, rows: usize, columns: usize) -> Plan {
    // one that shows
    let eps = if rows == 33 { 0.3 } else { EPS };
    let norm = RmsNorm {
        sums,
        gamma: Slot::Weight(0),
        add_one,
        input: Slot::Scratch(0),
        output: Slot::Scratch(1),
        rows: Extent::new(1, Dim::Tokens),
        columns,
        heads: 1,
        stride: columns,
        first: 0,
        eps,
    };
    let token_rows = vec![(Slot::Scratch(0), columns), (Slot::Scratch(1), columns)];
    let shape = format!("{rows} rows of {columns}");
    Plan::new("rms_norm", shape, vec![norm.dispatch()], token_rows, move |random| {
        let values = random.values(rows * columns, 0.5, 2.0);
        let gamma = random.values(columns, if add_one { 0.2 } else { 1.0 }, 0.5);
        let contents = Contents::from([
            (Slot::Weight(0), bytes(&gamma)),
            (Slot::Scratch(0), bytes(&values)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(rows * columns)),
        ]);
        let expected = reference::rms_norm(&widen(&values), &scale(&gamma, add_one), eps.into());
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(1), expected)])
    })
}

/// Heads in the middle of rows, in place.
fn heads_in_place(sums: Rows, add_one: bool, heads: usize, columns: usize, first: usize) -> Plan {
    const ROWS: usize = 9;
    let width = heads * columns;
    let stride = (first + width + 3).next_multiple_of(if first.is_multiple_of(4) { 4 } else { 1 });
    let norm = RmsNorm {
        sums,
        gamma: Slot::Weight(0),
        add_one,
        input: Slot::Scratch(0),
        output: Slot::Scratch(0),
        rows: Extent::new(1, Dim::Tokens),
        columns,
        heads,
        stride,
        first,
        eps: EPS,
    };
    let shape = format!("{heads} heads of {columns} in {ROWS} rows of {stride}");
    Plan::new("rms_norm", shape, vec![norm.dispatch()], vec![(Slot::Scratch(0), stride)], move |random| {
        let values = random.values(ROWS * stride, 0.5, 2.0);
        let gamma = random.values(columns, if add_one { 0.2 } else { 1.0 }, 0.5);
        let mut expected = widen(&values);
        for row in expected.chunks_exact_mut(stride) {
            let heads = &mut row[first..first + width];
            heads.copy_from_slice(&reference::rms_norm(heads, &scale(&gamma, add_one), EPS.into()));
        }
        let contents = Contents::from([(Slot::Weight(0), bytes(&gamma)), (Slot::Scratch(0), bytes(&values))]);
        Inputs::new(tokens(ROWS), contents, vec![(Slot::Scratch(0), expected)])
    })
}

/// What rows are multiplied by.
fn scale(gamma: &[f32], add_one: bool) -> Vec<f64> {
    widen(gamma).iter().map(|g| g + f64::from(u8::from(add_one))).collect()
}
