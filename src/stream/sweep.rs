//! Sweeps: one text under many sets of edits, each judged by one number.
//!
//! The stream before every block of the clean run is kept once, and what its attention gives. A run whose edits begin in
//! block l starts there, before its attention or behind it, and as many runs as memory allows go through the rest of the
//! blocks in one batch. Neither changes a bit: every run gives the number that it gives alone, from the embedding on.

use std::collections::BTreeMap;

use super::surprise::Surprises;
use super::{Edit, Kind, Look, Metric, Point, Probe, Seen, Tap, Tensor, Trace, edited_points};
use crate::encode::BATCH_TOKENS;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::schedule::{Dims, Purpose, Watch, record};
use crate::task::Task;

/// A text that is run again and again, each time with other edits.
pub struct Sweep<'m> {
    model: &'m Model,
    ids: Vec<u32>,
    metric: Metric,
    /// Of a loss: what makes it, and the tokens that should have come.
    surprises: Option<(Surprises, Vec<u32>)>,
    /// The stream before each block, `[tokens, d_model]`, and z, `[tokens, heads, d_head]`.
    clean_rows: BTreeMap<Point, Tensor>,
    clean: f64,
    /// Bytes that the buffers of a batch may take.
    memory: u64,
}

/// Where a run leaves the clean one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Embedding,
    Block(usize),
    /// Behind its attention.
    Z(usize),
}

impl<'m> Sweep<'m> {
    /// Runs a text as it is, and keeps its stream before every block, on the host.
    ///
    /// # Errors
    /// As [`Metric::check`] and [`Probe::run`]; [`Error::NotFinite`].
    pub async fn new(model: &'m Model, ids: &[u32], metric: Metric) -> Result<Self> {
        Self::expecting(model, ids, ids, metric).await
    }

    /// The same, whose loss is at other tokens, as many.
    pub(crate) async fn expecting(model: &'m Model, ids: &[u32], wanted: &[u32], metric: Metric) -> Result<Self> {
        model.check_length(ids)?;
        metric.check(model, ids.len())?;
        let blocks = model.spec().num_hidden_layers;
        let points = |block| [Kind::ResidPre, Kind::Z].map(|kind| Point::new(block, kind));
        let points: Vec<Point> = (0..blocks).flat_map(points).collect();
        let memory = memory(model, ids.len(), &metric.purpose(model));
        let clean_rows = capture(model, ids, &points).await?.tensors;
        let surprises = match metric {
            Metric::Loss => Some((Surprises::new(model, memory / 8).await?, wanted.to_vec())),
            _ => None,
        };
        let ids = ids.to_vec();
        let mut sweep = Sweep { model, ids, metric, surprises, clean_rows, clean: f64::NAN, memory };
        let last = Start::Z(blocks - 1);
        sweep.clean = sweep.judge(&sweep.probe(last, []).await?, last, &[&[]]).await?[0];
        if !sweep.clean.is_finite() {
            return Err(model.not_finite(&sweep.ids).await);
        }
        Ok(sweep)
    }

    /// [`Sweep::new`], blocking the calling thread.
    pub fn new_blocking(model: &'m Model, ids: &[u32], metric: Metric) -> Result<Self> {
        pollster::block_on(Self::new(model, ids, metric))
    }

    /// The metric without any edit.
    pub fn clean(&self) -> f64 {
        self.clean
    }

    pub(crate) fn model(&self) -> &'m Model {
        self.model
    }

    /// The text's token ids.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The metric of each set of edits. Progress is in sets.
    ///
    /// All buffers together take no more than twice the memory of the plain forward of the text: its weights and workspace
    /// once more.
    ///
    /// # Errors
    /// [`Error::Input`] for an edit that the model cannot have or that no metric sees, being behind the last block, or
    /// where edits make the metric no finite number; [`Error::Cancelled`], [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn run(&self, sets: &[Vec<Edit>], task: &Task) -> Result<Vec<f64>> {
        let mut order = Vec::with_capacity(sets.len());
        for (i, set) in sets.iter().enumerate() {
            order.push((self.start(set)?, i));
        }
        order.sort();
        let mut values = vec![f64::NAN; sets.len()];
        let mut done = 0;
        for group in order.chunk_by(|a, b| a.0 == b.0) {
            let (start, members) = (group[0].0, group.iter().map(|(_, i)| *i).collect::<Vec<_>>());
            let probe = self.probe(start, members.iter().flat_map(|&i| &sets[i])).await?;
            for batch in members.chunks(self.batch(&probe, &members, sets)) {
                task.check()?;
                let edits: Vec<&[Edit]> = batch.iter().map(|&i| &sets[i][..]).collect();
                for (&i, value) in batch.iter().zip(self.judge(&probe, start, &edits).await?) {
                    if !value.is_finite() {
                        let name = self.metric.name();
                        return Err(Error::Input(format!("after the edits of run {i}, the {name} is {value}")));
                    }
                    values[i] = value;
                }
                done += batch.len();
                task.report(done as u64, sets.len() as u64);
            }
        }
        Ok(values)
    }

    /// [`Sweep::run`], blocking the calling thread.
    pub fn run_blocking(&self, sets: &[Vec<Edit>], task: &Task) -> Result<Vec<f64>> {
        pollster::block_on(self.run(sets, task))
    }

    /// The same as [`Sweep::run`], each run by itself and from the embedding on: what sweeps are measured and tested against.
    ///
    /// # Errors
    /// As [`Sweep::run`].
    pub async fn run_one_by_one(&self, sets: &[Vec<Edit>]) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for group in sets.chunk_by(|a, b| edited_points(a) == edited_points(b)) {
            let probe = self.probe(Start::Embedding, &group[0]).await?;
            for set in group {
                values.extend(self.judge(&probe, Start::Embedding, &[set]).await?);
            }
        }
        Ok(values)
    }

    /// Where a set of edits begins to change anything.
    fn start(&self, set: &[Edit]) -> Result<Start> {
        let spec = self.model.spec();
        let mut starts = vec![(spec.num_hidden_layers - 1, Start::Z(spec.num_hidden_layers - 1))];
        for edit in set {
            edit.check(spec)?;
            let Point { block, kind } = edit.point;
            match kind {
                Kind::Embed => return Ok(Start::Embedding),
                Kind::FinalNormalized | Kind::Logits if spec.is_decoder() => {
                    let (point, name) = (edit.point, self.metric.name());
                    return Err(Error::Input(format!("an edit at {point} is behind what the {name} is made of")));
                }
                Kind::FinalNormalized => {}
                Kind::ResidPre | Kind::Q | Kind::K | Kind::V | Kind::Pattern => {
                    starts.push((block, Start::Block(block)))
                }
                _ => starts.push((block, Start::Z(block))),
            }
        }
        Ok(starts.into_iter().min().map_or(Start::Embedding, |(_, start)| start))
    }

    async fn probe(&self, start: Start, edits: impl IntoIterator<Item = &Edit>) -> Result<Probe<'m>> {
        let (from, attended) = match start {
            Start::Embedding => (None, false),
            Start::Block(block) => (Some(block), false),
            Start::Z(block) => (Some(block), true),
        };
        let watch = Watch {
            taps: self.metric.taps(self.model).iter().map(Tap::from).collect(),
            edits: edited_points(edits),
            from,
            attended,
            ..Watch::default()
        };
        Probe::new(self.model, &self.metric.purpose(self.model), watch).await
    }

    /// How many of a group's runs go together.
    fn batch(&self, probe: &Probe<'_>, members: &[usize], sets: &[Vec<Edit>]) -> usize {
        let tokens = self.ids.len();
        let most = |of: &dyn Fn(&Edit) -> usize| {
            members.iter().map(|&i| sets[i].iter().map(of).sum::<usize>()).max().unwrap_or(0)
        };
        let spec = self.model.spec();
        let changes = most(&|edit| edit.rows(tokens).len() * edit.parts(spec).len());
        let vectors = most(&|edit| edit.numbers());
        let program = probe.program();
        let (tile, sites) = (program.recording().tile, &program.recording().sites[..program.recording().resumed]);
        let clean: usize = sites.iter().map(|site| tokens * site.columns.times as usize).sum();
        let fits = |runs: usize| {
            let times = |n: usize| (runs * n).min(u32::MAX as usize) as u32;
            let dims = Dims {
                tokens: times(tokens),
                sequences: times(1),
                tiles: times(tokens.div_ceil(tile as usize)),
                keys: tokens as u32,
                changes: times(sites.len() * tokens + changes),
                vectors: times(vectors).saturating_add(clean as u32),
                ..Dims::default()
            };
            runs * tokens <= BATCH_TOKENS.min(program.max_tokens())
                && program.workspace_bytes(dims) <= self.memory - self.memory / 8
        };
        let most = (2..=members.len()).take_while(|&runs| fits(runs)).last().unwrap_or(1);
        // batches of one size
        members.len().div_ceil(members.len().div_ceil(most))
    }

    /// The metric of some sets of edits, in one batch.
    async fn judge(&self, probe: &Probe<'_>, start: Start, sets: &[&[Edit]]) -> Result<Vec<f64>> {
        let rows = |block, kind| self.clean_rows.get(&Point::new(block, kind)).map(|tensor| &*tensor.data);
        let (stream, z) = match start {
            Start::Embedding => (None, None),
            Start::Block(block) => (rows(block, Kind::ResidPre), None),
            Start::Z(block) => (rows(block, Kind::ResidPre), rows(block, Kind::Z)),
        };
        let position = self.metric.position().unwrap_or(self.ids.len() - 1);
        let looks: Vec<_> = sets.iter().map(|edits| Look { ids: &self.ids, edits, stream, z, position }).collect();
        let seen = probe.run(&looks).await?;
        match &self.surprises {
            Some((surprises, wanted)) => self.losses(surprises, wanted, &seen).await,
            None => seen.iter().map(|seen| self.metric.of(&seen.output)).collect(),
        }
    }

    /// The mean surprise at the wanted tokens but the first, of streams behind the last block.
    async fn losses(&self, surprises: &Surprises, wanted: &[u32], seen: &[Seen]) -> Result<Vec<f64>> {
        let streams = seen.iter().filter_map(|seen| seen.trace.tensors.values().next());
        let columns = self.model.spec().hidden_size;
        let rows = streams.flat_map(|stream| stream.data.chunks_exact(columns).zip(wanted[1..].iter().copied()));
        let each = wanted.len() - 1;
        let found = surprises.at(&rows.collect::<Vec<_>>()).await?;
        Ok(found.chunks_exact(each).map(|own| own.iter().sum::<f64>() / each as f64).collect())
    }
}

/// What the buffers of a sweep's batch may take: as much as the weights and the workspace of a forward of that many tokens.
fn memory(model: &Model, tokens: usize, purpose: &Purpose) -> u64 {
    let recording = record(&model.spec, &model.tensors, purpose, model.choices, &Watch::default());
    let tokens = tokens as u32;
    let dims = Dims { tokens, sequences: 1, tiles: tokens.div_ceil(recording.tile), ..Dims::default() };
    model.weight_bytes() + recording.workspace_bytes(&dims)
}

/// What passes points in a text's plain forward.
pub(crate) async fn capture(model: &Model, ids: &[u32], points: &[Point]) -> Result<Trace> {
    let mut all = Trace { ids: ids.to_vec(), tensors: BTreeMap::new() };
    gather(model, &[ids], points, |_, trace| all.tensors.extend(trace.tensors)).await?;
    Ok(all)
}

/// What passes points in texts' plain forwards: as many texts and as many points at a time as half of a forward's memory
/// holds. `see` gets a text's number and some of the points, until it has had them all.
pub(crate) async fn gather(
    model: &Model,
    texts: &[&[u32]],
    points: &[Point],
    mut see: impl FnMut(usize, Trace),
) -> Result<()> {
    let longest = texts.iter().map(|ids| ids.len()).max().unwrap_or(0);
    let half = memory(model, longest, &Purpose::Trace) / 2;
    // a capture is there twice, in its own buffer and in the one that is read
    let bytes = |point: &Point| match point.kind {
        Kind::Pattern => 8 * (point.heads(&model.spec) * longest) as u64,
        _ => 8 * point.width(&model.spec) as u64,
    };
    let mut rest = points;
    while !rest.is_empty() {
        let mut each = 0;
        let fit = rest.iter().take_while(|point| {
            each += bytes(point);
            each * longest as u64 <= half
        });
        let (now, later) = rest.split_at(fit.count().max(1));
        rest = later;
        let each: u64 = now.iter().map(bytes).sum();
        let most = BATCH_TOKENS.min((half / each) as usize);
        let probe = Probe::new(model, &Purpose::Trace, Watch::taps(now)).await?;
        let mut first = 0;
        while first < texts.len() {
            let mut tokens = 0;
            let fit = texts[first..].iter().take_while(|ids| {
                tokens += ids.len();
                tokens <= most
            });
            let count = fit.count().max(1);
            let looks: Vec<_> = texts[first..first + count].iter().map(|ids| Look::new(ids)).collect();
            for (i, seen) in probe.run(&looks).await?.into_iter().enumerate() {
                see(first + i, seen.trace);
            }
            first += count;
        }
    }
    Ok(())
}
