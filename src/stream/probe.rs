//! A probe: a model's forward compiled for points that are watched and edited, run for sequence after sequence.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::edit::{Uploaded, enter};
use super::{Edit, Held, Kind, Point, Summary, Tap, Tensor, Trace};
use crate::error::{Error, Result};
use crate::files::Encoded;
use crate::kernels::summarize::MOST;
use crate::model::Model;
use crate::schedule::{Batch, Operation, Outcome, Program, Purpose, RowEdit, Watch, record};

/// A forward of a model for instruments: compiled once, run for any number of sequences.
pub struct Probe<'m> {
    model: &'m Model,
    program: Program,
    watch: Watch,
}

/// One sequence that goes through a probe.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// Its token ids, taken as they are.
    pub ids: &'a [u32],
    /// What is changed on its way, at points that the probe was made for.
    pub edits: &'a [Edit],
    /// Where the probe begins behind the embedding: the stream there, f32 `[tokens, d_model]`.
    pub stream: Option<&'a [f32]>,
    /// Where the probe begins behind a block's attention: z there, f32 `[tokens, heads, d_head]`.
    pub z: Option<&'a [f32]>,
    /// Of [`Purpose::Score`]: the position whose logits come back.
    pub position: usize,
}

impl<'a> Look<'a> {
    /// A sequence as it is; the logits, where they are asked for, are its last token's.
    pub fn new(ids: &'a [u32]) -> Self {
        Look { ids, edits: &[], stream: None, z: None, position: ids.len().saturating_sub(1) }
    }
}

/// What came of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The points that are watched.
    pub trace: Trace,
    /// The points of which a summary comes back.
    pub summaries: BTreeMap<Point, Summary>,
    /// The purpose's own result: the logits of [`Purpose::Score`], the vector of [`Purpose::Embed`].
    pub output: Vec<f32>,
}

impl<'m> Probe<'m> {
    /// Compiles a forward of whole sequences.
    ///
    /// # Errors
    /// [`Error::Input`] for a point that the model does not have or that cannot be edited, [`Error::Kernel`],
    /// [`Error::WrongNumbers`], [`Error::DeviceLost`].
    pub async fn new(model: &'m Model, purpose: &Purpose, watch: Watch) -> Result<Self> {
        let points = Point::of_model(&model.spec);
        let unknown = |point: &&Point| !points.contains(point);
        let fixed = |point: &&Point| !point.kind.is_editable();
        Tap::check_all(&watch.seen().cloned().collect::<Vec<_>>(), &model.spec)?;
        if let Some(point) = watch.edits.iter().find(unknown) {
            return Err(Error::Input(format!("{point} is no stream point of this model")));
        }
        if watch.top > MOST {
            return Err(Error::Input(format!("the {} largest elements, and {MOST} can be named", watch.top)));
        }
        if let Some(point) = watch.edits.iter().find(fixed) {
            return Err(Error::Input(format!("{point} can be watched, and cannot be edited")));
        }
        if watch.from.is_some_and(|block| block > model.spec.num_hidden_layers) {
            let (from, blocks) = (watch.from.unwrap_or(0), model.spec.num_hidden_layers);
            return Err(Error::Input(format!("a forward that begins with block {from} of {blocks}")));
        }
        if watch.attended && watch.from.is_none_or(|block| block >= model.spec.num_hidden_layers) {
            return Err(Error::Input("a forward that begins behind the attention of no block".into()));
        }
        let recording = record(&model.spec, &model.tensors, purpose, model.choices, &watch);
        model.try_variants(&recording).await?;
        let program = Program::new(&model.gpu, recording, Arc::clone(&model.weights))?;
        Ok(Probe { model, program, watch })
    }

    /// The program, for benchmarks and tests.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Runs sequences, all in one batch. Each sees the same bits as alone.
    ///
    /// # Errors
    /// [`Error::Input`] naming what is wrong with a sequence or an edit; [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn run(&self, looks: &[Look<'_>]) -> Result<Vec<Seen>> {
        if self.watch.held {
            return Err(Error::Input("this probe's captures stay on the GPU".into()));
        }
        let Outcome { output, captures } = self.program.run(&self.batch(looks)?).await?;
        let mut seen = Vec::new();
        let width = output.len() / looks.len().max(1);
        let lengths: Vec<_> = looks.iter().map(|look| look.ids.len()).collect();
        for (i, look) in looks.iter().enumerate() {
            let Some(place) = Place::of(i, &lengths) else { break };
            let (tensors, summaries) = self.tensors(&captures, &place);
            let trace = Trace { ids: look.ids.to_vec(), tensors };
            seen.push(Seen { trace, summaries, output: output[i * width..(i + 1) * width].to_vec() });
        }
        Ok(seen)
    }

    /// Submits sequences, and leaves what passes the taps on the GPU, where commands that are submitted afterwards to the same
    /// queue find it: a host's renderer, say. Nothing is waited for. The probe must have been made with [`Watch::held`].
    ///
    /// # Errors
    /// As [`Probe::run`].
    pub fn hold(&self, looks: &[Look<'_>]) -> Result<Held<'_>> {
        if !self.watch.held {
            return Err(Error::Input("this probe's captures are read back".into()));
        }
        let running = self.program.start(&self.batch(looks)?, None)?;
        Ok(Held { probe: self, running, lengths: looks.iter().map(|look| look.ids.len()).collect() })
    }

    pub(super) fn model(&self) -> &Model {
        self.model
    }

    /// How a point is watched.
    pub(super) fn tap(&self, point: Point) -> Option<&Tap> {
        self.watch.seen().find(|tap| tap.point == point)
    }

    fn batch(&self, looks: &[Look<'_>]) -> Result<Batch> {
        let mut batch = Batch::of(self.program.recording());
        let mut uploaded = Uploaded::default();
        for look in looks {
            self.push(&mut batch, &mut uploaded, look)?;
        }
        Ok(batch)
    }

    /// [`Probe::run`], blocking the calling thread.
    pub fn run_blocking(&self, looks: &[Look<'_>]) -> Result<Vec<Seen>> {
        pollster::block_on(self.run(looks))
    }

    fn push(&self, batch: &mut Batch, uploaded: &mut Uploaded, look: &Look<'_>) -> Result<()> {
        let Look { ids, edits, stream, z, position } = *look;
        let spec = &self.model.spec;
        self.model.check_length(ids)?;
        if position >= ids.len() {
            return Err(Error::Input(format!("position {position} of {} tokens", ids.len())));
        }
        let beyond = |tap: &&Tap| tap.rows(ids.len()).end > ids.len();
        if let Some(tap) = self.watch.seen().find(beyond) {
            return Err(Error::Input(format!("{tap} is watched, and the text has {} tokens", ids.len())));
        }
        for edit in edits {
            edit.check(spec)?;
            if !edit.is_nothing() && !self.watch.edits.contains(&edit.point) {
                return Err(Error::Input(format!("the probe was not made for edits at {}", edit.point)));
            }
        }
        let first = batch.dims().tokens as usize;
        let input = Encoded { ids: ids.to_vec(), type_ids: vec![0; ids.len()], untruncated: ids.len() };
        self.model.push(batch, &input, 0)?;
        batch.end_at(position);
        // what a batch lacks is noticed by its own check
        let sites = self.program.recording().sites.iter().take(self.program.recording().resumed);
        for ((site, number), rows) in sites.zip(0..).zip([stream, z]) {
            let Some(rows) = rows else { continue };
            let columns = site.columns.times as usize;
            if rows.len() != ids.len() * columns {
                let (has, tokens, point) = (rows.len(), ids.len(), site.point);
                return Err(Error::Input(format!("{has} numbers at {point} for {tokens} tokens of {columns}")));
            }
            let place = uploaded.place(batch, rows);
            for token in 0..ids.len() {
                let vector = place + (token * columns) as u32;
                let (operation, alpha, token) = (Operation::Set, 1.0, first + token);
                let edit = RowEdit { token, part: 0, columns: 0..columns, operation, alpha, vector };
                batch.edit(&self.program.recording().sites, number, edit);
            }
        }
        enter(edits, spec, self.program.recording(), batch, uploaded, first..first + ids.len(), 0);
        Ok(())
    }

    /// What was captured of one sequence.
    fn tensors(&self, captures: &[Vec<f32>], place: &Place) -> (BTreeMap<Point, Tensor>, BTreeMap<Point, Summary>) {
        let (spec, recording) = (&self.model.spec, self.program.recording());
        let (mut tensors, mut summaries) = (BTreeMap::new(), BTreeMap::new());
        for (capture, data) in recording.captures.iter().zip(captures) {
            for (point, columns) in &capture.points {
                let Some(tap) = self.tap(*point) else { continue };
                let (rows, all) = place.rows(tap);
                if capture.summary {
                    let own = &data[rows.start * capture.columns..rows.end * capture.columns];
                    let each = if point.kind == Kind::Pattern { place.tokens } else { tap.columns(spec) };
                    let shape = vec![rows.len(), tap.heads(spec).len()];
                    summaries.insert(*point, Summary::of(own, shape, each, self.watch.top));
                    continue;
                }
                let data = match point.kind {
                    Kind::Pattern => pattern(data, tap.heads(spec).len(), all, &rows, place.tokens),
                    _ => {
                        let own = &data[rows.start * capture.columns..rows.end * capture.columns];
                        own.chunks_exact(capture.columns).flat_map(|row| &row[columns.clone()]).copied().collect()
                    }
                };
                tensors.insert(*point, Tensor { shape: tap.shape(spec, place.tokens), data });
            }
        }
        (tensors, summaries)
    }
}

/// Where a sequence stands in a batch.
pub(super) struct Place {
    /// Its number, of so many.
    number: usize,
    of: usize,
    /// Its first row, of so many.
    first: usize,
    all: usize,
    pub tokens: usize,
}

impl Place {
    /// Of a sequence by its number, among sequences of so many tokens.
    pub fn of(number: usize, lengths: &[usize]) -> Option<Self> {
        let (first, all) = (lengths.iter().take(number).sum(), lengths.iter().sum());
        Some(Place { number, of: lengths.len(), first, all, tokens: *lengths.get(number)? })
    }

    /// Its rows of a capture, and how many there are of all sequences.
    pub fn rows(&self, tap: &Tap) -> (Range<usize>, usize) {
        match &tap.tokens {
            Some(tokens) => (self.number * tokens.len()..(self.number + 1) * tokens.len(), self.of * tokens.len()),
            None => (self.first..self.first + self.tokens, self.all),
        }
    }
}

/// `[heads, rows, own keys]` of some of all rows `[heads, keys of the longest sequence]`.
pub(super) fn pattern(data: &[f32], heads: usize, all: usize, rows: &Range<usize>, own: usize) -> Vec<f32> {
    let keys = data.len() / heads / all;
    let row = |head: usize, row: usize| &data[(row * heads + head) * keys..][..own];
    (0..heads).flat_map(|head| rows.clone().flat_map(move |at| row(head, at))).copied().collect()
}
