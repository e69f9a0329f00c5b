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
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let qkv = Qkv::new(random, heads, head_size, total, longest, has_bias);
    let mut batch = Batch::default();
    for &length in lengths {
        batch.push((0..length as u32).map(|i| (0, i, 0)), 0, attention::tile(head_size));
    }
    let width = heads * head_size;
    let kernel = Attention { heads: qkv.heads, bias: qkv.bias, z: Slot::Scratch(1) };
    Case {
        kernel: "attention",
        shape: format!("{heads} heads of {head_size}, sequences of {lengths:?}"),
        dispatches: vec![kernel.dispatch()],
        batch,
        expected: vec![(Slot::Scratch(1), reference::attention(&qkv.input(), lengths))],
        contents: qkv.contents(total * width),
        token_rows: vec![(Slot::Scratch(0), 3 * width), (Slot::Scratch(1), width)],
        tolerance: TOLERANCE,
    }
}

/// Random queries, keys and values of some tokens, and a table of biases.
pub(super) struct Qkv {
    pub heads: Heads,
    pub bias: Option<RelativeBias>,
    values: Vec<f32>,
    table: Vec<f32>,
    wide_values: Vec<f64>,
    /// Empty where there is no bias.
    wide_table: Vec<f64>,
    reach: usize,
}

impl Qkv {
    pub fn new(
        random: &mut Random,
        heads: usize,
        head_size: usize,
        tokens: usize,
        longest: usize,
        has_bias: bool,
    ) -> Self {
        let width = heads * head_size;
        // longer than the longest sequence, as a model's table is
        let reach = longest + 3;
        let values = random.values(tokens * 3 * width, 0.0, 2.0);
        let table = random.values(heads * (2 * reach - 1), 0.0, 2.0);
        Qkv {
            heads: Heads {
                buffer: Slot::Scratch(0),
                stride: 3 * width,
                first_q: 0,
                first_k: width,
                first_v: 2 * width,
                heads,
                head_size,
                scale: 1.0 / (head_size as f32).sqrt(),
            },
            bias: has_bias.then_some(RelativeBias { table: Slot::Weight(0), reach }),
            wide_values: widen(&values),
            wide_table: if has_bias { widen(&table) } else { Vec::new() },
            values,
            table,
            reach,
        }
    }

    /// As the references take it.
    pub fn input(&self) -> AttentionInput<'_> {
        AttentionInput {
            qkv: &self.wide_values,
            heads: self.heads.heads,
            head_size: self.heads.head_size,
            scale: f64::from(self.heads.scale),
            bias: &self.wide_table,
            reach: self.reach,
        }
    }

    /// The buffers before, with a poisoned output of that many elements.
    pub fn contents(&self, output: usize) -> Contents {
        Contents::from([
            (Slot::Scratch(0), bytes(&self.values)),
            (Slot::Weight(0), bytes(&self.table)),
            (Slot::Scratch(1), POISON.to_le_bytes().repeat(output)),
        ])
    }
}
