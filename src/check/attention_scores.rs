//! Cases of `attention_scores`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE, tokens};
use crate::kernels::attention::{Heads, RelativeBias};
use crate::kernels::attention_scores::AttentionScores;
use crate::reference::{self, AttentionInput};
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (heads, head_size, length) in [(1, 1, 1), (2, 5, 7), (3, 32, 16), (12, 33, 19)] {
        for bias in [false, true] {
            cases.push(case(random, heads, head_size, length, bias));
        }
    }
    cases
}

fn case(random: &mut Random, heads: usize, head_size: usize, length: usize, has_bias: bool) -> Case {
    let width = heads * head_size;
    let reach = length + 3;
    let qkv = random.values(length * 3 * width, 0.0, 2.0);
    let bias = random.values(heads * (2 * reach - 1), 0.0, 2.0);
    let scale = 1.0 / (head_size as f32).sqrt();
    let kernel = AttentionScores {
        heads: Heads {
            buffer: Slot::Scratch(0),
            stride: 3 * width,
            first_q: 0,
            first_k: width,
            first_v: 2 * width,
            heads,
            head_size,
            scale,
        },
        bias: has_bias.then_some(RelativeBias { table: Slot::Weight(0), reach }),
        scores: Slot::Scratch(1),
    };
    let (wide, wide_bias) = (widen(&qkv), widen(&bias));
    let input = AttentionInput {
        qkv: &wide,
        heads,
        head_size,
        scale: f64::from(scale),
        bias: if has_bias { &wide_bias } else { &[] },
        reach,
    };
    Case {
        kernel: "attention_scores",
        shape: format!("{heads} heads of {head_size}, {length} tokens"),
        dispatches: vec![kernel.dispatch()],
        batch: tokens(length),
        contents: Contents::from([
            (Slot::Scratch(0), bytes(&qkv)),
            (Slot::Weight(0), bytes(&bias)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(heads * length * length)),
        ]),
        expected: vec![(Slot::Scratch(1), reference::attention_scores(&input, length))],
        token_rows: Vec::new(),
        tolerance: TOLERANCE,
    }
}
