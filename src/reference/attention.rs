//! Scaled dot-product attention over a ragged batch in f64.

use super::softmax;
use crate::kernels::attention::Heads;

/// What attention works on.
pub struct AttentionInput<'a> {
    /// Where queries, keys and values lie in `qkv`, and how they are scored.
    pub heads: Heads,
    /// f64 `[tokens, stride]`.
    pub qkv: &'a [f64],
    /// `[heads, 2·reach - 1]` by key - query + reach - 1; empty where there is none.
    pub bias: &'a [f64],
    /// The bias covers distances below this.
    pub reach: usize,
}

/// Scores of hidden keys.
pub const HIDDEN: f64 = -1e30;

impl AttentionInput<'_> {
    fn at(&self, token: usize, column: usize) -> &[f64] {
        let first = token * self.heads.stride + column;
        &self.qkv[first..first + self.heads.head_size]
    }

    /// The column of the head of keys and values that a head of queries uses.
    fn shared(&self, first: usize, head: usize) -> usize {
        first + head / (self.heads.heads / self.heads.kv_heads) * self.heads.head_size
    }

    /// Score of a key for a query of the same sequence, by their places in it.
    pub(super) fn score(&self, first: usize, query: usize, key: usize, head: usize) -> f64 {
        let h = &self.heads;
        if key + (h.mask.before as usize) < query || key > query + h.mask.after as usize {
            return HIDDEN;
        }
        let q = self.at(first + query, h.first_q + head * h.head_size);
        let k = self.at(first + key, self.shared(h.first_k, head));
        let product: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
        let mut score = product * f64::from(h.scale);
        if let Some(cap) = h.cap {
            score = f64::from(cap) * (score / f64::from(cap)).tanh();
        }
        match self.bias {
            [] => score,
            table => score + table[head * (2 * self.reach - 1) + self.reach - 1 + key - query],
        }
    }
}

/// `z[token, head] = Σ_j softmax_j(score) · v_j` within each sequence of `lengths`.
pub fn attention(input: &AttentionInput<'_>, lengths: &[usize]) -> Vec<f64> {
    let mut out = Vec::new();
    let mut first = 0;
    for &length in lengths {
        for query in 0..length {
            for head in 0..input.heads.heads {
                let scores: Vec<_> = (0..length).map(|key| input.score(first, query, key, head)).collect();
                let weights = softmax(&scores, length);
                let column = input.shared(input.heads.first_v, head);
                for d in 0..input.heads.head_size {
                    out.push((0..length).map(|key| weights[key] * input.at(first + key, column)[d]).sum());
                }
            }
        }
        first += length;
    }
    out
}
