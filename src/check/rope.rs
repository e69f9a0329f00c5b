//! Cases of `rope`.

use super::random::{bytes, widen};
use super::{Contents, Inputs, Plan};
use crate::kernels::rope::Rope;
use crate::reference;
use crate::schedule::{Input, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for interleaved in [false, true] {
        // the whole head, a part of it, and one pair
        for (heads, head_size, pairs) in [(1, 2, 1), (3, 10, 5), (3, 10, 2), (4, 64, 32), (5, 37, 9), (8, 256, 128)] {
            for (before, after) in [(0, 0), (7, 13)] {
                let stride = before + heads * head_size + after;
                let rope = Rope {
                    interleaved,
                    angles: Input::Angles,
                    rows: Slot::Scratch(0),
                    stride,
                    first: before,
                    heads,
                    head_size,
                    pairs,
                };
                plans.push(case(rope, 15));
            }
        }
    }
    plans
}

pub(crate) fn case(rope: Rope, tokens: usize) -> Plan {
    let shape = format!("{} heads of {}, {} pairs from {}", rope.heads, rope.head_size, rope.pairs, rope.first);
    Plan::new("rope", shape, vec![rope.dispatch()], vec![(Slot::Scratch(0), rope.stride)], move |random| {
        let mut batch = super::tokens(tokens);
        let rows = random.values(tokens * rope.stride, 0.0, 1.0);
        let turns = (0..tokens * rope.pairs).map(|_| 3.2 * random.uniform());
        let angles: Vec<f32> = turns.flat_map(|angle| [angle.cos(), angle.sin()]).collect();
        batch.push_angles(0, &angles);
        let expected = reference::rope(&widen(&rows), &widen(&angles), &rope);
        let contents = Contents::from([(Slot::Scratch(0), bytes(&rows))]);
        Inputs::new(batch, contents, vec![(Slot::Scratch(0), expected)])
    })
}
