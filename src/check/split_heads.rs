//! Cases of `split_heads`.

use std::ops::Range;

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::split_heads::SplitHeads;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<_> = [(1, 1, 1), (3, 1, 5), (5, 3, 7), (2, 12, 32), (9, 5, 33)]
        .map(|(rows, heads, size)| case(rows, heads, size, 0..heads))
        .into();
    // some of the heads
    plans.push(case(4, 5, 7, 1..4));
    // of a prompt of GPT-2
    plans.push(case(128, 12, 64, 0..12).sized(Size::Large));
    plans
}

fn case(rows: usize, heads: usize, head_size: usize, wanted: Range<usize>) -> Plan {
    let tokens_each = Extent::new(1, Dim::Tokens);
    let (z, split) = (Slot::Scratch(0), Slot::Scratch(1));
    let split = SplitHeads { z, split, tokens: tokens_each, heads, wanted: wanted.clone(), head_size };
    let columns = heads * head_size;
    let token_rows = vec![(Slot::Scratch(0), columns), (Slot::Scratch(1), wanted.len() * columns)];
    let shape = format!("heads {wanted:?} of {rows} rows of {heads} of {head_size}");
    Plan::new("split_heads", shape, vec![split.dispatch()], token_rows, move |random| {
        let z = random.values(rows * columns, 0.0, 1.0);
        let expected = reference::split_heads(&widen(&z), heads, head_size, wanted.clone());
        let contents = Contents::from([
            (Slot::Scratch(0), bytes(&z)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(expected.len())),
        ]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(1), expected)])
    })
}
