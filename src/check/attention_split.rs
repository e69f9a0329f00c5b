//! Cases of `attention_split`, with the merge that follows it.

use super::attention::{HEAD_SIZES, Paged, SHARP, SHARP_TOLERANCE, Shape};
use super::{Inputs, Plan};
use crate::kernels::Reduce;
use crate::kernels::attention::{Mask, SPLIT};
use crate::kernels::attention_merge::AttentionMerge;
use crate::kernels::attention_split::{AttentionSplit, partial_size};
use crate::reference;
use crate::schedule::Slot;

/// `(past, own)` of sequences of very different lengths; the last is a prompt, with a tile for each query.
const STEPS: [(usize, usize); 5] = [(0, 1), (299, 1), (62, 1), (700, 1), (250, 9)];

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for reduce in Reduce::ALL {
        for head_size in HEAD_SIZES {
            for cap in [None, Some(1.5)] {
                let shape = Shape { kv_heads: 1, cap, mask: Mask::CAUSAL, ..Shape::new(2, head_size) };
                plans.push(case(shape, reduce, &[(40, 1), (270, 1)]));
            }
        }
        let local = Mask { before: 9, after: 20 };
        for mask in [Mask::CAUSAL, Mask::NONE, Mask::window(1), Mask::window(45), Mask::window(257), local] {
            for (heads, kv_heads, head_size) in [(3, 3, 5), (6, 2, 12)] {
                plans.push(case(Shape { kv_heads, mask, ..Shape::new(heads, head_size) }, reduce, &STEPS));
            }
        }
        // SmolLM2's, and Llama 3's
        for (heads, kv_heads, head_size) in [(9, 3, 64), (32, 8, 128)] {
            let shape = Shape { kv_heads, mask: Mask::CAUSAL, ..Shape::new(heads, head_size) };
            plans.push(case(shape, reduce, &[(700, 1), (12, 1)]));
        }
        let shape = Shape { sharp: SHARP, mask: Mask::CAUSAL, ..Shape::new(2, 12) };
        plans.push(Plan { tolerance: SHARP_TOLERANCE, ..case(shape, reduce, &STEPS) });
        // at the edges of splits
        let shape = Shape { kv_heads: 1, mask: Mask::CAUSAL, ..Shape::new(5, 8) };
        plans.push(case(shape, reduce, &[(254, 1), (255, 1), (256, 1), (511, 1), (512, 1)]));
    }
    plans
}

pub(crate) fn case(shape: Shape, reduce: Reduce, sequences: &'static [(usize, usize)]) -> Plan {
    let heads = shape.in_pages();
    let (partial, z) = (Slot::Scratch(2), Slot::Scratch(1));
    let width = shape.heads * shape.head_size;
    let dispatches =
        vec![AttentionSplit { heads, partial, z, reduce }.dispatch(), AttentionMerge { heads, partial, z }.dispatch()];
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (z, width)];
    let name = format!("{shape}, (past, own) of {sequences:?}");
    Plan::new("attention_split", name, dispatches, token_rows, move |random| {
        let paged = Paged::new(random, shape, 1, sequences);
        let splits = paged.batch.dims().splits as usize;
        let mut contents = paged.contents(z, paged.tokens() * width);
        // not poison: what has no visible key is left as it is, and nothing merges it
        let partials = paged.tokens() * splits * partial_size(shape.heads, shape.head_size);
        contents.insert(partial, vec![0; 4 * partials]);
        let mut pieces = reference::attention_split(&paged.input(), &paged.spans, splits);
        // nor is there anything to merge of a sequence of one split
        let rows = pieces.chunks_exact_mut(splits * partial_size(shape.heads, shape.head_size));
        rows.zip(paged.lengths()).filter(|(_, keys)| *keys <= SPLIT as usize).for_each(|(row, _)| row.fill(0.0));
        let expected = vec![(partial, pieces), (z, reference::attention(&paged.input(), &paged.spans))];
        Inputs::new(paged.batch, contents, expected)
    })
}
