//! Cases of `attention_scores`.

use super::attention::{Qkv, REACH, Shape};
use super::{Inputs, Plan, tokens};
use crate::kernels::Reduce;
use crate::kernels::attention::{Mask, RelativeBias};
use crate::kernels::attention_scores::AttentionScores;
use crate::kernels::softmax::Softmax;
use crate::reference;
use crate::schedule::{Dim, Extent, Slot};

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
        plans.push(pattern(Shape { kv_heads: 2, mask, ..Shape::new(6, 8) }, 13));
    }
    plans
}

pub(crate) fn case(shape: Shape, length: usize) -> Plan {
    planned(shape, length, None)
}

/// The scores with the softmax that follows them: those of hidden keys, -1e30, would drown all others in one norm.
fn pattern(shape: Shape, length: usize) -> Plan {
    let softmax = Softmax {
        reduce: Reduce::Workgroup,
        values: Slot::Scratch(1),
        rows: Extent::new(shape.heads as u64, Dim::Tokens),
        columns: Extent::new(1, Dim::Tokens),
    };
    planned(shape, length, Some(softmax))
}

fn planned(shape: Shape, length: usize, softmax: Option<Softmax>) -> Plan {
    let scores = Slot::Scratch(1);
    let reach = length + REACH;
    let bias = shape.bias.then_some(RelativeBias { table: Slot::Weight(0), reach });
    let kernel = AttentionScores { heads: shape.in_rows(), bias, scores };
    let dispatches = std::iter::once(kernel.dispatch()).chain(softmax.map(|s| s.dispatch())).collect();
    let name = format!("{shape}, {length} tokens");
    Plan::new("attention_scores", name, dispatches, Vec::new(), move |random| {
        let qkv = Qkv::new(random, shape, length, reach);
        let mut expected = reference::attention_scores(&qkv.input(), length);
        if softmax.is_some() {
            expected = reference::softmax(&expected, length);
        }
        Inputs::new(tokens(length), qkv.contents(shape.heads * length * length), vec![(scores, expected)])
    })
}
