//! Cases of `attention`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE};
use crate::kernels::attention::{self, Attention, Heads, Mask, RelativeBias};
use crate::reference::{self, AttentionInput};
use crate::schedule::{Batch, Slot};

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for head_size in [1, 3, 4, 10, 32, 33, 36, 64, 65, 96, 100, 128, 130, 151, 252, 255, 256] {
        for bias in [false, true] {
            for cap in [None, Some(1.5)] {
                cases.push(case(random, Shape { bias, cap, ..Shape::new(2, head_size) }, &[3, 1, 9, 40]));
            }
        }
    }
    for lengths in [&[1][..], &[7, 8, 9, 16, 17], &[31, 32, 33], &[130]] {
        for bias in [false, true] {
            cases.push(case(random, Shape { bias, ..Shape::new(3, 12) }, lengths));
        }
        // causal, windows of some tokens, and local on both sides; heads that share keys and values
        let local = Mask { before: 9, after: 20 };
        for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(5), Mask::window(40), local] {
            for kv_heads in [1, 3, 6] {
                cases.push(case(random, Shape { kv_heads, mask, ..Shape::new(6, 10) }, lengths));
            }
        }
    }
    cases
}

/// What differs between cases.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub bias: bool,
    pub cap: Option<f32>,
    pub mask: Mask,
}

impl Shape {
    pub fn new(heads: usize, head_size: usize) -> Self {
        Shape { heads, kv_heads: heads, head_size, bias: false, cap: None, mask: Mask::NONE }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { heads, kv_heads, head_size, mask, .. } = self;
        write!(f, "{heads}/{kv_heads} heads of {head_size}")?;
        if *mask != Mask::NONE {
            write!(f, ", {mask:?}")?;
        }
        Ok(())
    }
}

fn case(random: &mut Random, shape: Shape, lengths: &[usize]) -> Case {
    let total: usize = lengths.iter().sum();
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let qkv = Qkv::new(random, shape, total, longest);
    let mut batch = Batch::new(attention::tile(shape.head_size));
    for &length in lengths {
        batch.push((0..length as u32).map(|i| (0, i, 0)), 0);
    }
    let width = shape.heads * shape.head_size;
    let kernel = Attention { heads: qkv.heads, bias: qkv.bias, z: Slot::Scratch(1) };
    Case {
        kernel: "attention",
        shape: format!("{shape}, sequences of {lengths:?}"),
        dispatches: vec![kernel.dispatch()],
        batch,
        expected: vec![(Slot::Scratch(1), reference::attention(&qkv.input(), lengths))],
        contents: qkv.contents(total * width),
        token_rows: vec![(Slot::Scratch(0), qkv.heads.stride), (Slot::Scratch(1), width)],
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
    pub fn new(random: &mut Random, shape: Shape, tokens: usize, longest: usize) -> Self {
        let Shape { heads, kv_heads, head_size, .. } = shape;
        let (width, kv_width) = (heads * head_size, kv_heads * head_size);
        let stride = width + 2 * kv_width;
        // longer than the longest sequence, as a model's table is
        let reach = longest + 3;
        let values = random.values(tokens * stride, 0.0, 2.0);
        // away from 0, so that a single score does not cancel
        let table = random.values(heads * (2 * reach - 1), 7.0, 2.0);
        Qkv {
            heads: Heads {
                buffer: Slot::Scratch(0),
                stride,
                first_q: 0,
                first_k: width,
                first_v: width + kv_width,
                heads,
                kv_heads,
                head_size,
                scale: 1.0 / (head_size as f32).sqrt(),
                cap: shape.cap,
                mask: shape.mask,
            },
            bias: shape.bias.then_some(RelativeBias { table: Slot::Weight(0), reach }),
            wide_values: widen(&values),
            wide_table: if shape.bias { widen(&table) } else { Vec::new() },
            values,
            table,
            reach,
        }
    }

    /// As the references take it.
    pub fn input(&self) -> AttentionInput<'_> {
        AttentionInput { heads: self.heads, qkv: &self.wide_values, bias: &self.wide_table, reach: self.reach }
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
