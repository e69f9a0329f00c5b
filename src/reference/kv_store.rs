//! Turning queries and keys and storing keys and values, in f64.

use super::rope;
use crate::kernels::kv_store::KvStore;
use crate::kernels::rope::Rope;

/// The rows with their queries turned, and the cache with the keys and values of each token in its row of `places`.
pub fn kv_store(
    rows: &[f64],
    angles: &[f64],
    cache: &[f64],
    places: &[usize],
    kernel: &KvStore,
) -> (Vec<f64>, Vec<f64>) {
    let stride = kernel.stride();
    let turned = match kernel.angles {
        None => rows.to_vec(),
        Some((angle_input, pairs)) => {
            let turn = Rope {
                interleaved: false,
                angles: angle_input,
                rows: kernel.rows,
                stride,
                first: 0,
                heads: kernel.heads + kernel.kv_heads,
                head_size: kernel.head_size,
                pairs,
            };
            rope(rows, angles, &turn)
        }
    };
    let (mut out, mut stored) = (rows.to_vec(), cache.to_vec());
    let q = kernel.heads * kernel.head_size;
    let kv = stride - q;
    for (token, place) in places.iter().enumerate() {
        let at = token * stride;
        out[at..at + q].copy_from_slice(&turned[at..at + q]);
        stored[place * kv..(place + 1) * kv].copy_from_slice(&turned[at + q..at + stride]);
    }
    (out, stored)
}
