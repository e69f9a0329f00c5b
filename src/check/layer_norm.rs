//! Cases of `layer_norm`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::Rows;
use crate::kernels::layer_norm::{LayerNorm, Output};
use crate::kernels::matmul::MatMul;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for sums in Rows::ALL {
        for columns in [1, 2, 3, 31, 63, 64, 65, 130, 384, 1000] {
            for (rows, center) in [(1, 0.0), (7, 0.5), (33, -3.0)] {
                for in_place in [true, false] {
                    plans.push(case(sums, in_place, rows, columns, center));
                }
            }
        }
        // MiniLM's, GPT-2's and Pythia-1b's
        for (rows, columns) in [(128, 384), (64, 768), (9, 2048)] {
            plans.push(case(sums, columns == 384, rows, columns, 0.5).sized(Size::Large));
        }
        // more rows than workgroups in one dimension
        plans.push(case(sums, true, 65_600, 3, 0.0).sized(Size::Large));
    }
    plans
}

pub(crate) fn case(sums: Rows, in_place: bool, rows: usize, columns: usize, center: f32) -> Plan {
    let has_beta = rows != 7;
    // one that shows, and a model's, of which rows like these say nothing
    let eps = if rows == 33 { 0.3f32 } else { 1e-5 };
    let (out_slot, output) = if in_place {
        (Slot::Stream, Output::InPlace)
    } else {
        (Slot::Scratch(0), Output::Into { rows: Slot::Stream, output: Slot::Scratch(0) })
    };
    let norm = LayerNorm {
        sums,
        gamma: Slot::Weight(0),
        beta: has_beta.then_some(Slot::Weight(1)),
        rows: MatMul::TOKENS,
        columns,
        eps,
        output,
    };
    let shape = format!("{rows} rows of {columns} around {center}");
    let token_rows = vec![(Slot::Stream, columns), (out_slot, columns)];
    Plan::new("layer_norm", shape, vec![norm.dispatch()], token_rows, move |random| {
        // neighbours differ by more than their size, so that no row of few columns has a variance of nearly nothing
        let mut stream = random.values(rows * columns, center, 0.8);
        for (i, x) in stream.iter_mut().enumerate() {
            *x += if (i % columns).is_multiple_of(2) { 1.0 } else { -1.0 };
        }
        let gamma = random.values(columns, 1.0, 0.5);
        let beta = random.values(columns, 0.0, if has_beta { 0.5 } else { 0.0 });
        let mut contents = Contents::from([(Slot::Weight(0), bytes(&gamma)), (Slot::Weight(1), bytes(&beta))]);
        contents.insert(out_slot, POISON.to_le_bytes().repeat(rows * columns));
        contents.insert(Slot::Stream, bytes(&stream));
        let expected = reference::layer_norm(&widen(&stream), &widen(&gamma), &widen(&beta), f64::from(eps));
        Inputs::new(tokens(rows), contents, vec![(out_slot, expected)])
    })
}
