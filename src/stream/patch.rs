//! Activation patching: which places of a clean run bring a corrupted run back.
//!
//! A clean and a corrupted prompt of the same length differ in a few tokens. The corrupted one is run with the clean run's
//! rows at one place, and the share of the metric that this restores is (m_patch − m_corr)/(m_clean − m_corr): 1 where the
//! place carries all of the difference, 0 where it carries none. Meng et al., "Locating and Editing Factual Associations in
//! GPT" (2022), call it causal tracing; the formula is Wang et al.'s, "Interpretability in the Wild" (2022).

use super::sweep::capture;
use super::{Action, Edit, Kind, Metric, Point, Sweep};
use crate::error::{Error, Result};
use crate::model::{Model, Spec};
use crate::task::Task;

/// A place where rows of one run are put into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The point.
    pub point: Point,
    /// The token whose row is taken; all of them where none is named.
    pub position: Option<usize>,
    /// The head whose elements are taken; all of them where none is named.
    pub head: Option<usize>,
}

impl Place {
    /// Places of some kinds in every block: of kinds with heads each head in all tokens, of others each token.
    pub fn all(kinds: &[Kind], spec: &Spec, tokens: usize) -> Vec<Place> {
        let mut places = Vec::new();
        for &kind in kinds {
            for block in 0..spec.num_hidden_layers {
                let point = Point::new(block, kind);
                match kind.has_heads() {
                    true => places.extend((0..point.heads(spec)).map(|head| Place {
                        point,
                        position: None,
                        head: Some(head),
                    })),
                    false => places.extend((0..tokens).map(|token| Place { point, position: Some(token), head: None })),
                }
            }
        }
        places
    }

    /// The edit that puts a run's rows there: `rows` are all of the point's, `[tokens, …]`.
    ///
    /// # Errors
    /// [`Error::Input`] for a place that the model or the rows do not have.
    pub fn edit(&self, rows: &[f32], spec: &Spec) -> Result<Edit> {
        if self.point.kind == Kind::Pattern {
            return self.weights(rows, spec);
        }
        let (width, heads) = (self.point.width(spec), self.point.heads(spec));
        let columns = match self.head {
            None => 0..width,
            Some(head) => head * (width / heads)..(head + 1) * (width / heads),
        };
        let tokens = self.position.map_or(0..rows.len() / width, |token| token..token + 1);
        let own = rows.get(tokens.start * width..tokens.end * width);
        let (Some(own), true) = (own, columns.end <= width) else {
            return Err(Error::Input(format!("there is no {self:?}")));
        };
        let vector = own.chunks_exact(width).flat_map(|row| &row[columns.clone()]).copied().collect();
        let edit = Edit { tokens, head: self.head, ..Edit::new(self.point, Action::Set(vector)) };
        edit.check(spec)?;
        Ok(edit)
    }

    /// The same of a head's pattern: `rows` are `[heads, tokens, tokens]`.
    fn weights(&self, rows: &[f32], spec: &Spec) -> Result<Edit> {
        let tokens = (rows.len() / self.point.heads(spec)).isqrt();
        let own = self.position.map_or(0..tokens, |token| token..token + 1);
        let place = |head: usize| (head * tokens + own.start) * tokens..(head * tokens + own.end) * tokens;
        let Some(vector) = self.head.filter(|_| own.end <= tokens).and_then(|head| rows.get(place(head))) else {
            return Err(Error::Input(format!("there is no {self:?}; a pattern's places are heads")));
        };
        let edit = Edit { tokens: own, head: self.head, ..Edit::new(self.point, Action::Set(vector.into())) };
        let edit = edit.of_keys(0..tokens);
        edit.check(spec)?;
        Ok(edit)
    }
}

/// What patching has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Patching {
    /// The metric of the clean run.
    pub clean: f64,
    /// The metric of the corrupted run.
    pub corrupted: f64,
    /// The metric of the corrupted run with each place's rows from the clean one, in the places' order.
    pub values: Vec<f64>,
}

impl Patching {
    /// (m_patch − m_corr)/(m_clean − m_corr) of each value.
    pub fn shares(&self) -> Vec<f64> {
        let share = |value: &f64| (value - self.corrupted) / (self.clean - self.corrupted);
        self.values.iter().map(share).collect()
    }
}

/// Puts a clean run's rows into a corrupted run, place by place. A loss is at the clean prompt's tokens, of all runs: what
/// transformers returns for the corrupted prompt with `labels` of the clean one.
///
/// # Errors
/// [`Error::Input`] for prompts of different lengths, a place that is not there, and where both runs have the same metric, so that
/// there is nothing to restore; else as [`Sweep::run`].
pub async fn patch(
    model: &Model,
    clean: &[u32],
    corrupted: &[u32],
    metric: &Metric,
    places: &[Place],
    task: &Task,
) -> Result<Patching> {
    if clean.len() != corrupted.len() {
        let (clean, corrupted) = (clean.len(), corrupted.len());
        let what = "patching needs prompts of the same length";
        return Err(Error::Input(format!("{what}: the clean one has {clean} tokens, the corrupted one {corrupted}")));
    }
    let original = Sweep::new(model, clean, metric.clone()).await?;
    let sweep = Sweep::expecting(model, corrupted, clean, metric.clone()).await?;
    let (clean, corrupted) = (original.clean(), sweep.clean());
    if clean == corrupted {
        let what = format!("the {} is {clean} of both prompts: there is nothing that patching restores", metric.name());
        return Err(Error::Input(what));
    }
    let mut points: Vec<Point> = places.iter().map(|place| place.point).collect();
    points.sort();
    points.dedup();
    let known = Point::of_model(model.spec());
    if let Some(point) = points.iter().find(|point| !known.contains(point) || !point.kind.is_editable()) {
        return Err(Error::Input(format!("{point} is no point of this model that can be patched")));
    }
    let rows = capture(model, original.ids(), &points).await?.tensors;
    let mut sets = Vec::with_capacity(places.len());
    for place in places {
        let rows = rows.get(&place.point).map_or(&[][..], |tensor| &tensor.data);
        sets.push(vec![place.edit(rows, model.spec())?]);
    }
    Ok(Patching { clean, corrupted, values: sweep.run(&sets, task).await? })
}

/// [`patch`], blocking the calling thread.
///
/// # Errors
/// As [`patch`].
pub fn patch_blocking(
    model: &Model,
    clean: &[u32],
    corrupted: &[u32],
    metric: &Metric,
    places: &[Place],
    task: &Task,
) -> Result<Patching> {
    pollster::block_on(patch(model, clean, corrupted, metric, places, task))
}
