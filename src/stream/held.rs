//! What stays on the GPU: captures of a forward as buffers for a host, or read back piece by piece.

use std::collections::BTreeMap;
use std::ops::Range;

use super::probe::{Place, pattern};
use super::{Kind, Point, Probe, Tap, Tensor};
use crate::error::{Error, Result};
use crate::schedule::{Capture, Running};

/// Captures on the GPU; they are the next forward's as soon as this is dropped.
pub struct Held<'p> {
    pub(super) probe: &'p Probe<'p>,
    pub(super) running: Running<'p>,
    /// Tokens of each sequence.
    pub(super) lengths: Vec<usize>,
}

/// A point in a buffer on the GPU: f32, row by row, of the tokens and heads that its tap has been narrowed to. Of a pattern it is
/// all of the buffer, `[tokens, heads, keys of the longest sequence]`, and stride and columns say nothing.
#[derive(Clone, Copy, Debug)]
pub struct HeldPoint<'a> {
    /// The buffer, which can be bound as storage and copied from.
    pub buffer: &'a wgpu::Buffer,
    /// Elements from one token's row to the next.
    pub stride: usize,
    /// The point's elements of a row.
    pub columns: (usize, usize),
}

impl Held<'_> {
    /// A point that is watched.
    pub fn point(&self, point: Point) -> Option<HeldPoint<'_>> {
        let (number, capture, columns) = self.capture(point)?;
        let buffer = self.running.capture(number)?;
        Some(HeldPoint { buffer, stride: capture.columns, columns: (columns.start, columns.end) })
    }

    /// Reads back some tokens' rows of points that are watched, of one of the sequences by its number; nothing else crosses.
    /// Shapes are those of a [`Trace`](super::Trace) of these tokens; of a pattern they are queries, with all their keys.
    ///
    /// # Errors
    /// [`Error::Input`] for a point or tokens that are not watched, or a sequence that there is not; [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`].
    pub async fn read(
        &self,
        sequence: usize,
        points: &[Point],
        tokens: Range<usize>,
    ) -> Result<BTreeMap<Point, Tensor>> {
        let (gpu, spec) = (&self.probe.model().gpu, self.probe.model().spec());
        let Some(place) = Place::of(sequence, &self.lengths) else {
            return Err(Error::Input(format!("sequence {sequence} of {} is not held", self.lengths.len())));
        };
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for &point in points {
            let (Some((_, capture, columns)), Some(tap)) = (self.capture(point), self.probe.tap(point)) else {
                return Err(Error::Input(format!("{point} is not held")));
            };
            let own = tap.rows(place.tokens);
            if tokens.is_empty() || tokens.start < own.start || tokens.end > own.end {
                return Err(Error::Input(format!("tokens {tokens:?} of {tap} are not held")));
            }
            let (rows, all) = place.rows(tap);
            let first = rows.start + tokens.start - own.start;
            let size = capture.size.of(self.running.dims()) as usize / all;
            pieces.push(Piece { tap, columns, first, size, offset: bytes });
            bytes += 4 * (tokens.len() * size) as u64;
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let readback = gpu.buffer("held rows", bytes, usage)?;
        let submission = gpu.scoped("held rows", || {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            for piece in &pieces {
                if let Some(held) = self.point(piece.tap.point) {
                    let (first, size) = (4 * (piece.first * piece.size) as u64, 4 * (tokens.len() * piece.size) as u64);
                    encoder.copy_buffer_to_buffer(held.buffer, first, &readback, piece.offset, size);
                }
            }
            gpu.queue().submit([encoder.finish()])
        })?;
        let bytes = gpu.read(&readback, bytes, submission).await?;
        let tensor = |Piece { tap, columns, size, offset, .. }: Piece<'_>| {
            let own = &bytes[offset as usize..][..4 * tokens.len() * size];
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(own);
            let data = match tap.point.kind {
                Kind::Pattern => {
                    let heads = tap.heads(spec).len();
                    pattern(&values, heads, tokens.len(), &(0..tokens.len()), place.tokens)
                }
                _ => values.chunks_exact(size).flat_map(|row| &row[columns.clone()]).copied().collect(),
            };
            (tap.point, Tensor { shape: tap.shape_of(spec, tokens.len(), place.tokens), data })
        };
        Ok(pieces.into_iter().map(tensor).collect())
    }

    /// The capture that shows a point, its number, and the point's columns.
    fn capture(&self, point: Point) -> Option<(usize, &Capture, Range<usize>)> {
        let captures = self.running.program().recording().captures.iter().enumerate();
        captures.filter(|(_, capture)| !capture.summary).find_map(|(number, capture)| {
            let (_, columns) = capture.points.iter().find(|(own, _)| *own == point)?;
            Some((number, capture, columns.clone()))
        })
    }
}

/// Rows of a capture that are read back.
struct Piece<'a> {
    tap: &'a Tap,
    columns: Range<usize>,
    /// The first of them.
    first: usize,
    /// Elements of a row.
    size: usize,
    /// Where they begin in what comes back, in bytes.
    offset: u64,
}
