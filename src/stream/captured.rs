//! What passes a session's taps, token by token.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Kind, Point, Tensor, Trace};
use crate::model::Spec;
use crate::schedule::Recording;

/// Rows of tokens that follow one another.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// Position of the first token.
    first: usize,
    /// How many there are.
    tokens: usize,
    /// A row for each; of a pattern `[heads, position + 1]`.
    rows: BTreeMap<Point, Vec<Vec<f32>>>,
}

impl Captured {
    /// Appends some of a batch's rows: the tokens from `position` on.
    #[expect(clippy::too_many_arguments, reason = "what was captured, and whose it is")]
    pub fn push(
        &mut self,
        spec: &Spec,
        taps: &[Point],
        recording: &Recording,
        captures: &[Vec<f32>],
        rows: Range<usize>,
        all: usize,
        position: usize,
    ) {
        if taps.is_empty() {
            return;
        }
        // what was run again is known anew, and what does not follow stands alone
        let known = position.checked_sub(self.first).filter(|&known| known <= self.tokens);
        if known.is_none() {
            self.first = position;
        }
        let known = known.unwrap_or(0);
        self.tokens = known + rows.len();
        self.rows.values_mut().for_each(|own| own.truncate(known));
        for (capture, data) in recording.captures.iter().zip(captures).filter(|(capture, _)| !capture.summary) {
            for (point, columns) in capture.points.iter().filter(|(point, _)| taps.contains(point)) {
                let own = self.rows.entry(*point).or_default();
                for (row, position) in rows.clone().zip(position..) {
                    own.push(match point.kind {
                        Kind::Pattern => {
                            let heads = point.heads(spec);
                            let keys = data.len() / heads / all;
                            let weights = data[row * heads * keys..][..heads * keys].chunks_exact(keys);
                            weights.flat_map(|weights| &weights[..=position]).copied().collect()
                        }
                        _ => data[row * capture.columns..][columns.clone()].to_vec(),
                    });
                }
            }
        }
    }

    /// Forgets tokens from a position on.
    pub fn end_at(&mut self, position: usize) {
        self.tokens = self.tokens.min(position.saturating_sub(self.first));
        self.rows.values_mut().for_each(|own| own.truncate(self.tokens));
    }

    /// The position of the first token, and all rows of a text's tokens.
    pub fn trace(self, ids: &[u32], spec: &Spec) -> (usize, Trace) {
        let Captured { first, tokens, rows } = self;
        let tensor = |point: Point, rows: Vec<Vec<f32>>| match point.kind {
            Kind::Pattern => {
                let (heads, keys) = (point.heads(spec), first + tokens);
                let mut data = vec![0.0; heads * tokens * keys];
                for (query, row) in rows.iter().enumerate() {
                    for (head, weights) in row.chunks_exact(row.len() / heads).enumerate() {
                        data[(head * tokens + query) * keys..][..weights.len()].copy_from_slice(weights);
                    }
                }
                Tensor { shape: vec![heads, tokens, keys], data }
            }
            _ => Tensor { shape: point.shape(spec, tokens), data: rows.concat() },
        };
        let ids = ids.get(first..first + tokens).unwrap_or_default().to_vec();
        (first, Trace { ids, tensors: rows.into_iter().map(|(point, rows)| (point, tensor(point, rows))).collect() })
    }
}
