//! What a report shows, gathered from one traced forward: plain numbers, in the order of tokens and blocks.

use super::image::base64;
use crate::error::{Error, Result};
use crate::model::{Model, Placement, Spec};
use crate::stream::measure::{Measuring, by_block};
use crate::stream::{Attribution, Kind, Lens, LensView, Measures, Point, Question, Reading, Trace};
use crate::task::Task;

/// The most tokens that a report shows.
pub const MOST_TOKENS: usize = 256;

/// The most weights of attention that a report holds, of all blocks and heads; where there are more, each head's are those
/// of the first tokens alone.
pub const MOST_WEIGHTS: usize = 16 << 20;

/// How many of the likeliest tokens are kept of each reading.
const TOP: usize = 5;

/// The most elements of a strip.
pub const BINS: usize = 64;

/// A model and a prompt, as a page shows them.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The model's name: that of its folder or file.
    pub model: String,
    /// What kind of model it is.
    pub facts: Facts,
    /// The token ids.
    pub ids: Vec<u32>,
    /// What each token is called; texts from outside, which may be anything.
    pub tokens: Vec<String>,
    /// What passed each block.
    pub blocks: Vec<BlockStates>,
    /// Contributions, influence, rank, likeness, massive activations and rollout.
    pub measures: Measures,
    /// What each token's stream would say before each block, and behind the last; of models without a head how near it is to
    /// what it becomes. Tokens are named as in `tokens`.
    pub lens: LensView,
    /// The last token's top logit taken apart; of encoders the first token's last stream.
    pub attribution: Attribution,
    /// What that logit's token is called.
    pub target: Option<String>,
    /// Attention weights.
    pub patterns: Patterns,
}

/// A model's sizes and form.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// `model_type` of its config.
    pub family: String,
    /// Where its blocks have norms, in words.
    pub placement: &'static str,
    /// Blocks.
    pub blocks: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Width of the stream.
    pub d_model: usize,
    /// Rows of the word table.
    pub vocabulary: usize,
}

/// What passed one block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockStates {
    /// The stream before the block, `x`, then those of t1 to t5 and h that the model has.
    pub states: Vec<State>,
    /// Norm of the stream after attention was added, for each token; t2 where there is one.
    pub mid: Vec<f64>,
    /// Cosine of what attention adds with the stream that it is added to, for each token.
    pub attention: Vec<f64>,
    /// The same of the FFN.
    pub mlp: Vec<f64>,
}

/// One state of a block's, of all tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// `x`, `t1` … `t5`, `h`.
    pub name: &'static str,
    /// The stream point.
    pub point: Point,
    /// Euclidean length of each token's vector.
    pub norm: Vec<f64>,
    /// Mean of its elements.
    pub mean: Vec<f64>,
    /// The least.
    pub least: Vec<f64>,
    /// The largest.
    pub most: Vec<f64>,
    /// Cosine with the state before; empty for `x`.
    pub cosine: Vec<f64>,
    /// The vector in at most [`BINS`] bins, `[tokens, bins]`: of each the element of the largest magnitude, in 127ths of the
    /// largest magnitude of the token's vector.
    pub strip: Vec<i8>,
}

/// Attention weights in 255ths.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns {
    /// How many tokens are shown, from the first.
    pub tokens: usize,
    /// Of each block, `[heads, tokens, tokens]` by query and key.
    pub blocks: Vec<Vec<u8>>,
}

impl Model {
    /// Gathers what a report shows of one sequence of at most 256 tokens. Progress is in the rows that the lens reads.
    ///
    /// # Errors
    /// [`Error::Input`] for more tokens; [`Error::NotFinite`] where a number is not; [`Error::Cancelled`]; else as
    /// [`Model::trace`].
    pub async fn report(&self, ids: &[u32], task: &Task) -> Result<Report> {
        if ids.len() > MOST_TOKENS {
            let tokens = ids.len();
            return Err(Error::Input(format!("a report shows at most {MOST_TOKENS} tokens, and these are {tokens}")));
        }
        let mut measuring = Measuring::new(ids.len());
        let (mut blocks, mut patterns) = (Vec::new(), Patterns::new(&self.spec, ids.len()));
        let mut finite = true;
        let see = |block, trace: Trace| {
            task.check()?;
            finite &= trace.tensors.values().all(|tensor| tensor.data.iter().all(|x| x.is_finite()));
            if finite {
                measuring.push(&self.spec, block, &trace)?;
                blocks.push(BlockStates::of(&self.spec, &trace, block)?);
                patterns.push(&trace, block)?;
            }
            Ok(())
        };
        by_block(self, ids, &kinds(), see).await?;
        if !finite {
            return Err(self.not_finite(ids).await);
        }
        task.check()?;
        let attribution = self.attribute(ids, Question::default()).await?;
        let mut lens = Lens::new(self, TOP, &[]).await?.read(ids, &[], None, task).await?;
        let name = |id: u32| self.name(id);
        for reading in lens.rows.iter_mut().flat_map(|row| &mut row.positions) {
            let Reading::Distribution(said) = reading else { continue };
            if !said.entropy.is_finite() || !said.kl.is_finite() || said.top.is_empty() {
                return Err(self.not_finite(ids).await);
            }
            said.top.iter_mut().for_each(|guess| guess.token = Some(name(guess.id).into()));
        }
        let stem = self.origin.file_stem().or(self.path.file_stem());
        Ok(Report {
            model: stem.map_or_else(|| self.spec.model_type.clone(), |stem| stem.to_string_lossy().into_owned()),
            facts: Facts::of(&self.spec),
            ids: ids.to_vec(),
            tokens: ids.iter().map(|&id| name(id)).collect(),
            blocks,
            measures: measuring.finish(ids),
            lens,
            target: attribution.target.map(name),
            attribution,
            patterns,
        })
    }

    /// What a token is called. Where its mark of a space is the vocabulary's own, decoding it alone would lose it.
    fn name(&self, id: u32) -> String {
        let tokenizer = self.tokenizer().ok();
        let own = tokenizer.and_then(|tokenizer| tokenizer.token(id));
        shown(own.filter(|token| token.contains('▁')).or_else(|| tokenizer?.text_of(id)), id)
    }

    /// [`Model::report`], blocking the calling thread.
    pub fn report_blocking(&self, ids: &[u32], task: &Task) -> Result<Report> {
        pollster::block_on(self.report(ids, task))
    }
}

/// The kinds of points that a report is gathered from.
fn kinds() -> Vec<Kind> {
    let mut kinds: Vec<_> = STATES.into_iter().map(|(_, kind)| kind).chain(Measuring::KINDS).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

const STATES: [(&str, Kind); 7] = [
    ("x", Kind::ResidPre),
    ("t1", Kind::AttnOut),
    ("t2", Kind::ResidMid),
    ("t3", Kind::NormalizedResidMid),
    ("t4", Kind::MlpOut),
    ("t5", Kind::ResidPost),
    ("h", Kind::NormalizedResidPost),
];

fn seen(trace: &Trace, point: Point) -> Result<&[f32]> {
    let tensor = trace.tensors.get(&point).map(|tensor| &tensor.data[..]);
    tensor.ok_or_else(|| Error::Input(format!("the trace has no {point}")))
}

/// A token as a person reads it: marks of a space before it become one that is seen, and line ends too.
fn shown(token: Option<String>, id: u32) -> String {
    let Some(token) = token else { return format!("#{id}") };
    token.replace(['▁', ' '], "·").replace('\n', "⏎").replace('\t', "⇥")
}

impl Facts {
    fn of(spec: &Spec) -> Self {
        let placement = match spec.placement {
            Placement::Post => "norms after each addition",
            Placement::Pre => "norms before attention and FFN",
            Placement::Around => "norms before and after attention and FFN",
            Placement::After => "norms after attention and FFN",
            Placement::Parallel => "attention and FFN side by side",
        };
        Facts {
            family: spec.model_type.clone(),
            placement,
            blocks: spec.num_hidden_layers,
            heads: spec.num_attention_heads,
            d_model: spec.hidden_size,
            vocabulary: spec.vocab_size,
        }
    }
}

impl BlockStates {
    fn of(spec: &Spec, trace: &Trace, block: usize) -> Result<Self> {
        let d = spec.hidden_size;
        let at = |kind| seen(trace, Point::new(block, kind));
        let mut states: Vec<State> = Vec::new();
        let mut before: Option<&[f32]> = None;
        for (name, kind) in STATES {
            let point = Point::new(block, kind);
            if let Some(tensor) = trace.tensors.get(&point) {
                states.push(State::of(name, point, &tensor.data, before, d));
                before = Some(&tensor.data);
            }
        }
        let (skip, attention) = (at(Kind::AttnSkip)?, at(Kind::AttnOut)?);
        let mid: Vec<f32> = skip.iter().zip(attention).map(|(x, part)| x + part).collect();
        Ok(BlockStates {
            states,
            mid: mid.chunks_exact(d).map(length).collect(),
            attention: cosines(attention, skip, d),
            mlp: cosines(at(Kind::MlpOut)?, at(Kind::MlpSkip)?, d),
        })
    }

    /// One of its states, where it has it.
    pub fn state(&self, name: &str) -> Option<&State> {
        self.states.iter().find(|state| state.name == name)
    }
}

impl State {
    fn of(name: &'static str, point: Point, values: &[f32], before: Option<&[f32]>, d: usize) -> Self {
        let each = |of: &dyn Fn(&[f32]) -> f64| values.chunks_exact(d).map(of).collect();
        let fold = |row: &[f32], of: fn(f32, f32) -> f32| f64::from(row.iter().copied().fold(row[0], of));
        State {
            name,
            point,
            norm: each(&length),
            mean: each(&|row| row.iter().copied().map(f64::from).sum::<f64>() / d as f64),
            least: each(&|row| fold(row, f32::min)),
            most: each(&|row| fold(row, f32::max)),
            cosine: before.map_or_else(Vec::new, |before| cosines(values, before, d)),
            strip: values.chunks_exact(d).flat_map(strip).collect(),
        }
    }
}

impl Patterns {
    fn new(spec: &Spec, tokens: usize) -> Self {
        let each = MOST_WEIGHTS / (spec.num_attention_heads * spec.num_hidden_layers);
        Patterns { tokens: tokens.min(each.isqrt()), blocks: Vec::new() }
    }

    fn push(&mut self, trace: &Trace, block: usize) -> Result<()> {
        let all = trace.ids.len();
        let pattern = seen(trace, Point::new(block, Kind::Pattern))?;
        let rows = pattern.chunks_exact(all).enumerate().filter(|(row, _)| row % all < self.tokens);
        let weights = rows.flat_map(|(_, row)| &row[..self.tokens]);
        self.blocks.push(weights.map(|weight| (255.0 * weight).round() as u8).collect());
        Ok(())
    }

    /// A block's, as base64.
    pub(super) fn text(&self, block: usize) -> String {
        base64(&self.blocks[block])
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn length(row: &[f32]) -> f64 {
    dot(row, row).sqrt()
}

/// Of each row of one with that of the other; 0 where either is zeros.
fn cosines(a: &[f32], b: &[f32], d: usize) -> Vec<f64> {
    let cosine = |(a, b): (&[f32], &[f32])| {
        let lengths = length(a) * length(b);
        if lengths == 0.0 { 0.0 } else { dot(a, b) / lengths }
    };
    a.chunks_exact(d).zip(b.chunks_exact(d)).map(cosine).collect()
}

fn strip(row: &[f32]) -> Vec<i8> {
    let largest = row.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
    let bins = row.len().min(BINS);
    let bin = |i: usize| {
        let values = &row[i * row.len() / bins..(i + 1) * row.len() / bins];
        let peak = values.iter().copied().fold(0.0f32, |peak, x| if x.abs() > peak.abs() { x } else { peak });
        (127.0 * peak / largest).round() as i8
    };
    (0..bins).map(bin).collect()
}

impl Report {
    /// Whether the model has a head, so that its stream says something.
    pub(super) fn has_lens(&self) -> bool {
        let mut readings = self.lens.rows.iter().flat_map(|row| &row.positions);
        readings.all(|reading| matches!(reading, Reading::Distribution(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_keeps_peaks_and_signs() {
        let mut row = vec![0.0f32; 130];
        (row[1], row[2], row[129]) = (-2.0, 1.0, 4.0);
        let strip = strip(&row);
        assert_eq!((strip.len(), strip[0], strip[63]), (BINS, -64, 127));
        assert_eq!(super::strip(&[0.0, -1.0, 0.5]), [0, -127, 64]);
        assert_eq!(super::strip(&[0.0; 3]), [0; 3]);
    }

    #[test]
    fn spaces_are_seen() {
        let names = [" river", "▁deep", "##s", "\n"].map(|token| shown(Some(token.into()), 0));
        assert_eq!(names, ["·river", "·deep", "##s", "⏎"]);
        assert_eq!(shown(None, 7), "#7");
    }
}
