//! What comes back of the points that are watched: copies of whole buffers, some of their rows and columns, or summaries.

use std::ops::Range;

use super::Recorder;
use crate::kernels::matmul::MatMul;
use crate::kernels::summarize::{Summarize, numbers};
use crate::kernels::take::Take;
use crate::schedule::recording::{Capture, Command, Slot};
use crate::schedule::sizes::{Dim, Extent};
use crate::stream::{Kind, Point, Tap};

/// Where a point's rows are, as a kernel is told.
#[derive(Clone, Copy)]
pub(super) struct View {
    pub values: Slot,
    pub rows: Extent,
    /// Elements from one row to the next.
    pub stride: Extent,
    /// Where the first head begins in a row.
    pub first: Extent,
    /// The heads that it shows.
    pub first_head: usize,
    pub heads: usize,
    /// Elements of a head; of a pattern as many as keys.
    pub columns: Extent,
}

impl View {
    /// A range of columns of every token's row.
    fn of_tokens(values: Slot, stride: usize, range: &Range<usize>, heads: usize) -> Self {
        let [stride, first, columns] =
            [stride, range.start, range.len() / heads].map(|n| Extent::new(n as u64, Dim::One));
        View { values, rows: MatMul::TOKENS, stride, first, first_head: 0, heads, columns }
    }

    /// Some of its heads.
    fn of_heads(self, heads: Option<&Range<usize>>) -> Self {
        let Some(heads) = heads else { return self };
        let times = self.first.times + heads.start as u64 * self.columns.times;
        let first_head = self.first_head + heads.start;
        View { first: Extent::new(times, self.columns.dim), first_head, heads: heads.len(), ..self }
    }

    /// Elements of what it shows in a row.
    fn width(&self) -> Extent {
        Extent::new(self.heads as u64 * self.columns.times, self.columns.dim)
    }
}

impl Recorder<'_> {
    /// Edits and captures the rows of a buffer for those of the points that were asked for; each point is a range of columns.
    pub fn tap(&mut self, block: usize, from: Slot, columns: usize, kinds: &[(Kind, Range<usize>)]) {
        for (kind, range) in kinds {
            self.edit(block, *kind, from, columns, range.clone());
        }
        self.see(block, from, columns, kinds);
    }

    /// Captures them alone.
    pub fn see(&mut self, block: usize, from: Slot, columns: usize, kinds: &[(Kind, Range<usize>)]) {
        // those that are wanted as they are come in one copy
        let mut points = Vec::new();
        for (kind, range) in kinds {
            let point = Point::new(block, *kind);
            match self.watch.seen().find(|tap| tap.point == point) {
                Some(tap) if *tap == Tap::from(point) && self.watch.taps.contains(tap) => {
                    points.push((point, range.clone()));
                }
                Some(tap) => self.show(tap, View::of_tokens(from, columns, range, point.heads(self.spec))),
                None => {}
            }
        }
        if !points.is_empty() {
            let size = Extent::new(columns as u64, Dim::Tokens);
            self.capture(Capture { from: Some(from), size, columns, heads: None, summary: false, points });
        }
    }

    /// Captures what a tap has been narrowed to, or what is told of it where only that was asked for.
    pub fn show(&mut self, tap: &Tap, view: View) {
        let view = view.of_heads(tap.heads.as_ref());
        let (point, rows) = (tap.point, tap.tokens.as_ref().map_or(view.rows, Take::rows));
        let size = rows.of_rows(view.width());
        let heads = Some(view.first_head..view.first_head + view.heads);
        if self.watch.taps.iter().any(|tap| tap.point == point) {
            let columns = view.width().times as usize;
            let points = vec![(point, 0..columns)];
            let taken = self.written(Capture { from: None, size, columns, heads, summary: false, points });
            return self.take(tap.tokens.clone(), view, taken);
        }
        let mut view = view;
        if tap.tokens.is_some() {
            let values = self.scratch("taken rows", size.times as usize, size.dim);
            self.take(tap.tokens.clone(), view, values);
            let first = Extent::new(0, view.columns.dim);
            view = View { values, rows, stride: view.width(), first, ..view };
        }
        let (reduce, top) = (self.choices.reduce, self.watch.top);
        let columns = numbers(top) * view.heads;
        let size = rows.of_rows(Extent::new(columns as u64, Dim::One));
        let points = vec![(point, 0..columns)];
        let summary = self.written(Capture { from: None, size, columns, heads, summary: true, points });
        let View { values, rows, stride, first, heads: groups, columns, .. } = view;
        self.push(Summarize { reduce, values, rows, stride, first, groups, columns, top, summary }.dispatch());
    }

    /// Rows of a view, one behind another.
    pub fn take(&mut self, tokens: Option<Range<usize>>, view: View, taken: Slot) {
        let View { values, rows, stride, first, .. } = view;
        self.push(Take { values, rows, stride, first, columns: view.width(), tokens, taken }.dispatch());
    }

    fn capture(&mut self, capture: Capture) {
        self.recording.captures.push(capture);
        self.recording.commands.push(Command::Capture(self.recording.captures.len() - 1));
    }

    /// A capture that a kernel writes.
    fn written(&mut self, capture: Capture) -> Slot {
        self.recording.captures.push(capture);
        Slot::Capture(self.recording.captures.len() - 1)
    }
}
