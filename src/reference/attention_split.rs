//! Attention within pieces of each sequence's keys, in f64.

use super::attention::HIDDEN;
use super::{AttentionInput, Span};
use crate::kernels::attention::SPLIT;

/// `[queries, splits, heads, head_size + 2]`: values weighted by exp(score - largest), the largest score, the sum of the
/// weights; 0 where a split has no visible key.
pub fn attention_split(input: &AttentionInput<'_>, spans: &[Span], splits: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let size = input.heads.head_size;
    for span in spans {
        for query in 0..span.queries {
            for split in 0..splits {
                let first = split * SPLIT as usize;
                let keys = first..span.keys.len().min(first + SPLIT as usize);
                for head in 0..input.heads.heads {
                    let scores = keys.clone().map(|key| (key, input.score(span, query, key, head)));
                    let seen: Vec<_> = scores.filter(|(_, score)| *score != HIDDEN).collect();
                    if seen.is_empty() {
                        out.extend(vec![0.0; size + 2]);
                        continue;
                    }
                    let largest = seen.iter().map(|(_, score)| *score).fold(f64::NEG_INFINITY, f64::max);
                    let weight = |score: f64| (score - largest).exp();
                    out.extend((0..size).map(|d| -> f64 {
                        seen.iter().map(|(key, score)| weight(*score) * input.value(span, *key, head, d)).sum()
                    }));
                    out.push(largest);
                    out.push(seen.iter().map(|(_, score)| weight(*score)).sum());
                }
            }
        }
    }
    out
}
