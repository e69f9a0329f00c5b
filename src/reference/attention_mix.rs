//! Values by a stored pattern in f64.

use super::{AttentionInput, Span};

/// `z[token, head] = Σ_j pattern[token, head, j] · v_j` over the keys of each token's sequence; the pattern has rows of so many
/// keys.
pub fn attention_mix(input: &AttentionInput<'_>, spans: &[Span], pattern: &[f64], keys: usize) -> Vec<f64> {
    let heads = input.heads.heads;
    let mut out = Vec::new();
    for span in spans {
        for row in span.row..span.row + span.queries {
            for head in 0..heads {
                let weights = &pattern[(row * heads + head) * keys..][..span.keys.len()];
                let sum = |d| -> f64 {
                    weights.iter().enumerate().map(|(key, weight)| weight * input.value(span, key, head, d)).sum()
                };
                out.extend((0..input.heads.head_size).map(sum));
            }
        }
    }
    out
}
