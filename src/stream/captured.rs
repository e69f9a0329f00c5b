//! What passes a session's taps, token by token.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Kind, Point, Tap, Tensor, Trace};
use crate::model::Spec;
use crate::schedule::Recording;

/// Rows of tokens that follow one another.
#[derive(Debug, Default)]
pub(crate) struct Captured {
    /// Position of the first token.
    first: usize,
    /// How many there are.
    tokens: usize,
    /// What each tap saw.
    rows: BTreeMap<Point, Seen>,
}

/// What a tap saw of the tokens that it watches, which follow one another too.
#[derive(Debug)]
struct Seen {
    tap: Tap,
    /// Position of the first of them.
    first: usize,
    /// A row for each; of a pattern `[heads, position + 1]`.
    rows: Vec<Vec<f32>>,
}

impl Seen {
    fn end_at(&mut self, position: usize) {
        self.rows.truncate(position.saturating_sub(self.first));
    }
}

impl Captured {
    /// Appends some of a batch's rows: the tokens from `position` on, all of which the same taps watch.
    #[expect(clippy::too_many_arguments, reason = "what was captured, and whose it is")]
    pub fn push(
        &mut self,
        spec: &Spec,
        taps: &[Tap],
        recording: &Recording,
        captures: &[Vec<f32>],
        rows: Range<usize>,
        all: usize,
        position: usize,
    ) {
        // what was run again is known anew, and what does not follow stands alone
        let known = position.checked_sub(self.first).filter(|&known| known <= self.tokens);
        if known.is_none() {
            self.first = position;
            self.rows.clear();
        }
        self.tokens = known.unwrap_or(0) + rows.len();
        self.rows.values_mut().for_each(|seen| seen.end_at(position));
        self.rows.retain(|_, seen| !seen.rows.is_empty());
        for (capture, data) in recording.captures.iter().zip(captures) {
            for (point, columns) in &capture.points {
                let watches = |tap: &&Tap| tap.point == *point && tap.rows(usize::MAX).contains(&position);
                let Some(tap) = taps.iter().find(watches) else { continue };
                let new = || Seen { tap: tap.clone(), first: position, rows: Vec::new() };
                let seen = self.rows.entry(*point).or_insert_with(new);
                for (row, position) in rows.clone().zip(position..) {
                    // another session may want other heads of the same point
                    let (captured, own) = (capture.heads.clone().unwrap_or(0..point.heads(spec)), tap.heads(spec));
                    let own = own.start - captured.start..own.end - captured.start;
                    seen.rows.push(match point.kind {
                        Kind::Pattern => {
                            let keys = data.len() / captured.len() / all;
                            let weights =
                                data[row * captured.len() * keys..][..captured.len() * keys].chunks_exact(keys);
                            let weights = weights.skip(own.start).take(own.len());
                            weights.flat_map(|weights| &weights[..=position]).copied().collect()
                        }
                        _ => {
                            let size = columns.len() / captured.len();
                            let row = &data[row * capture.columns..][columns.clone()];
                            row[own.start * size..own.end * size].to_vec()
                        }
                    });
                }
            }
        }
    }

    /// Forgets tokens from a position on.
    pub fn end_at(&mut self, position: usize) {
        self.tokens = self.tokens.min(position.saturating_sub(self.first));
        self.rows.values_mut().for_each(|seen| seen.end_at(position));
        self.rows.retain(|_, seen| !seen.rows.is_empty());
    }

    /// The position of the first token, and all rows of a text's tokens.
    pub fn trace(self, ids: &[u32], spec: &Spec) -> (usize, Trace) {
        let Captured { first, tokens, rows } = self;
        let tensor = |Seen { tap, rows, .. }: Seen| {
            let (heads, keys) = (tap.heads(spec).len(), first + tokens);
            let shape = tap.shape_of(spec, rows.len(), keys);
            if tap.point.kind != Kind::Pattern {
                return Tensor { shape, data: rows.concat() };
            }
            let mut data = vec![0.0; heads * rows.len() * keys];
            for (query, row) in rows.iter().enumerate() {
                for (head, weights) in row.chunks_exact(row.len() / heads).enumerate() {
                    data[(head * rows.len() + query) * keys..][..weights.len()].copy_from_slice(weights);
                }
            }
            Tensor { shape, data }
        };
        let ids = ids.get(first..first + tokens).unwrap_or_default().to_vec();
        (first, Trace { ids, tensors: rows.into_iter().map(|(point, seen)| (point, tensor(seen))).collect() })
    }
}
