//! Cases of `attention_mix`.

use super::attention::{Paged, Qkv, Shape};
use super::random::{bytes, widen};
use super::{Inputs, Plan};
use crate::kernels::attention;
use crate::kernels::attention_mix::AttentionMix;
use crate::reference::{self, Span};
use crate::schedule::{Batch, Slot};

const PATTERN: Slot = Slot::Scratch(2);

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (heads, kv_heads, head_size, lengths) in [
        (1, 1, 1, &[1][..]),
        (3, 3, 5, &[7, 1, 3]),
        (6, 2, 12, &[33, 19, 40]),
        (4, 1, 64, &[17]),
        (2, 1, 65, &[9, 16]),
        (2, 2, 256, &[18, 5]),
    ] {
        plans.push(case(Shape { kv_heads, ..Shape::new(heads, head_size) }, lengths));
    }
    for (heads, kv_heads, head_size) in [(3, 3, 5), (4, 2, 66)] {
        plans.push(paged(Shape { kv_heads, ..Shape::new(heads, head_size) }, &[(61, 6), (0, 9), (130, 1), (7, 34)]));
    }
    plans
}

pub(crate) fn case(shape: Shape, lengths: &'static [usize]) -> Plan {
    let (heads, z) = (shape.in_rows(), Slot::Scratch(1));
    let width = shape.heads * shape.head_size;
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let kernel = AttentionMix { heads, pattern: PATTERN, z };
    let token_rows = vec![(Slot::Scratch(0), heads.q_stride), (z, width)];
    let name = format!("{shape}, sequences of {lengths:?}");
    Plan::new("attention_mix", name, vec![kernel.dispatch()], token_rows, move |random| {
        let total: usize = lengths.iter().sum();
        let qkv = Qkv::new(random, shape, total, 1);
        let mut batch = Batch::new(attention::tile(shape.head_size));
        for &length in lengths {
            batch.push((0..length as u32).map(|i| (0, i, 0)), 0);
        }
        let pattern = random.values(total * shape.heads * longest, 0.0, 1.0);
        let mut contents = qkv.contents(total * width);
        contents.insert(PATTERN, bytes(&pattern));
        let expected = reference::attention_mix(&qkv.input(), &Span::whole(lengths), &widen(&pattern), longest);
        Inputs::new(batch, contents, vec![(z, expected)])
    })
}

fn paged(shape: Shape, sequences: &'static [(usize, usize)]) -> Plan {
    let (heads, z) = (shape.in_pages(), Slot::Scratch(1));
    let width = shape.heads * shape.head_size;
    let longest = sequences.iter().map(|(past, own)| past + own).max().unwrap_or(1);
    let kernel = AttentionMix { heads, pattern: PATTERN, z };
    let token_rows = vec![(PATTERN, shape.heads * longest), (z, width)];
    let name = format!("{shape}, (past, own) of {sequences:?}");
    Plan::new("attention_mix", name, vec![kernel.dispatch()], token_rows, move |random| {
        let paged = Paged::new(random, shape, attention::tile(shape.head_size), sequences);
        let pattern = random.values(paged.tokens() * shape.heads * longest, 0.0, 1.0);
        let mut contents = paged.contents(z, paged.tokens() * width);
        contents.insert(PATTERN, bytes(&pattern));
        let expected = reference::attention_mix(&paged.input(), &paged.spans, &widen(&pattern), longest);
        Inputs::new(paged.batch, contents, vec![(z, expected)])
    })
}
