//! Scores of a ragged batch in f64.

use super::attention::HIDDEN;
use super::{AttentionInput, Span};

/// scores[token, head, key] of some spans, with rows of so many keys: what a sequence does not have is hidden.
pub fn attention_scores(input: &AttentionInput<'_>, spans: &[Span], keys: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for span in spans {
        for query in 0..span.queries {
            for head in 0..input.heads.heads {
                let score = |key| if key < span.keys.len() { input.score(span, query, key, head) } else { HIDDEN };
                out.extend((0..keys).map(score));
            }
        }
    }
    out
}
