//! Cases of `attention_scores`.

use super::attention::Qkv;
use super::random::Random;
use super::{Case, TOLERANCE, tokens};
use crate::kernels::attention_scores::AttentionScores;
use crate::reference;
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
    let qkv = Qkv::new(random, heads, head_size, length, length, has_bias);
    let kernel = AttentionScores { heads: qkv.heads, bias: qkv.bias, scores: Slot::Scratch(1) };
    Case {
        kernel: "attention_scores",
        shape: format!("{heads} heads of {head_size}, {length} tokens"),
        dispatches: vec![kernel.dispatch()],
        batch: tokens(length),
        expected: vec![(Slot::Scratch(1), reference::attention_scores(&qkv.input(), length))],
        contents: qkv.contents(heads * length * length),
        token_rows: Vec::new(),
        tolerance: TOLERANCE,
    }
}
