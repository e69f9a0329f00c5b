//! Edits: what is changed at a stream's points, as plain data.

use std::ops::Range;
use std::sync::Arc;

use super::Point;
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
    /// What is done to each row.
    pub action: Action,
}

/// What is done to a row x of `columns` elements: those of the point, or of its head.
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
    /// Every token, and all heads.
    pub const ALL: Range<usize> = 0..usize::MAX;

    /// An edit of every token and all heads.
    pub fn new(point: Point, action: Action) -> Self {
        Edit { point, tokens: Self::ALL, head: None, action }
    }

    /// The same, of one head.
    pub fn of_head(self, head: usize) -> Self {
        Edit { head: Some(head), ..self }
    }

    /// The same, of some tokens.
    pub fn of_tokens(self, tokens: Range<usize>) -> Self {
        Edit { tokens, ..self }
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
    /// [`Error::Input`] for a point or a head that the model does not have, a vector of another length, or one that is not
    /// finite, or along nothing.
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

    /// Its columns in a row of the point.
    fn columns(&self, spec: &Spec) -> Range<usize> {
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
            let token = rows.start + token - position;
            let vector = first + row as u32;
            batch.edit(&recording.sites, site, RowEdit { token, columns: columns.clone(), operation, alpha, vector });
        }
    }
}
