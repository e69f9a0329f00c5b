//! Scaled dot-product attention over a ragged batch in f64.

use super::softmax;

/// What attention works on.
pub struct AttentionInput<'a> {
    /// Rows of queries, keys and values, [tokens, 3, heads, head_size].
    pub qkv: &'a [f64],
    /// Heads.
    pub heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// Scores are multiplied by this.
    pub scale: f64,
    /// [heads, 2·reach - 1] by key - query + reach - 1; empty where there is none.
    pub bias: &'a [f64],
    /// The bias covers distances below this.
    pub reach: usize,
}

impl AttentionInput<'_> {
    fn at(&self, token: usize, third: usize, head: usize) -> &[f64] {
        let width = self.heads * self.head_size;
        let first = (token * 3 + third) * width + head * self.head_size;
        &self.qkv[first..first + self.head_size]
    }

    /// Scaled and biased score of a key for a query of the same sequence, by their places in it.
    pub(super) fn score(&self, first: usize, query: usize, key: usize, head: usize) -> f64 {
        let (q, k) = (self.at(first + query, 0, head), self.at(first + key, 1, head));
        let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
        let bias = match self.bias {
            [] => 0.0,
            table => table[head * (2 * self.reach - 1) + self.reach - 1 + key - query],
        };
        product * self.scale + bias
    }
}

/// z[token, head] = Σ_j softmax_j(score) · v_j within each sequence of `lengths`.
pub fn attention(input: &AttentionInput<'_>, lengths: &[usize]) -> Vec<f64> {
    let mut out = Vec::new();
    let mut first = 0;
    for &length in lengths {
        for query in 0..length {
            for head in 0..input.heads {
                let scores: Vec<_> = (0..length).map(|key| input.score(first, query, key, head)).collect();
                let weights = softmax(&scores, length);
                for d in 0..input.head_size {
                    out.push((0..length).map(|key| weights[key] * input.at(first + key, 2, head)[d]).sum());
                }
            }
        }
        first += length;
    }
    out
}
