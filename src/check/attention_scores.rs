//! Cases of `attention_scores`.

use super::attention::{Qkv, Shape};
use super::random::Random;
use super::{Case, TOLERANCE, tokens};
use crate::kernels::Reduce;
use crate::kernels::attention::Mask;
use crate::kernels::attention_scores::AttentionScores;
use crate::kernels::softmax::Softmax;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for (heads, head_size, length) in [(1, 1, 1), (2, 5, 7), (3, 32, 16), (12, 33, 19)] {
        for bias in [false, true] {
            for cap in [None, Some(2.0)] {
                cases.push(case(random, Shape { bias, cap, ..Shape::new(heads, head_size) }, length));
            }
        }
    }
    for mask in [Mask::CAUSAL, Mask::window(4), Mask { before: 3, after: 2 }] {
        cases.push(pattern(random, Shape { kv_heads: 2, mask, ..Shape::new(6, 8) }, 13));
    }
    cases
}

fn case(random: &mut Random, shape: Shape, length: usize) -> Case {
    let qkv = Qkv::new(random, shape, length, length);
    let kernel = AttentionScores { heads: qkv.heads, bias: qkv.bias, scores: Slot::Scratch(1) };
    Case {
        kernel: "attention_scores",
        shape: format!("{shape}, {length} tokens"),
        dispatches: vec![kernel.dispatch()],
        batch: tokens(length),
        expected: vec![(Slot::Scratch(1), reference::attention_scores(&qkv.input(), length))],
        contents: qkv.contents(shape.heads * length * length),
        token_rows: Vec::new(),
        tolerance: TOLERANCE,
    }
}

/// The scores with the softmax that follows them: those of hidden keys, -1e30, would drown all others in one norm.
fn pattern(random: &mut Random, shape: Shape, length: usize) -> Case {
    let mut case = case(random, shape, length);
    let softmax = Softmax {
        reduce: Reduce::Workgroup,
        values: Slot::Scratch(1),
        rows: Extent::new(shape.heads as u64, Dim::Tokens),
        columns: Extent::new(1, Dim::Tokens),
    };
    case.dispatches.push(softmax.dispatch());
    for (_, expected) in &mut case.expected {
        *expected = reference::softmax(expected, length);
    }
    case
}
