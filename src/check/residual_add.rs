//! Cases of `residual_add`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::residual_add::ResidualAdd;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<_> =
        [(1, 1), (1, 255), (3, 85), (7, 384), (130, 33)].map(|(rows, columns)| case(rows, columns)).into();
    // of a prompt of GPT-2
    plans.push(case(512, 768).sized(Size::Large));
    plans
}

pub(crate) fn case(rows: usize, columns: usize) -> Plan {
    let add = ResidualAdd { term: Slot::Scratch(0), columns };
    let token_rows = vec![(Slot::Scratch(0), columns), (Slot::Stream, columns)];
    let shape = format!("{rows} rows of {columns}");
    Plan::new("residual_add", shape, vec![add.dispatch()], token_rows, move |random| {
        let stream = random.values(rows * columns, 0.0, 1.0);
        let term = random.values(rows * columns, 0.0, 1.0);
        let expected = reference::residual_add(&widen(&stream), &widen(&term));
        let contents = Contents::from([(Slot::Stream, bytes(&stream)), (Slot::Scratch(0), bytes(&term))]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Stream, expected)])
    })
}
