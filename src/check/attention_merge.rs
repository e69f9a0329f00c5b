//! Cases of `attention_merge`.

use super::attention::{Paged, Shape};
use super::random::{Random, bytes, widen};
use super::rig::POISON;
use super::{Case, Contents, TOLERANCE};
use crate::kernels::attention::Mask;
use crate::kernels::attention_merge::AttentionMerge;
use crate::kernels::attention_split::partial_size;
use crate::reference;
use crate::schedule::Slot;

pub fn cases(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    let sequences = &[(0, 1), (255, 1), (256, 1), (900, 1), (509, 6)];
    for mask in [Mask::CAUSAL, Mask::window(1), Mask::window(256), Mask::window(300), Mask { before: 2, after: 3 }] {
        for (heads, head_size) in [(1, 1), (3, 5), (2, 64), (7, 33)] {
            cases.push(case(random, Shape { mask, ..Shape::new(heads, head_size) }, sequences));
        }
    }
    cases
}

fn case(random: &mut Random, shape: Shape, sequences: &[(usize, usize)]) -> Case {
    let paged = Paged::new(random, shape, 1, sequences);
    let splits = paged.batch.dims().splits as usize;
    let row = shape.head_size + 2;
    let mut partials: Vec<f32> =
        reference::attention_split(&paged.input(), &paged.spans, splits).iter().map(|x| *x as f32).collect();
    let expected = reference::attention_merge(&widen(&partials), splits, shape.heads, shape.head_size);
    // what the split leaves unwritten must not be read
    for part in partials.chunks_exact_mut(row).filter(|part| part[row - 1] == 0.0) {
        part.fill(f32::from_bits(POISON));
    }
    let (partial, z) = (Slot::Scratch(2), Slot::Scratch(1));
    let width = shape.heads * shape.head_size;
    Case {
        kernel: "attention_merge",
        shape: format!("{shape}, (past, own) of {sequences:?}"),
        dispatches: vec![AttentionMerge { heads: paged.heads, partial, z }.dispatch()],
        expected: vec![(z, expected)],
        contents: Contents::from([
            (partial, bytes(&partials)),
            (z, POISON.to_le_bytes().repeat(paged.tokens() * width)),
        ]),
        token_rows: vec![(partial, splits * partial_size(paged.heads.heads, paged.heads.head_size)), (z, width)],
        batch: paged.batch,
        tolerance: TOLERANCE,
    }
}
