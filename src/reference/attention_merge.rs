//! The pieces of a sequence's attention put together, in f64.

/// `z[query, head]` of partial results `[queries, splits, heads, head_size + 2]`; those of weight 0 have nothing.
pub fn attention_merge(partials: &[f64], splits: usize, heads: usize, head_size: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let row = head_size + 2;
    for of_query in partials.chunks_exact(splits * heads * row) {
        for head in 0..heads {
            let parts = of_query.chunks_exact(row).skip(head).step_by(heads).filter(|part| part[head_size + 1] > 0.0);
            let largest = parts.clone().map(|part| part[head_size]).fold(f64::NEG_INFINITY, f64::max);
            let sum = |d: usize| -> f64 { parts.clone().map(|part| part[d] * (part[head_size] - largest).exp()).sum() };
            out.extend((0..head_size).map(|d| sum(d) / sum(head_size + 1)));
        }
    }
    out
}
