//! Cases of `attention`.

use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan, Random, Size};
use crate::kernels::attention::{self, Attention, Form, Heads, Mask, PAGE, RelativeBias};
use crate::reference::{self, AttentionInput, Span};
use crate::schedule::{Batch, Slot};

/// How much further than the longest sequence a table of biases reaches, as a model's does.
pub(super) const REACH: usize = 3;

pub(super) const HEAD_SIZES: [usize; 17] = [1, 3, 4, 10, 32, 33, 36, 64, 65, 96, 100, 128, 130, 151, 252, 255, 256];

pub fn plans() -> Vec<Plan> {
    Form::ALL.into_iter().flat_map(plans_of).collect()
}

fn plans_of(form: Form) -> Vec<Plan> {
    let new = |heads, head_size| Shape { form, ..Shape::new(heads, head_size) };
    // of forms for GPUs the default set has each room and load, bias and cap with the smallest, and what the main loop sees
    let for_gpus = form == Form::Tile || form.cooperates();
    let chosen = |plan: Plan, often: bool| if for_gpus && !often { plan.only_full() } else { plan };
    let small = if form.cooperates() { 12 } else { 10 };
    let mut plans = Vec::new();
    for head_size in HEAD_SIZES {
        let often = [small, 32, 33, 64, 65, 128, 151, 252].contains(&head_size);
        for cap in [None, Some(1.5)] {
            for bias in [false, true] {
                let plan = case(Shape { bias, cap, ..new(2, head_size) }, &[3, 1, 9, 40]);
                plans.push(chosen(plan, often && bias == cap.is_some() && (head_size <= 32 || !bias)));
            }
            // chunks that begin and end within a page, and within a group of 8 keys
            let shape = Shape { kv_heads: 1, cap, mask: Mask::CAUSAL, ..new(2, head_size) };
            let plan = paged(shape, &[(61, 6), (0, 9), (4, 1), (63, 34)]);
            plans.push(chosen(plan, often && (head_size <= 32 || cap.is_none())));
        }
    }
    for lengths in [&[1][..], &[7, 8, 9, 16, 17], &[31, 32, 33], &[130]] {
        for bias in [false, true] {
            plans.push(case(Shape { bias, ..new(3, 12) }, lengths));
        }
        // causal, windows of some tokens, and local on both sides; heads that share keys and values
        let local = Mask { before: 9, after: 20 };
        for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(5), Mask::window(40), local] {
            for kv_heads in [1, 3, 6] {
                plans.push(chosen(case(Shape { kv_heads, mask, ..new(6, small) }, lengths), kv_heads == 3));
            }
        }
    }
    for head_size in [12, 33] {
        let shape = Shape { sharp: SHARP, mask: Mask::CAUSAL, ..new(2, head_size) };
        plans.push(Plan { tolerance: SHARP_TOLERANCE, ..case(shape, &[3, 1, 40]) });
        plans.push(Plan { tolerance: SHARP_TOLERANCE, ..paged(shape, &[(61, 6), (0, 9)]) });
    }
    // MiniLM's and GPT-2's, a prompt of SmolLM2's, and a chunk of Gemma 2's beside others
    plans.push(case(new(12, 32), &[128, 19, 77]));
    plans.push(case(Shape { mask: Mask::CAUSAL, ..new(12, 64) }, &[320]));
    plans.push(paged(Shape { kv_heads: 3, mask: Mask::CAUSAL, ..new(9, 64) }, &[(0, 300)]));
    let gemma = Shape { kv_heads: 4, cap: Some(50.0), mask: Mask::window(4096), ..new(8, 256) };
    plans.push(chosen(paged(gemma, &[(320, 40), (0, 9)]), false));
    // Llama 3's, long
    let llama = Shape { kv_heads: 8, mask: Mask::CAUSAL, ..new(32, 128) };
    plans.push(paged(llama, &[(1536, 512)]).sized(Size::Large).only_full());
    for sequences in [&[(0, 150)][..], &[(64, 64), (128, 1), (7, 120)], &[(0, 1), (200, 3), (63, 1), (64, 1)]] {
        for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(5), Mask::window(70)] {
            for (heads, kv_heads, head_size) in [(7, 7, 5), (6, 2, 12), (5, 1, 8)] {
                let plan = paged(Shape { kv_heads, mask, ..new(heads, head_size) }, sequences);
                plans.push(chosen(plan, kv_heads == 2));
            }
        }
    }
    // magnitudes that f16 has not; those of values differ from key to key
    for (mask, powers) in [(Mask::window(5), [40, -40, 60]), (Mask::CAUSAL, [-60, 60, -40])] {
        plans.push(case(Shape { powers, mask, ..new(2, 64) }, &[3, 1, 9, 70]));
    }
    if form.cooperates() {
        // what other forms compute there; and scores of hundreds, which f16 has to some tenths only
        plans.retain(|plan| plan.needs() == form.needs() && !plan.shape.contains("large scores"));
    }
    plans
}

/// Makes scores of hundreds.
pub(super) const SHARP: f32 = 100.0;
/// f32 has such scores to some 3e-5 each, and so their exponentials, relative to themselves.
pub(super) const SHARP_TOLERANCE: f64 = 1e-4;

/// What differs between cases.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub form: Form,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub bias: bool,
    pub cap: Option<f32>,
    pub mask: Mask,
    /// Times the usual scale: 1, or as much as makes scores whose exponential is too large for f32.
    pub sharp: f32,
    /// Queries, keys and values in rows are larger by these powers of two; values by one more or less from row to row.
    pub powers: [i32; 3],
}

impl Shape {
    pub fn new(heads: usize, head_size: usize) -> Self {
        Shape {
            form: Form::Uniform,
            heads,
            kv_heads: heads,
            head_size,
            bias: false,
            cap: None,
            mask: Mask::NONE,
            sharp: 1.0,
            powers: [0; 3],
        }
    }
}

impl Shape {
    /// Queries, keys and values in one buffer, as the product makes them.
    pub fn in_rows(&self) -> Heads {
        let width = self.heads * self.head_size;
        let kv_width = self.kv_heads * self.head_size;
        let stride = width + 2 * kv_width;
        self.placed(Slot::Scratch(0), stride, stride, [width, width + kv_width])
    }

    /// Queries in rows, keys and values in a cache.
    pub fn in_pages(&self) -> Heads {
        let kv_stride = 2 * self.kv_heads * self.head_size;
        let q_stride = self.heads * self.head_size + kv_stride;
        self.placed(Slot::Cache(0), q_stride, kv_stride, [0, self.kv_heads * self.head_size])
    }

    fn placed(&self, kv: Slot, q_stride: usize, kv_stride: usize, [first_k, first_v]: [usize; 2]) -> Heads {
        let Shape { heads, kv_heads, head_size, cap, mask, sharp, .. } = *self;
        let scale = sharp / (head_size as f32).sqrt();
        let (q, first_q) = (Slot::Scratch(0), 0);
        Heads { q, q_stride, first_q, kv, kv_stride, first_k, first_v, heads, kv_heads, head_size, scale, cap, mask }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shape { heads, kv_heads, head_size, mask, sharp, powers, .. } = self;
        write!(f, "{heads}/{kv_heads} heads of {head_size}")?;
        if *sharp != 1.0 {
            write!(f, ", large scores")?;
        }
        if *mask != Mask::NONE {
            write!(f, ", {mask:?}")?;
        }
        if *powers != [0; 3] {
            write!(f, ", times 2^{powers:?}")?;
        }
        Ok(())
    }
}

pub(crate) fn case(shape: Shape, lengths: &'static [usize]) -> Plan {
    let heads = shape.in_rows();
    let width = shape.heads * shape.head_size;
    let reach = lengths.iter().copied().max().unwrap_or(1) + REACH;
    let bias = shape.bias.then_some(RelativeBias { table: Slot::Weight(0), reach });
    let kernel = Attention { form: shape.form, heads, bias, z: Slot::Scratch(1) };
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (Slot::Scratch(1), width)];
    let name = format!("{shape}, sequences of {lengths:?}");
    Plan::new("attention", name, vec![kernel.dispatch()], token_rows, move |random| {
        let total: usize = lengths.iter().sum();
        let qkv = Qkv::new(random, shape, total, reach);
        let mut batch = Batch::new(attention::tile(shape.head_size));
        for &length in lengths {
            batch.push((0..length as u32).map(|i| (0, i, 0)), 0);
        }
        let contents = qkv.contents(total * width);
        judged(random, &qkv.input(), &Span::whole(lengths), batch, contents)
    })
}

pub(crate) fn paged(shape: Shape, sequences: &'static [(usize, usize)]) -> Plan {
    let heads = shape.in_pages();
    let width = shape.heads * shape.head_size;
    let kernel = Attention { form: shape.form, heads, bias: None, z: Slot::Scratch(1) };
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (Slot::Scratch(1), width)];
    let name = format!("{shape}, (past, own) of {sequences:?}");
    Plan::new("attention", name, vec![kernel.dispatch()], token_rows, move |random| {
        let paged = Paged::new(random, shape, attention::tile(shape.head_size), sequences);
        let contents = paged.contents(Slot::Scratch(1), paged.tokens() * width);
        judged(random, &paged.input(), &paged.spans, paged.batch.clone(), contents)
    })
}

/// More queries than this are too many for the reference.
const MANY: usize = 200;

/// All outputs beside the reference; of many queries, those of some.
fn judged(random: &mut Random, input: &AttentionInput<'_>, spans: &[Span], batch: Batch, contents: Contents) -> Inputs {
    let z = Slot::Scratch(1);
    let width = input.heads.heads * input.heads.head_size;
    let queries = spans.iter().map(|span| span.queries).sum::<usize>();
    if queries <= MANY {
        return Inputs::new(batch, contents, vec![(z, reference::attention(input, spans))]);
    }
    // as many as make 4,096 elements, and those at the edges of the sequences
    let mut some: Vec<usize> = (0..4096usize.div_ceil(width)).map(|_| random.below(queries)).collect();
    some.extend(spans.iter().flat_map(|span| [span.row, span.row + span.queries - 1]));
    some.sort_unstable();
    some.dedup();
    let mut elements = Vec::new();
    for row in some {
        for span in spans.iter().filter(|span| (span.row..span.row + span.queries).contains(&row)) {
            let one = Span { row, queries: 1, past: span.past + row - span.row, keys: span.keys.clone() };
            elements.extend((row * width..).zip(reference::attention(input, &[one])));
        }
    }
    Inputs::new(batch, contents, Vec::new()).sampled(z, elements)
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
        let heads = shape.in_pages();
        let page = PAGE as usize;
        let Heads { q_stride, kv_stride, .. } = heads;
        let width = shape.heads * shape.head_size;
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
            row[..width].copy_from_slice(&random.values(width, 0.0, 2.0));
        }
        Paged { heads, batch, spans, wide_q: widen(&q), wide_kv: widen(&kv), q, kv }
    }

    /// In the batch.
    pub fn tokens(&self) -> usize {
        self.spans.iter().map(|span| span.queries).sum()
    }

    /// Keys of each token's sequence.
    pub fn lengths(&self) -> Vec<usize> {
        self.spans.iter().flat_map(|span| vec![span.keys.len(); span.queries]).collect()
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
    values: Vec<f32>,
    table: Vec<f32>,
    wide_values: Vec<f64>,
    /// Empty where there is no bias.
    wide_table: Vec<f64>,
    reach: usize,
}

impl Qkv {
    pub fn new(random: &mut Random, shape: Shape, tokens: usize, reach: usize) -> Self {
        let heads = shape.in_rows();
        let mut values = random.values(tokens * heads.q_stride, 0.0, 2.0);
        for (i, row) in values.chunks_exact_mut(heads.q_stride).enumerate().filter(|_| shape.powers != [0; 3]) {
            let [q, k, v] = shape.powers;
            for (column, value) in row.iter_mut().enumerate() {
                let keys = if column < heads.first_v { k } else { v + [0, 9, -7][i % 3] };
                *value *= 2f32.powi(if column < heads.first_k { q } else { keys });
            }
        }
        // away from 0, so that a single score does not cancel
        let table = random.values(shape.heads * (2 * reach - 1), 7.0, 2.0);
        Qkv {
            heads,
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
