//! Scaled dot-product attention over a ragged batch in f64.

use super::softmax;
use crate::kernels::attention::Heads;

/// What attention works on.
pub struct AttentionInput<'a> {
    /// Where queries, keys and values lie in their rows, and how they are scored.
    pub heads: Heads,
    /// f64 `[tokens, q_stride]`.
    pub q: &'a [f64],
    /// f64 `[rows, kv_stride]`.
    pub kv: &'a [f64],
    /// `[heads, 2·reach - 1]` by key - query + reach - 1; empty where there is none.
    pub bias: &'a [f64],
    /// The bias covers distances below this.
    pub reach: usize,
}

/// Queries of one sequence, one behind another, and all of its keys.
#[derive(Clone, Debug)]
pub struct Span {
    /// Row of the first query.
    pub row: usize,
    /// Queries.
    pub queries: usize,
    /// Position of the first query in its sequence.
    pub past: usize,
    /// The row of each key and its value.
    pub keys: Vec<usize>,
}

impl Span {
    /// Whole sequences of those lengths, one behind another, whose keys are in the same rows as their queries.
    pub fn whole(lengths: &[usize]) -> Vec<Span> {
        let mut first = 0;
        let spans = lengths.iter().map(|&length| {
            let row = first;
            first += length;
            Span { row, queries: length, past: 0, keys: (row..first).collect() }
        });
        spans.collect()
    }
}

/// Scores of hidden keys.
pub const HIDDEN: f64 = -1e30;

impl AttentionInput<'_> {
    /// The column of the head of keys and values that a head of queries uses.
    fn shared(&self, first: usize, head: usize) -> usize {
        first + head / (self.heads.heads / self.heads.kv_heads) * self.heads.head_size
    }

    /// Score of a key, by its place in the span's sequence, for one of the span's queries.
    pub(super) fn score(&self, span: &Span, query: usize, key: usize, head: usize) -> f64 {
        let h = &self.heads;
        let position = span.past + query;
        if key + (h.mask.before as usize) < position || key > position + h.mask.after as usize {
            return HIDDEN;
        }
        let q_at = (span.row + query) * h.q_stride + h.first_q + head * h.head_size;
        let k_at = span.keys[key] * h.kv_stride + self.shared(h.first_k, head);
        let product: f64 = (0..h.head_size).map(|d| self.q[q_at + d] * self.kv[k_at + d]).sum();
        let mut score = product * f64::from(h.scale);
        if let Some(cap) = h.cap {
            score = f64::from(cap) * (score / f64::from(cap)).tanh();
        }
        match self.bias {
            [] => score,
            table => score + table[head * (2 * self.reach - 1) + self.reach - 1 + key - position],
        }
    }

    /// Element `d` of the value that belongs to a key.
    pub(super) fn value(&self, span: &Span, key: usize, head: usize, d: usize) -> f64 {
        self.kv[span.keys[key] * self.heads.kv_stride + self.shared(self.heads.first_v, head) + d]
    }
}

/// `z[token, head] = Σ_j softmax_j(score) · v_j` over the keys of each token's sequence.
pub fn attention(input: &AttentionInput<'_>, spans: &[Span]) -> Vec<f64> {
    let mut out = Vec::new();
    for span in spans {
        let length = span.keys.len();
        for query in 0..span.queries {
            for head in 0..input.heads.heads {
                let scores: Vec<_> = (0..length).map(|key| input.score(span, query, key, head)).collect();
                let weights = softmax(&scores, length);
                out.extend(
                    (0..input.heads.head_size).map(|d| -> f64 {
                        (0..length).map(|key| weights[key] * input.value(span, key, head, d)).sum()
                    }),
                );
            }
        }
    }
    out
}
