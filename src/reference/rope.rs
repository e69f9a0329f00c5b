//! Rotary position embedding in f64.

use crate::kernels::rope::Rope;

/// The rows `[tokens, stride]` with the heads of `rope` rotated; `angles` are cos and sin, `[tokens, pairs, 2]`.
pub fn rope(rows: &[f64], angles: &[f64], rope: &Rope) -> Vec<f64> {
    let mut out = rows.to_vec();
    for token in 0..rows.len() / rope.stride {
        for head in 0..rope.heads {
            for pair in 0..rope.pairs {
                let at = token * rope.stride + rope.first + head * rope.head_size;
                let (i, j) = match rope.interleaved {
                    true => (at + 2 * pair, at + 2 * pair + 1),
                    false => (at + pair, at + pair + rope.pairs),
                };
                let angle = 2 * (token * rope.pairs + pair);
                let (cos, sin) = (angles[angle], angles[angle + 1]);
                out[i] = rows[i] * cos - rows[j] * sin;
                out[j] = rows[j] * cos + rows[i] * sin;
            }
        }
    }
    out
}
