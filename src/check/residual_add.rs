//! Cases of `residual_add`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::residual_add::ResidualAdd;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    [(1, 1), (1, 255), (3, 85), (7, 384), (130, 33)].map(|(rows, columns)| case(random, rows, columns)).into()
}

fn case(random: &mut Random, rows: usize, columns: usize) -> Case {
    let stream = random.values(rows * columns, 0.0, 1.0);
    let term = random.values(rows * columns, 0.0, 1.0);
    Case {
        kernel: "residual_add",
        shape: format!("{rows} rows of {columns}"),
        dispatches: vec![ResidualAdd { term: Slot::Scratch(0), columns }.dispatch()],
        batch: tokens(rows),
        contents: Contents::from([(Slot::Stream, bytes(&stream)), (Slot::Scratch(0), bytes(&term))]),
        expected: vec![(Slot::Stream, reference::residual_add(&widen(&stream), &widen(&term)))],
        token_rows: vec![(Slot::Scratch(0), columns), (Slot::Stream, columns)],
        tolerance: TOLERANCE,
    }
}
