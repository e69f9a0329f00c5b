//! Cases of `attention`.

use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE};
use crate::kernels::attention::{self, Attention, Heads, Mask, PAGE, RelativeBias};
use crate::reference::{self, AttentionInput, Span};
use crate::schedule::{Batch, Slot};

pub(super) const HEAD_SIZES: [usize; 17] = [1, 3, 4, 10, 32, 33, 36, 64, 65, 96, 100, 128, 130, 151, 252, 255, 256];

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for head_size in HEAD_SIZES {
        for cap in [None, Some(1.5)] {
            for bias in [false, true] {
                cases.push(case(random, Shape { bias, cap, ..Shape::new(2, head_size) }, &[3, 1, 9, 40]));
            }
            // chunks that begin and end within a page, and within a group of 8 keys
            let shape = Shape { kv_heads: 1, cap, mask: Mask::CAUSAL, ..Shape::new(2, head_size) };
            cases.push(paged(random, shape, &[(61, 6), (0, 9), (4, 1), (63, 34)]));
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
    for sequences in [&[(0, 150)][..], &[(64, 64), (128, 1), (7, 120)], &[(0, 1), (200, 3), (63, 1), (64, 1)]] {
        for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(5), Mask::window(70)] {
            for (heads, kv_heads, head_size) in [(7, 7, 5), (6, 2, 12), (5, 1, 8)] {
                cases.push(paged(random, Shape { kv_heads, mask, ..Shape::new(heads, head_size) }, sequences));
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
        expected: vec![(Slot::Scratch(1), reference::attention(&qkv.input(), &Span::whole(lengths)))],
        contents: qkv.contents(total * width),
        token_rows: vec![(Slot::Scratch(0), qkv.heads.q_stride), (Slot::Scratch(1), width)],
        tolerance: TOLERANCE,
    }
}

fn paged(random: &mut Random, shape: Shape, sequences: &[(usize, usize)]) -> Case {
    let paged = Paged::new(random, shape, attention::tile(shape.head_size), sequences);
    let width = shape.heads * shape.head_size;
    let kernel = Attention { heads: paged.heads, bias: None, z: Slot::Scratch(1) };
    Case {
        kernel: "attention",
        shape: format!("{shape}, (past, own) of {sequences:?}"),
        dispatches: vec![kernel.dispatch()],
        expected: vec![(Slot::Scratch(1), reference::attention(&paged.input(), &paged.spans))],
        contents: paged.contents(Slot::Scratch(1), paged.tokens() * width),
        batch: paged.batch,
        token_rows: vec![(Slot::Scratch(0), paged.heads.q_stride), (Slot::Scratch(1), width)],
        tolerance: TOLERANCE,
    }
}

/// Random queries of some sequences, and a cache that holds their keys and values in pages in no order. Nothing may be
/// read of the queries' rows but the queries, nor of the cache but what belongs to a sequence.
pub(super) struct Paged {
    pub heads: Heads,
    pub batch: Batch,
    pub spans: Vec<Span>,
    q: Vec<f32>,
    kv: Vec<f32>,
    wide_q: Vec<f64>,
    wide_kv: Vec<f64>,
}

impl Paged {
    /// `sequences` are how many tokens of each were before, and how many are in the batch.
    pub fn new(random: &mut Random, shape: Shape, tile: u32, sequences: &[(usize, usize)]) -> Self {
        let Shape { heads, kv_heads, head_size, .. } = shape;
        let page = PAGE as usize;
        let kv_stride = 2 * kv_heads * head_size;
        let q_stride = heads * head_size + kv_stride;
        let needed = |&(past, own): &(usize, usize)| (past + own).div_ceil(page);
        let free = random.shuffled(sequences.iter().map(needed).sum::<usize>() + 2);
        let mut kv = vec![f32::from_bits(POISON); free.len() * page * kv_stride];
        let mut free = free.into_iter();
        let mut batch = Batch::new(tile);
        let (mut spans, mut row) = (Vec::new(), 0);
        for sequence in sequences {
            let &(past, own) = sequence;
            let pages: Vec<u32> = free.by_ref().take(needed(sequence)).collect();
            batch.push_cached(&vec![0; own], past as u32, &pages, None, &[]);
            let keys: Vec<_> = (0..past + own).map(|i| pages[i / page] as usize * page + i % page).collect();
            for key in &keys {
                kv[key * kv_stride..][..kv_stride].copy_from_slice(&random.values(kv_stride, 0.0, 2.0));
            }
            spans.push(Span { row, queries: own, past, keys });
            row += own;
        }
        let mut q = vec![f32::from_bits(POISON); row * q_stride];
        for row in q.chunks_exact_mut(q_stride) {
            row[..heads * head_size].copy_from_slice(&random.values(heads * head_size, 0.0, 2.0));
        }
        Paged {
            heads: Heads {
                q: Slot::Scratch(0),
                q_stride,
                first_q: 0,
                kv: Slot::Cache(0),
                kv_stride,
                first_k: 0,
                first_v: kv_heads * head_size,
                heads,
                kv_heads,
                head_size,
                scale: 1.0 / (head_size as f32).sqrt(),
                cap: shape.cap,
                mask: shape.mask,
            },
            batch,
            spans,
            wide_q: widen(&q),
            wide_kv: widen(&kv),
            q,
            kv,
        }
    }

    /// In the batch.
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|span| span.queries).sum()
    }

    /// As the references take it.
    pub fn input(&self) -> AttentionInput<'_> {
        AttentionInput { heads: self.heads, q: &self.wide_q, kv: &self.wide_kv, bias: &[], reach: 1 }
    }

    /// The buffers before, with a poisoned output of that many elements.
    pub fn contents(&self, output: Slot, elements: usize) -> Contents {
        Contents::from([
            (Slot::Scratch(0), bytes(&self.q)),
            (Slot::Cache(0), bytes(&self.kv)),
            (output, POISON.to_le_bytes().repeat(elements)),
        ])
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
                q: Slot::Scratch(0),
                q_stride: stride,
                first_q: 0,
                kv: Slot::Scratch(0),
                kv_stride: stride,
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
        let wide = &self.wide_values;
        AttentionInput { heads: self.heads, q: wide, kv: wide, bias: &self.wide_table, reach: self.reach }
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
