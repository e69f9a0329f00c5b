//! A probe: a model's forward compiled for points that are watched and edited, run for sequence after sequence.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::edit::{Uploaded, enter};
use super::{Edit, Kind, Point, Tensor, Trace};
use crate::error::{Error, Result};
use crate::files::Encoded;
use crate::kernels::summarize::NUMBERS;
use crate::model::Model;
use crate::schedule::{Batch, Operation, Outcome, Program, Purpose, RowEdit, Running, Watch, record};

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
    /// The points of which a summary comes back, `[tokens, heads, 4]`: norm, mean, element of largest magnitude, its place.
    pub summaries: BTreeMap<Point, Tensor>,
    /// The purpose's own result: the logits of [`Purpose::Score`], the vector of [`Purpose::Embed`].
    pub output: Vec<f32>,
}

/// Captures on the GPU; they are the next forward's as soon as this is dropped.
pub struct Held<'p> {
    running: Running<'p>,
}

/// A point in a buffer on the GPU: f32, row by row. Of a pattern it is all of the buffer, `[tokens, heads, keys of the longest
/// sequence]`, and stride and columns say nothing.
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
        let captures = self.running.program().recording().captures.iter().enumerate();
        captures.filter(|(_, capture)| !capture.summary).find_map(|(i, capture)| {
            let (_, columns) = capture.points.iter().find(|(own, _)| *own == point)?;
            let buffer = self.running.capture(i)?;
            Some(HeldPoint { buffer, stride: capture.columns, columns: (columns.start, columns.end) })
        })
    }
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
        let all = || watch.taps.iter().chain(&watch.summaries).chain(&watch.edits);
        if let Some(point) = all().find(unknown) {
            return Err(Error::Input(format!("{point} is no stream point of this model")));
        }
        if let Some(point) = watch.summaries.iter().find(|point| matches!(point.kind, Kind::Pattern | Kind::Result)) {
            return Err(Error::Input(format!("{point} cannot be summarised")));
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
        let mut start = 0;
        let mut seen = Vec::new();
        let width = output.len() / looks.len().max(1);
        let all = looks.iter().map(|look| look.ids.len()).sum();
        for (i, look) in looks.iter().enumerate() {
            let rows = start..start + look.ids.len();
            start = rows.end;
            let (tensors, summaries) = self.tensors(&captures, rows, all);
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
        Ok(Held { running: self.program.start(&self.batch(looks)?, None)? })
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

    /// What was captured of one sequence, which stands in some of all rows.
    fn tensors(
        &self,
        captures: &[Vec<f32>],
        sequence: Range<usize>,
        all: usize,
    ) -> (BTreeMap<Point, Tensor>, BTreeMap<Point, Tensor>) {
        let rows = self.watch.only.as_ref().map_or(sequence.clone(), |only| 0..only.len());
        let (mut tensors, mut summaries) = (BTreeMap::new(), BTreeMap::new());
        for (capture, data) in self.program.recording().captures.iter().zip(captures) {
            for (point, columns) in &capture.points {
                let heads = point.heads(&self.model.spec);
                if capture.summary {
                    let own = &data[rows.start * capture.columns..rows.end * capture.columns];
                    summaries.insert(*point, Tensor { shape: vec![rows.len(), heads, NUMBERS], data: own.to_vec() });
                    continue;
                }
                let tensor = match point.kind {
                    Kind::Pattern => pattern(data, heads, all, &sequence),
                    _ => {
                        let own = &data[rows.start * capture.columns..rows.end * capture.columns];
                        let own = own.chunks_exact(capture.columns).flat_map(|row| &row[columns.clone()]);
                        Tensor { shape: point.shape(&self.model.spec, rows.len()), data: own.copied().collect() }
                    }
                };
                tensors.insert(*point, tensor);
            }
        }
        (tensors, summaries)
    }
}

/// One sequence's `[heads, tokens, tokens]`, of `[all tokens, heads, keys of the longest sequence]`.
fn pattern(data: &[f32], heads: usize, all: usize, sequence: &Range<usize>) -> Tensor {
    let (keys, own) = (data.len() / heads / all, sequence.len());
    let row = |head: usize, token: usize| &data[(token * heads + head) * keys..][..own];
    let rows = (0..heads).flat_map(|head| sequence.clone().flat_map(move |token| row(head, token)));
    Tensor { shape: vec![heads, own, own], data: rows.copied().collect() }
}
