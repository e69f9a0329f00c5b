//! Edits: what is changed at a stream's points, as plain data.

use std::ops::Range;
use std::sync::Arc;

use super::{Kind, Point};
use crate::error::{Error, Result};
use crate::model::Spec;
use crate::schedule::{Batch, Operation, Recording, RowEdit};

/// One change at one point. Several at one point are done in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit {
    /// Where.
    pub point: Point,
    /// The tokens whose rows are changed, by their positions in the sequence; those that it does not have are left out.
    pub tokens: Range<usize>,
    /// The head whose elements are changed, of points that have heads; all of them where none is named.
    pub head: Option<usize>,
    /// Of a pattern, the keys whose weights are changed, by their positions in the sequence; those that it does not have are
    /// left out, and where attention is causal those behind the query. [`Edit::ALL`] elsewhere.
    pub keys: Range<usize>,
    /// What is done to each row.
    pub action: Action,
}

/// What is done to a row x of `columns` elements: those of the point, or of its head. Of a pattern a row is what one query
/// pays to the keys that the edit names, in one head; where the edit names no head, it is done in each.
///
/// A vector has `columns` elements, for every token; or a row of them for each of the edit's tokens, of which there must
/// then be as many as rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// x = v: another run's, a mean, zeros.
    Set(Arc<[f32]>),
    /// x + α·v.
    Add {
        /// v.
        vector: Arc<[f32]>,
        /// α.
        alpha: f32,
    },
    /// α·x.
    Scale(f32),
    /// x - α·(x·u)·u with u = v/‖v‖: at α = 1 nothing is left along v.
    Project {
        /// v.
        vector: Arc<[f32]>,
        /// α.
        alpha: f32,
    },
}

impl Edit {
    /// Every token, or every key.
    pub const ALL: Range<usize> = 0..usize::MAX;

    /// An edit of every token and all heads.
    pub fn new(point: Point, action: Action) -> Self {
        Edit { point, tokens: Self::ALL, head: None, keys: Self::ALL, action }
    }

    /// The same, of one head.
    pub fn of_head(self, head: usize) -> Self {
        Edit { head: Some(head), ..self }
    }

    /// The same, of some tokens.
    pub fn of_tokens(self, tokens: Range<usize>) -> Self {
        Edit { tokens, ..self }
    }

    /// The same, of a pattern's weights on some keys.
    pub fn of_keys(self, keys: Range<usize>) -> Self {
        Edit { keys, ..self }
    }

    /// Whether it changes nothing, whatever it is done to.
    pub fn is_nothing(&self) -> bool {
        match self.action {
            Action::Set(_) => false,
            Action::Add { alpha, .. } | Action::Project { alpha, .. } => alpha == 0.0,
            Action::Scale(alpha) => alpha == 1.0,
        }
    }

    /// Proves that it is one of a model's.
    ///
    /// # Errors
    /// [`Error::Input`] for a point or a head that the model does not have, keys of what is no pattern, a vector for a pattern
    /// without keys, one of another length, or one that is not finite, or along nothing.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let point = self.point;
        let wrong = |what: String| Err(Error::Input(format!("the edit at {point} {what}")));
        if !Point::of_model(spec).contains(&point) || !point.kind.is_editable() {
            return wrong("is of no point that can be edited in this model".into());
        }
        let heads = point.heads(spec);
        if let Some(head) = self.head.filter(|&head| head >= heads || !point.kind.has_heads()) {
            return wrong(format!(
                "is of head {head}, and there are {}",
                if point.kind.has_heads() { heads } else { 0 }
            ));
        }
        if self.keys != Self::ALL && (point.kind != Kind::Pattern || self.keys.is_empty()) {
            return wrong(format!("is of the keys {:?}", self.keys));
        }
        if point.kind == Kind::Pattern && self.keys == Self::ALL && self.vector().is_some() {
            return wrong("does not say which keys its numbers are for".into());
        }
        let columns = self.columns(spec).len();
        let alpha = match &self.action {
            Action::Set(_) => 1.0,
            Action::Add { alpha, .. } | Action::Project { alpha, .. } | Action::Scale(alpha) => *alpha,
        };
        if !alpha.is_finite() {
            return wrong(format!("has {alpha} as its factor"));
        }
        let Some(vector) = self.vector() else { return Ok(()) };
        let rows = self.tokens.end.saturating_sub(self.tokens.start);
        if vector.len() != columns && vector.len() / columns != rows || !vector.len().is_multiple_of(columns) {
            return wrong(format!("has {} numbers, and a row has {columns}", vector.len()));
        }
        if let Some(value) = vector.iter().find(|x| !x.is_finite()) {
            return wrong(format!("has {value} among its numbers"));
        }
        if matches!(self.action, Action::Project { .. }) && unit(&vector[..columns]).is_none() {
            return wrong("projects a vector of zeros out".into());
        }
        if matches!(self.action, Action::Project { .. }) && vector.len() != columns {
            return wrong("projects another vector out of each row".into());
        }
        Ok(())
    }

    /// The tokens whose rows are changed, of so many.
    pub(crate) fn rows(&self, tokens: usize) -> Range<usize> {
        self.tokens.start.min(tokens)..self.tokens.end.min(tokens)
    }

    /// The numbers that it brings along.
    pub(crate) fn numbers(&self) -> usize {
        self.vector().map_or(0, |vector| vector.len())
    }

    /// The parts of a row that it is done in, one after another: heads of a pattern.
    pub(crate) fn parts(&self, spec: &Spec) -> Range<usize> {
        match (self.point.kind, self.head) {
            (Kind::Pattern, None) => 0..self.point.heads(spec),
            (Kind::Pattern, Some(head)) => head..head + 1,
            _ => 0..1,
        }
    }

    /// Its columns in a row of the point; of a pattern as many as keys are named.
    fn columns(&self, spec: &Spec) -> Range<usize> {
        if self.point.kind == Kind::Pattern {
            return self.keys.clone();
        }
        let width = self.point.width(spec);
        match self.head {
            None => 0..width,
            Some(head) => {
                let size = width / self.point.heads(spec);
                head * size..(head + 1) * size
            }
        }
    }

    fn vector(&self) -> Option<&Arc<[f32]>> {
        match &self.action {
            Action::Set(vector) | Action::Add { vector, .. } | Action::Project { vector, .. } => Some(vector),
            Action::Scale(_) => None,
        }
    }
}

/// v/‖v‖, `None` for zeros.
fn unit(vector: &[f32]) -> Option<Vec<f32>> {
    let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    (norm > 0.0).then(|| vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect())
}

/// The points of edits that change something, each once, in order.
pub(crate) fn edited_points<'a>(edits: impl IntoIterator<Item = &'a Edit>) -> Vec<Point> {
    let mut points: Vec<_> = edits.into_iter().filter(|e| !e.is_nothing()).map(|e| e.point).collect();
    points.sort();
    points.dedup();
    points
}

/// Vectors that are in a batch already, by where they lie on the host.
#[derive(Default)]
pub(crate) struct Uploaded(Vec<(usize, u32)>);

impl Uploaded {
    pub fn place(&mut self, batch: &mut Batch, vector: &[f32]) -> u32 {
        let address = vector.as_ptr() as usize;
        if let Some((_, place)) = self.0.iter().find(|(known, _)| *known == address) {
            return *place;
        }
        let place = batch.vector(vector);
        self.0.push((address, place));
        place
    }
}

/// Enters edits, which were checked, into a batch: for the sequence whose tokens from `position` on stand in `rows`.
pub(crate) fn enter(
    edits: &[Edit],
    spec: &Spec,
    recording: &Recording,
    batch: &mut Batch,
    uploaded: &mut Uploaded,
    rows: Range<usize>,
    position: usize,
) {
    for edit in edits.iter().filter(|edit| !edit.is_nothing()) {
        // a forward that never gets to the point has no site for it
        let Some(site) = recording.site(edit.point) else { continue };
        let columns = edit.columns(spec);
        let (operation, alpha) = match edit.action {
            Action::Set(_) => (Operation::Set, 1.0),
            Action::Add { alpha, .. } => (Operation::Add, alpha),
            Action::Scale(alpha) => (Operation::Scale, alpha),
            Action::Project { alpha, .. } => (Operation::Project, alpha),
        };
        let first = match (&edit.action, edit.vector()) {
            (Action::Project { .. }, Some(vector)) => batch.vector(&unit(vector).unwrap_or_default()),
            (_, Some(vector)) => uploaded.place(batch, vector),
            (_, None) => 0,
        };
        let each = edit.vector().is_some_and(|vector| vector.len() > columns.len());
        let end = edit.tokens.end.min(position + rows.len());
        for token in edit.tokens.start.max(position)..end {
            let row = if each { (token - edit.tokens.start) * columns.len() } else { 0 };
            let mut columns = columns.clone();
            if edit.point.kind == Kind::Pattern {
                let causal = spec.blocks.get(edit.point.block).is_some_and(|block| block.mask.after == 0);
                columns.end = columns.end.min(if causal { token + 1 } else { position + rows.len() });
            }
            if columns.is_empty() {
                continue;
            }
            let token = rows.start + token - position;
            let vector = first + row as u32;
            for part in edit.parts(spec) {
                let edit = RowEdit { token, part, columns: columns.clone(), operation, alpha, vector };
                batch.edit(&recording.sites, site, edit);
            }
        }
    }
}
