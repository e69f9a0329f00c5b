//! Cases of `split_heads`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::split_heads::SplitHeads;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<_> = [(1, 1, 1), (3, 1, 5), (5, 3, 7), (2, 12, 32), (9, 5, 33)]
        .map(|(rows, heads, size)| case(rows, heads, size))
        .into();
    // of a prompt of GPT-2
    plans.push(case(128, 12, 64).sized(Size::Large));
    plans.push(range());
    plans
}

/// Some of the tokens only.
fn range() -> Plan {
    let (rows, heads, head_size, first_row, count) = (7, 3, 5, 2, 4);
    let tokens_each = Extent::new(count as u64, Dim::One);
    let (z, split) = (Slot::Scratch(0), Slot::Scratch(1));
    let split = SplitHeads { z, split, first_row, tokens: tokens_each, heads, head_size };
    let shape = format!("{count} of {rows} rows of {heads} heads of {head_size}");
    Plan::new("split_heads", shape, vec![split.dispatch()], Vec::new(), move |random| {
        let columns = heads * head_size;
        let values = random.values(rows * columns, 0.0, 1.0);
        let wanted = &values[first_row * columns..(first_row + count) * columns];
        let expected = reference::split_heads(&widen(wanted), heads, head_size);
        let contents = Contents::from([
            (Slot::Scratch(0), bytes(&values)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(expected.len())),
        ]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(1), expected)])
    })
}

fn case(rows: usize, heads: usize, head_size: usize) -> Plan {
    let tokens_each = Extent::new(1, Dim::Tokens);
    let (z, split) = (Slot::Scratch(0), Slot::Scratch(1));
    let split = SplitHeads { z, split, first_row: 0, tokens: tokens_each, heads, head_size };
    let columns = heads * head_size;
    let token_rows = vec![(Slot::Scratch(0), columns), (Slot::Scratch(1), heads * columns)];
    let shape = format!("{rows} rows of {heads} heads of {head_size}");
    Plan::new("split_heads", shape, vec![split.dispatch()], token_rows, move |random| {
        let z = random.values(rows * columns, 0.0, 1.0);
        let expected = reference::split_heads(&widen(&z), heads, head_size);
        let contents = Contents::from([
            (Slot::Scratch(0), bytes(&z)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(expected.len())),
        ]);
        Inputs::new(tokens(rows), contents, vec![(Slot::Scratch(1), expected)])
    })
}
