//! Ablation: what a metric loses when a part of the model is taken away.
//!
//! A part is replaced at the point where it enters the sum, so that everything behind it sees the change. Zero and mean
//! ablation are as in Wang et al., "Interpretability in the Wild" (2022); resampling is from Chan et al., "Causal
//! Scrubbing" (2022). The gate of a residual connection is λ in x' = λ·x + F(x).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::sweep::{capture, gather};
use super::{Action, Edit, Kind, Point, Sweep};
use crate::error::{Error, Result};
use crate::model::{Model, Spec};
use crate::task::Task;

/// A kind of part that can be replaced, of some block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// One head: its elements of z.
    Head(usize),
    /// What attention adds to the stream, its bias included.
    Attention,
    /// What the FFN adds to the stream, its bias included.
    Mlp,
    /// Both.
    Block,
    /// What the residual connection carries past attention.
    AttentionSkip,
    /// What it carries past the FFN.
    MlpSkip,
}

impl Component {
    /// Each kind of part in every block, heads one by one, block by block.
    ///
    /// # Errors
    /// [`Error::Input`] for a name that is none of `heads`, `attention`, `mlp`, `block`, `attention_skip`, `mlp_skip`.
    pub fn parse(names: &str, spec: &Spec) -> Result<Vec<(usize, Component)>> {
        let mut parts = Vec::new();
        for name in names.split(',').map(str::trim) {
            match name {
                "heads" => parts.extend((0..spec.num_attention_heads).map(Component::Head)),
                "attention" => parts.push(Component::Attention),
                "mlp" => parts.push(Component::Mlp),
                "block" => parts.push(Component::Block),
                "attention_skip" => parts.push(Component::AttentionSkip),
                "mlp_skip" => parts.push(Component::MlpSkip),
                _ => {
                    let known = "heads, attention, mlp, block, attention_skip and mlp_skip";
                    return Err(Error::Input(format!("{name:?} is no component of a model: there are {known}")));
                }
            }
        }
        parts.sort();
        parts.dedup();
        let blocks = 0..spec.num_hidden_layers;
        Ok(blocks.flat_map(|block| parts.iter().map(move |part| (block, *part))).collect())
    }

    /// Where it is replaced.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Component::Head(_) => &[Kind::Z],
            Component::Attention => &[Kind::AttnOut],
            Component::Mlp => &[Kind::MlpOut],
            Component::Block => &[Kind::AttnOut, Kind::MlpOut],
            Component::AttentionSkip => &[Kind::AttnSkip],
            Component::MlpSkip => &[Kind::MlpSkip],
        }
    }
}

impl fmt::Display for Component {
    /// `head 3`, `attention`, `mlp`, `block`, `attention_skip`, `mlp_skip`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Component::Head(head) => write!(f, "head {head}"),
            Component::Attention => f.write_str("attention"),
            Component::Mlp => f.write_str("mlp"),
            Component::Block => f.write_str("block"),
            Component::AttentionSkip => f.write_str("attention_skip"),
            Component::MlpSkip => f.write_str("mlp_skip"),
        }
    }
}

/// What takes a part's place.
#[derive(Clone, Debug, PartialEq)]
pub enum Replacement {
    /// Itself, times λ: 0 removes it, and of a residual connection λ is the gate.
    Scale(f32),
    /// Its mean over all tokens of texts, each token weighing the same.
    Mean(Vec<Vec<u32>>),
    /// What it is in another text, token by token; that text must have at least as many tokens.
    Resample(Vec<u32>),
}

/// What an ablation has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Ablation {
    /// The metric of the model as it is.
    pub clean: f64,
    /// The metric without each part, in the order in which they were asked for.
    pub values: Vec<f64>,
}

impl Sweep<'_> {
    /// Replaces one part of a block at a time in all tokens, and takes the metric of each.
    ///
    /// # Errors
    /// [`Error::Input`] for a part that the model does not have, or a text that is too short; else as [`Sweep::run`].
    pub async fn ablate(&self, parts: &[(usize, Component)], by: &Replacement, task: &Task) -> Result<Ablation> {
        let edits = ablations(self.model(), self.ids().len(), parts, by).await?;
        Ok(Ablation { clean: self.clean(), values: self.run(&edits, task).await? })
    }

    /// [`Sweep::ablate`], blocking the calling thread.
    pub fn ablate_blocking(&self, parts: &[(usize, Component)], by: &Replacement, task: &Task) -> Result<Ablation> {
        pollster::block_on(self.ablate(parts, by, task))
    }
}

/// The edits that replace each part in a text of that many tokens: one set for each, for [`Sweep::run`], [`Probe::run`] or
/// sessions.
///
/// # Errors
/// As [`Sweep::ablate`].
///
/// [`Probe::run`]: super::Probe::run
pub async fn ablations(
    model: &Model,
    tokens: usize,
    parts: &[(usize, Component)],
    by: &Replacement,
) -> Result<Vec<Vec<Edit>>> {
    let spec = model.spec();
    let sources = Sources::new(model, tokens, parts, by).await?;
    let mut sets = Vec::with_capacity(parts.len());
    for &(block, part) in parts {
        let edits = part.kinds().iter().map(|&kind| {
            let point = Point::new(block, kind);
            let head = if let Component::Head(head) = part { Some(head) } else { None };
            let edit = match by {
                Replacement::Scale(lambda) => Edit::new(point, Action::Scale(*lambda)),
                Replacement::Mean(_) => Edit::new(point, Action::Set(sources.of(point, head, spec))),
                Replacement::Resample(_) => {
                    Edit::new(point, Action::Set(sources.of(point, head, spec))).of_tokens(0..tokens)
                }
            };
            let edit = Edit { head, ..edit };
            edit.check(spec).map(|()| edit)
        });
        sets.push(edits.collect::<Result<_>>()?);
    }
    Ok(sets)
}

/// What takes the place of whole rows at each point: one row, or one for each token.
struct Sources(BTreeMap<Point, Arc<[f32]>>);

impl Sources {
    async fn new(model: &Model, tokens: usize, parts: &[(usize, Component)], by: &Replacement) -> Result<Self> {
        let mut points: Vec<Point> = Vec::new();
        for (block, part) in parts {
            points.extend(part.kinds().iter().map(|&kind| Point::new(*block, kind)));
        }
        points.sort();
        points.dedup();
        let known = Point::of_model(model.spec());
        if let Some(point) = points.iter().find(|point| !known.contains(point)) {
            return Err(Error::Input(format!("{point} is no stream point of this model")));
        }
        Ok(Sources(match by {
            Replacement::Scale(_) => BTreeMap::new(),
            Replacement::Mean(texts) => means(model, texts, &points).await?,
            Replacement::Resample(ids) => {
                if ids.len() < tokens {
                    let other = ids.len();
                    return Err(Error::Input(format!("a text of {tokens} tokens cannot take those of one of {other}")));
                }
                let ids = match model.spec().is_decoder() {
                    true => &ids[..tokens],
                    false => ids,
                };
                let trace = capture(model, ids, &points).await?;
                let own = |point: Point, data: Vec<f32>| data[..tokens * point.width(model.spec())].into();
                trace.tensors.into_iter().map(|(point, tensor)| (point, own(point, tensor.data))).collect()
            }
        }))
    }

    /// The rows of a point, or of one of its heads; nothing where there is nothing, which is refused later.
    fn of(&self, point: Point, head: Option<usize>, spec: &Spec) -> Arc<[f32]> {
        let Some(rows) = self.0.get(&point) else { return Arc::default() };
        let Some(head) = head else { return Arc::clone(rows) };
        let (width, size) = (point.width(spec), point.width(spec) / point.heads(spec));
        rows.chunks_exact(width)
            .flat_map(|row| row.get(head * size..(head + 1) * size).unwrap_or(&[]))
            .copied()
            .collect()
    }
}

/// The mean row of each point over all tokens of some texts.
///
/// # Errors
/// [`Error::Input`] for no text, else as [`Model::trace`].
pub(crate) async fn means(model: &Model, texts: &[Vec<u32>], points: &[Point]) -> Result<BTreeMap<Point, Arc<[f32]>>> {
    let tokens: usize = texts.iter().map(Vec::len).sum();
    if tokens == 0 {
        return Err(Error::Input("a mean needs at least one text".into()));
    }
    let mut sums: BTreeMap<Point, Vec<f64>> = BTreeMap::new();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    gather(model, &texts, points, |_, trace| {
        for (point, tensor) in trace.tensors {
            let width = point.width(model.spec());
            let sum = sums.entry(point).or_insert_with(|| vec![0.0; width]);
            for row in tensor.data.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
    })
    .await?;
    let mean = |sum: Vec<f64>| sum.into_iter().map(|x| (x / tokens as f64) as f32).collect();
    Ok(sums.into_iter().map(|(point, sum)| (point, mean(sum))).collect())
}
