//! Edits of rows in f64.

use crate::schedule::{Change, Operation};

/// The changes of one site, one after another, in the order of each token's chain: x = v, x + α·v, α·x, or
/// x - α·(x·v)·v. Rows have `stride` elements, and parts of them `part`; `firsts` has a chain for each token, `u32::MAX` where there is none.
pub fn edit(x: &[f64], [stride, part]: [usize; 2], firsts: &[u32], changes: &[Change], vectors: &[f64]) -> Vec<f64> {
    let mut out = x.to_vec();
    for (row, &first) in out.chunks_exact_mut(stride).zip(firsts) {
        let mut place = first;
        while let Some(change) = changes.get(place as usize) {
            let row = &mut row[change.part as usize * part + change.first as usize..][..change.columns as usize];
            let vector = vectors.get(change.vector as usize..).unwrap_or_default().iter();
            let alpha = f64::from(change.alpha);
            match Operation::ALL[change.operation as usize] {
                Operation::Set => row.iter_mut().zip(vector).for_each(|(x, v)| *x = *v),
                Operation::Add => row.iter_mut().zip(vector).for_each(|(x, v)| *x += alpha * v),
                Operation::Scale => row.iter_mut().for_each(|x| *x *= alpha),
                Operation::Project => {
                    let along: f64 = row.iter().zip(vector.clone()).map(|(x, v)| x * v).sum();
                    row.iter_mut().zip(vector).for_each(|(x, v)| *x -= alpha * along * v);
                }
            }
            place = change.next;
        }
    }
    out
}
