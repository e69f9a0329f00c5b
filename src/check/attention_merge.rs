//! Cases of `attention_merge`.

use super::attention::{Paged, Shape};
use super::random::{bytes, widen};
use super::rig::POISON;
use super::{Contents, Inputs, Plan};
use crate::kernels::attention::{Mask, SPLIT};
use crate::kernels::attention_merge::AttentionMerge;
use crate::kernels::attention_split::partial_size;
use crate::reference;
use crate::schedule::Slot;

pub fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    let sequences = &[(0, 1), (255, 1), (256, 1), (900, 1), (509, 6)];
    for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(256), Mask::window(300), Mask { before: 2, after: 3 }] {
        for (heads, head_size) in [(1, 1), (3, 5), (2, 64), (7, 33)] {
            plans.push(case(Shape { mask, ..Shape::new(heads, head_size) }, sequences));
        }
    }
    plans
}

pub(crate) fn case(shape: Shape, sequences: &'static [(usize, usize)]) -> Plan {
    let heads = shape.in_pages();
    let (partial, z) = (Slot::Scratch(2), Slot::Scratch(1));
    let width = shape.heads * shape.head_size;
    let longest = sequences.iter().map(|(past, own)| past + own).max().unwrap_or(1);
    let splits = longest.div_ceil(SPLIT as usize);
    let token_rows = vec![(partial, splits * partial_size(shape.heads, shape.head_size)), (z, width)];
    let name = format!("{shape}, (past, own) of {sequences:?}");
    let kernel = AttentionMerge { heads, partial, z };
    Plan::new("attention_merge", name, vec![kernel.dispatch()], token_rows, move |random| {
        let paged = Paged::new(random, shape, 1, sequences);
        let row = shape.head_size + 2;
        let mut partials: Vec<f32> =
            reference::attention_split(&paged.input(), &paged.spans, splits).iter().map(|x| *x as f32).collect();
        let mut expected = reference::attention_merge(&widen(&partials), splits, shape.heads, shape.head_size);
        // what the split leaves unwritten must not be read
        for part in partials.chunks_exact_mut(row).filter(|part| part[row - 1] == 0.0) {
            part.fill(f32::from_bits(POISON));
        }
        // sequences of one split have their z already
        let mut before = vec![f32::from_bits(POISON); paged.tokens() * width];
        for (row, _) in paged.lengths().into_iter().enumerate().filter(|(_, keys)| *keys <= SPLIT as usize) {
            let there = random.values(width, 0.0, 1.0);
            before[row * width..(row + 1) * width].copy_from_slice(&there);
            expected[row * width..(row + 1) * width].copy_from_slice(&widen(&there));
        }
        let contents = Contents::from([(partial, bytes(&partials)), (z, bytes(&before))]);
        Inputs::new(paged.batch, contents, vec![(z, expected)])
    })
}
