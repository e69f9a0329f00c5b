//! Cases of `split_heads`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Size, tokens};
use crate::kernels::split_heads::SplitHeads;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans: Vec<_> = [(1, 1, 1), (3, 1, 5), (5, 3, 7), (2, 12, 32), (9, 5, 33)]
        .map(|(rows, heads, size)| case(rows, heads, size))
        .into();
    // of a prompt of GPT-2
    plans.push(case(128, 12, 64).sized(Size::Large));
    plans
}

fn case(rows: usize, heads: usize, head_size: usize) -> Plan {
    let split = SplitHeads { z: Slot::Scratch(0), split: Slot::Scratch(1), heads, head_size };
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
