//! Scores of one sequence in f64.

use super::{AttentionInput, Span};

/// scores[head, query, key] of a sequence of `length` tokens.
pub fn attention_scores(input: &AttentionInput<'_>, length: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let span = Span { row: 0, queries: length, past: 0, keys: (0..length).collect() };
    for head in 0..input.heads.heads {
        for query in 0..length {
            out.extend((0..length).map(|key| input.score(&span, query, key, head)));
        }
    }
    out
}
