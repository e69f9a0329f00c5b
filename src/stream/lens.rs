//! The logit lens: what a model would say if it stopped at a block.
//!
//! Each row of the stream, the inputs of the blocks and the output of the last, goes through the model's own final norm
//! (with its own statistics) and head, biases and soft cap included:
//!
//! logits(x) = cap(W_U · Norm_f(x) + b_U), p = softmax(logits)
//!
//! after nostalgebraist, "interpreting GPT: the logit lens" (2020). Of p come back the likeliest tokens, its entropy
//! H = -Σ p log p, the divergence KL(q ‖ p) = Σ q (log q - log p) of the model's final distribution q from it (Belrose and
//! others, "Eliciting Latent Predictions from Transformers with the Tuned Lens", 2023), both in nats, and the rank of a token.
//! For masked language models W_U is the whole head: decoder(norm(activation(dense(x)))). An encoder without one has no p;
//! its rows are compared with the final ones: cos(Norm_f(x), Norm_f(x_final)).

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Edit, Held, Kind, Look, Point, Probe, Tap};
use crate::error::{Error, Result};
use crate::files::Tokenizer;
use crate::kernels::logit_stats::{FIRST, MOST, NOTHING};
use crate::model::{Model, Placement};
use crate::schedule::{Batch, Operation, Program, Purpose, RowEdit, Watch, record};
use crate::task::Task;

/// A logit lens of a model: compiled once, for any number of texts.
pub struct Lens<'m> {
    model: &'m Model,
    probe: Probe<'m>,
    /// What rows of the stream go through; nothing where a model has neither a head nor a final norm.
    readout: Option<Program>,
    points: Vec<Point>,
    /// Rows that are read together.
    most: usize,
}

/// What the lens shows of one text.
#[derive(Clone, Debug, PartialEq)]
pub struct LensView {
    /// Its token ids.
    pub ids: Vec<u32>,
    /// The input of each block, then the output of the last.
    pub rows: Vec<LensRow>,
}

/// One point of the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct LensRow {
    /// Which.
    pub point: Point,
    /// What each token's row says.
    pub positions: Vec<Reading>,
}

/// What a row says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// Of a model with a head.
    Distribution(Distribution),
    /// Of an encoder without one: the cosine with the final row.
    Cosine(f32),
}

/// What is said of a distribution over the vocabulary. Where a logit is no finite number, numbers are NaN and `top` is empty;
/// where that is so of the final row alone, `kl` is NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// The likeliest tokens, first the likeliest; of equal ones, that of the lower id.
    pub top: Vec<Guess>,
    /// In nats.
    pub entropy: f32,
    /// Of the final distribution from this one, in nats.
    pub kl: f32,
    /// The token that was asked for, or the final distribution's likeliest; `None` where that has none.
    pub token: Option<u32>,
    /// How many tokens are likelier than that one; of equal ones, those of a lower id are.
    pub rank: Option<u32>,
}

/// A token that may come.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// Its id.
    pub id: u32,
    /// Its text, where the model has a tokenizer that knows it.
    pub token: Option<Arc<str>>,
    /// Its probability.
    pub p: f32,
}

/// Bytes of the logits that are on the GPU at a time.
const LOGIT_BYTES: usize = 64 << 20;
/// Rows at a time, at most.
const ROWS: usize = 512;

/// Rows of one position that are read together, beside its final row.
struct Unit {
    position: usize,
    rows: Range<usize>,
}

impl<'m> Lens<'m> {
    /// A lens that names so many of the likeliest tokens, 64 at most. Texts may be edited at `edits`.
    ///
    /// # Errors
    /// [`Error::Input`] for more tokens or a point that cannot be edited; else as [`Probe::new`].
    pub async fn new(model: &'m Model, top: usize, edits: &[Point]) -> Result<Self> {
        if top > MOST {
            return Err(Error::Input(format!("the {top} likeliest tokens, and {MOST} can be named")));
        }
        if let Some(point) = edits.iter().find(|p| matches!(p.kind, Kind::FinalNormalized | Kind::Logits)) {
            return Err(Error::Input(format!(
                "{point} is behind the rows that a lens reads, and cannot be edited there"
            )));
        }
        let (spec, tensors) = (&model.spec, &model.tensors);
        let blocks = spec.num_hidden_layers;
        let last = if spec.placement == Placement::Post { Kind::NormalizedResidPost } else { Kind::ResidPost };
        let mut points: Vec<_> = (0..blocks).map(|block| Point::new(block, Kind::ResidPre)).collect();
        points.push(Point::new(blocks.saturating_sub(1), last));
        let watch = Watch { edits: edits.to_vec(), held: true, ..Watch::taps(&points) };
        let probe = Probe::new(model, &Purpose::Trace, watch).await?;
        let normed = spec.final_norm && !spec.has_logits();
        let taps = normed.then_some(Tap::from(Point::new(0, Kind::FinalNormalized))).into_iter().collect();
        let watch = Watch { taps, from: Some(blocks), ..Watch::default() };
        let recording = record(spec, tensors, &Purpose::Lens { top }, model.choices, &watch);
        let readout = if spec.has_logits() || normed {
            model.try_variants(&recording).await?;
            Some(Program::new(&model.gpu, recording, Arc::clone(&model.weights))?)
        } else {
            None
        };
        let most = (LOGIT_BYTES / 4 / spec.vocab_size).min(ROWS);
        Ok(Lens { model, probe, readout, points, most })
    }

    /// The same lens, which reads so many rows together: less memory for logits, and more passes over the head's weights.
    /// Numbers do not depend on it.
    pub fn rows_together(self, rows: usize) -> Self {
        Lens { most: rows, ..self }
    }

    /// [`Lens::new`], blocking the calling thread.
    pub fn new_blocking(model: &'m Model, top: usize, edits: &[Point]) -> Result<Self> {
        pollster::block_on(Self::new(model, top, edits))
    }

    /// Reads a sequence of ids, taken as they are. `token` is the one whose rank is asked for; else it is the final
    /// distribution's likeliest, at each position its own. Progress is in rows.
    ///
    /// # Errors
    /// [`Error::Input`] for ids, edits or a token that the model does not have; [`Error::Cancelled`],
    /// [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn read(&self, ids: &[u32], edits: &[Edit], token: Option<u32>, task: &Task) -> Result<LensView> {
        self.model.check_ids(token.as_slice())?;
        let held = self.probe.hold(&[Look { edits, ..Look::new(ids) }])?;
        let mut tokens = Tokens { tokenizer: self.model.tokenizer().ok(), known: HashMap::new() };
        let mut positions = Vec::with_capacity(ids.len() * self.points.len());
        let says = |rows: &[&[f32]], last: &[f32]| {
            positions.extend(rows.iter().map(|row| match self.model.spec.has_logits() {
                true => Reading::Distribution(self.distribution(row, &mut tokens)),
                false => Reading::Cosine(cosine(row, last)),
            }));
        };
        self.through(&held, ids.len(), token, task, says).await?;
        let count = self.points.len();
        let of_row = |i| positions.iter().skip(i).step_by(count).cloned().collect();
        let rows = self.points.iter().enumerate().map(|(i, &point)| LensRow { point, positions: of_row(i) });
        Ok(LensView { ids: ids.to_vec(), rows: rows.collect() })
    }

    /// [`Lens::read`], blocking the calling thread.
    pub fn read_blocking(&self, ids: &[u32], edits: &[Edit], token: Option<u32>, task: &Task) -> Result<LensView> {
        pollster::block_on(self.read(ids, edits, token, task))
    }

    /// What the readout makes of each position's rows, and of its final one, one position behind another: a few at a time, which
    /// come from the GPU then, so that neither their memory nor the logits' grows with the text.
    async fn through(
        &self,
        held: &Held<'_>,
        tokens: usize,
        token: Option<u32>,
        task: &Task,
        mut says: impl FnMut(&[&[f32]], &[f32]),
    ) -> Result<()> {
        let count = self.points.len();
        let most = self.readout.as_ref().map_or(ROWS, |program| self.most.min(program.max_tokens()).max(2));
        // each unit has its final row once more
        let own = most - 1;
        let units = (0..tokens).flat_map(|position| {
            (0..count).step_by(own).map(move |row| Unit { position, rows: row..count.min(row + own) })
        });
        let units: Vec<_> = units.collect();
        let (mut done, total) = (0, tokens * count);
        let mut rest = &units[..];
        while let Some(first) = rest.first() {
            task.check()?;
            let mut rows = 0;
            let fits = rest.iter().take_while(|unit| {
                rows += unit.rows.len() + 1;
                rows <= most
            });
            let (chunk, after) = rest.split_at(fits.count().max(1));
            rest = after;
            let end = chunk.last().map_or(first.position, |unit| unit.position) + 1;
            let streams = held.read(0, &self.points, first.position..end).await?;
            let all = chunk.iter().flat_map(|unit| {
                let at = unit.position - first.position;
                unit.rows.clone().chain([count - 1]).map(move |row| (row, at))
            });
            let columns = self.model.spec.hidden_size;
            let row = |(row, at): (usize, usize)| {
                streams.get(&self.points[row]).map_or(&[][..], |tensor| &tensor.data[at * columns..][..columns])
            };
            let all: Vec<&[f32]> = all.map(row).collect();
            let output = match &self.readout {
                Some(program) => self.read_out(program, chunk, &all, token).await?,
                None => all.concat(),
            };
            let mut read = output.chunks_exact(output.len() / all.len());
            for unit in chunk {
                let rows: Vec<&[f32]> = read.by_ref().take(unit.rows.len()).collect();
                says(&rows, read.next().unwrap_or_default());
                done += rows.len();
            }
            task.report(done as u64, total as u64);
        }
        Ok(())
    }

    /// What the readout makes of the rows of some units, each with its final one behind it.
    async fn read_out(
        &self,
        program: &Program,
        units: &[Unit],
        rows: &[&[f32]],
        token: Option<u32>,
    ) -> Result<Vec<f32>> {
        let has_logits = self.model.spec.has_logits();
        let recording = program.recording();
        let mut batch = Batch::of(recording);
        let mut rest = rows.iter();
        for unit in units {
            let last = batch.dims().tokens as usize + unit.rows.len();
            for row in rest.by_ref().take(unit.rows.len() + 1) {
                let place = batch.dims().tokens as usize;
                // nothing turns them, and no table is looked into
                batch.push([(0, 0, 0)], 0);
                recording.pairs.iter().enumerate().for_each(|(i, &pairs)| batch.push_angles(i, &vec![0.0; 2 * pairs]));
                let (columns, operation, vector) = (0..row.len(), Operation::Set, batch.vector(row));
                let edit = RowEdit { token: place, part: 0, columns, operation, alpha: 1.0, vector };
                batch.edit(&recording.sites, 0, edit);
                if has_logits {
                    batch.read(token, last);
                }
            }
        }
        let mut outcome = program.run(&batch).await?;
        Ok(if has_logits { outcome.output } else { outcome.captures.remove(0) })
    }

    fn distribution(&self, words: &[f32], tokens: &mut Tokens<'_>) -> Distribution {
        let number = |x: f32| if x.to_bits() == NOTHING { f32::NAN } else { x };
        let id = |x: f32| (x.to_bits() != NOTHING).then_some(x.to_bits());
        let [largest, log_sum] = [words[0], words[1]].map(|x| f64::from(number(x)));
        let guess = |pair: &[f32]| {
            let p = (f64::from(pair[1]) - largest - log_sum).exp() as f32;
            id(pair[0]).map(|id| Guess { id, token: tokens.text(id), p })
        };
        Distribution {
            top: words[FIRST..].chunks_exact(2).map_while(guess).collect(),
            entropy: number(words[2]),
            kl: number(words[3]),
            token: id(words[4]),
            rank: id(words[5]),
        }
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()) as f32
}

/// Texts of tokens, each looked up once.
struct Tokens<'a> {
    tokenizer: Option<&'a Tokenizer>,
    known: HashMap<u32, Option<Arc<str>>>,
}

impl Tokens<'_> {
    fn text(&mut self, id: u32) -> Option<Arc<str>> {
        let tokenizer = self.tokenizer?;
        self.known.entry(id).or_insert_with(|| tokenizer.text_of(id).map(Arc::from)).clone()
    }
}
