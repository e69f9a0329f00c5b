//! Cases of `attention`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE};
use crate::kernels::attention::{self, Attention, Heads, RelativeBias};
use crate::reference::{self, AttentionInput};
use crate::schedule::{Batch, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for head_size in [1, 3, 4, 10, 32, 33, 36, 64, 65, 96, 100, 128, 130, 151, 252, 255, 256] {
        for bias in [false, true] {
            cases.push(case(random, 2, head_size, &[3, 1, 9, 40], bias));
        }
    }
    for lengths in [&[1][..], &[7, 8, 9, 16, 17], &[31, 32, 33], &[130]] {
        for bias in [false, true] {
            cases.push(case(random, 3, 12, lengths, bias));
        }
    }
    cases
}

fn case(random: &mut Random, heads: usize, head_size: usize, lengths: &[usize], has_bias: bool) -> Case {
    let total: usize = lengths.iter().sum();
    let width = heads * head_size;
    // longer than the longest sequence, as a model's table is
    let reach = lengths.iter().max().map_or(1, |longest| longest + 3);
    let mut batch = Batch::default();
    for &length in lengths {
        batch.push((0..length as u32).map(|i| (0, i, 0)), 0, attention::tile(head_size));
    }
    let qkv = random.values(total * 3 * width, 0.0, 2.0);
    let bias = random.values(heads * (2 * reach - 1), 0.0, 2.0);
    let scale = 1.0 / (head_size as f32).sqrt();
    let kernel = Attention {
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
        z: Slot::Scratch(1),
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
        kernel: "attention",
        shape: format!("{heads} heads of {head_size}, sequences of {lengths:?}"),
        dispatches: vec![kernel.dispatch()],
        batch,
        contents: Contents::from([
            (Slot::Scratch(0), bytes(&qkv)),
            (Slot::Weight(0), bytes(&bias)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(total * width)),
        ]),
        expected: vec![(Slot::Scratch(1), reference::attention(&input, lengths))],
        token_rows: vec![(Slot::Scratch(0), 3 * width), (Slot::Scratch(1), width)],
        tolerance: TOLERANCE,
    }
}
