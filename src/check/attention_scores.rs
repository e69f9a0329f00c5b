//! Cases of `attention_scores`.

use super::attention::{Paged, Qkv, REACH, Shape};
use super::{Inputs, Plan};
use crate::kernels::Reduce;
use crate::kernels::attention::{self, Mask, RelativeBias};
use crate::kernels::attention_scores::AttentionScores;
use crate::kernels::softmax::Softmax;
use crate::reference::{self, Span};
use crate::schedule::{Batch, Dim, Extent, Slot};

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (heads, head_size, length) in [(1, 1, 1), (2, 5, 7), (3, 32, 16), (12, 33, 19)] {
        for bias in [false, true] {
            for cap in [None, Some(2.0)] {
                plans.push(case(Shape { bias, cap, ..Shape::new(heads, head_size) }, length));
            }
        }
    }
    for mask in [Mask::CAUSAL, Mask::window(4), Mask { before: 3, after: 2 }] {
        plans.push(pattern(Shape { kv_heads: 2, mask, ..Shape::new(6, 8) }, &[13]));
        plans.push(pattern(Shape { kv_heads: 1, mask, bias: true, ..Shape::new(2, 12) }, &[5, 40, 1, 33]));
    }
    for cap in [None, Some(2.0)] {
        for mask in [Mask::CAUSAL, Mask::window(30)] {
            plans.push(paged(
                Shape { kv_heads: 2, cap, mask, ..Shape::new(4, 9) },
                &[(61, 6), (0, 9), (130, 1), (7, 34)],
            ));
        }
    }
    plans
}

/// A sequence alone, in which every query sees every key.
pub(crate) fn case(shape: Shape, length: usize) -> Plan {
    rows(shape, vec![length], None)
}

/// The scores with the softmax that follows them: those of hidden keys, -1e30, would drown all others in one norm.
fn pattern(shape: Shape, lengths: &[usize]) -> Plan {
    rows(shape, lengths.to_vec(), Some(softmax(shape)))
}

fn softmax(shape: Shape) -> Softmax {
    Softmax {
        reduce: Reduce::Workgroup,
        values: Slot::Scratch(1),
        rows: Extent::new(shape.heads as u64, Dim::Tokens),
        columns: Extent::new(1, Dim::Keys),
    }
}

fn rows(shape: Shape, lengths: Vec<usize>, softmax: Option<Softmax>) -> Plan {
    let (scores, heads) = (Slot::Scratch(1), shape.in_rows());
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let reach = longest + REACH;
    let bias = shape.bias.then_some(RelativeBias { table: Slot::Weight(0), reach });
    let kernel = AttentionScores { heads, bias, scores };
    let dispatches = std::iter::once(kernel.dispatch()).chain(softmax.map(|s| s.dispatch())).collect();
    let name = format!("{shape}, sequences of {lengths:?}");
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (scores, shape.heads * longest)];
    Plan::new("attention_scores", name, dispatches, token_rows, move |random| {
        let total: usize = lengths.iter().sum();
        let qkv = Qkv::new(random, shape, total, reach);
        let mut batch = Batch::new(attention::tile(shape.head_size));
        for &length in &lengths {
            batch.push((0..length as u32).map(|i| (0, i, 0)), 0);
        }
        let mut expected = reference::attention_scores(&qkv.input(), &Span::whole(&lengths), longest);
        if softmax.is_some() {
            expected = reference::softmax(&expected, longest);
        }
        Inputs::new(batch, qkv.contents(shape.heads * total * longest), vec![(scores, expected)])
    })
}

/// Keys in a cache, with the softmax.
fn paged(shape: Shape, sequences: &'static [(usize, usize)]) -> Plan {
    let (scores, heads) = (Slot::Scratch(1), shape.in_pages());
    let longest = sequences.iter().map(|(past, own)| past + own).max().unwrap_or(1);
    let dispatches = vec![AttentionScores { heads, bias: None, scores }.dispatch(), softmax(shape).dispatch()];
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (scores, shape.heads * longest)];
    let name = format!("{shape}, (past, own) of {sequences:?}");
    Plan::new("attention_scores", name, dispatches, token_rows, move |random| {
        let paged = Paged::new(random, shape, attention::tile(shape.head_size), sequences);
        let contents = paged.contents(scores, paged.tokens() * shape.heads * longest);
        let expected = reference::attention_scores(&paged.input(), &paged.spans, longest);
        Inputs::new(paged.batch, contents, vec![(scores, reference::softmax(&expected, longest))])
    })
}
