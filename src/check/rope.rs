//! Cases of `rope`.

use super::random::{Random, bytes, widen};
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::rope::Rope;
use crate::reference;
use crate::schedule::{Input, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for interleaved in [false, true] {
        // the whole head, a part of it, and one pair
        for (heads, head_size, pairs) in [(1, 2, 1), (3, 10, 5), (3, 10, 2), (4, 64, 32), (5, 37, 9)] {
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
                cases.push(case(random, rope));
            }
        }
    }
    cases
}

fn case(random: &mut Random, rope: Rope) -> Case {
    const TOKENS: usize = 15;
    let mut batch = tokens(TOKENS);
    let rows = random.values(TOKENS * rope.stride, 0.0, 1.0);
    let angles: Vec<f32> = (0..TOKENS * rope.pairs)
        .flat_map(|_| {
            let angle = 3.2 * random.uniform();
            [angle.cos(), angle.sin()]
        })
        .collect();
    batch.push_angles(0, &angles);
    let expected = reference::rope(&widen(&rows), &widen(&angles), &rope);
    Case {
        kernel: "rope",
        shape: format!("{} heads of {}, {} pairs from {}", rope.heads, rope.head_size, rope.pairs, rope.first),
        dispatches: vec![rope.dispatch()],
        batch,
        contents: Contents::from([(Slot::Scratch(0), bytes(&rows))]),
        expected: vec![(Slot::Scratch(0), expected)],
        token_rows: vec![(Slot::Scratch(0), rope.stride)],
        tolerance: TOLERANCE,
    }
}
