//! The parts of a stream: everything that was ever added to it, each carried exactly through every norm behind it, so that
//! the parts sum to the stream at every block.
//!
//! A norm is linear in its input once its statistics are fixed: with μ and σ of the whole row x, LN(x) = γ⊙(x - μ)/σ + β is
//! the sum over parts c of γ⊙(c - mean c)/σ, and β, a part of its own; an RMS norm is the same without the means. Where
//! only the final norm does this it is the direct logit attribution of Elhage et al., "A Mathematical Framework for
//! Transformer Circuits" (2021); post-norm blocks do it twice each.

use std::collections::HashMap;

use super::{Kind, Point, Trace};
use crate::error::{Error, Result};
use crate::model::{Norm, NormKind, Placement, Spec, Tensors};
use crate::schedule::Slot;

/// What one source has added to the stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// `embed`, `pos_embed`, `type_embed`, `L0H3` (a head through its columns of W_O), `0_attn_bias`, `0_mlp_out`; β of norms
    /// in the stream's way: `embed_ln_bias`, `0_ln1_bias`, `0_ln2_bias`, `ln_final_bias`.
    pub name: String,
    /// `[tokens, d_model]`.
    pub values: Vec<f64>,
}

/// The parts of some tokens' stream, at one point of the forward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parts {
    /// d_model.
    pub columns: usize,
    /// In the order in which they were added.
    pub list: Vec<Part>,
}

/// Vectors of a model's weights, by where they lie.
pub(crate) type Vectors = HashMap<Slot, Vec<f32>>;

impl Parts {
    /// The points that a forward is watched at to take it apart.
    pub fn points(spec: &Spec) -> Vec<Point> {
        let needed =
            |kind| matches!(kind, Kind::TokEmbed | Kind::PosEmbed | Kind::TypeEmbed | Kind::Result | Kind::MlpOut);
        Point::of_model(spec).into_iter().filter(|point| needed(point.kind)).collect()
    }

    /// The vectors that it takes.
    pub(crate) fn vectors(tensors: &Tensors) -> Vec<Slot> {
        let blocks = tensors.blocks.iter();
        let norms = blocks.clone().flat_map(|b| [b.attention_norm, b.attention_post_norm, b.mlp_norm]);
        let norms = norms.chain([tensors.embedding_norm, tensors.final_norm]).flatten();
        let mut slots: Vec<_> = norms.flat_map(|norm| [Some(norm.gamma), norm.beta]).flatten().collect();
        slots.extend(blocks.flat_map(|block| &block.o.bias));
        slots
    }

    /// Takes a forward apart that was watched at [`Parts::points`]; `at` is shown the parts of every block's output
    /// (`hook_resid_post`, and `hook_normalized_resid_post` where the block ends with a norm).
    ///
    /// # Errors
    /// [`Error::Input`] where the trace has not all of the points.
    pub(crate) fn of(
        spec: &Spec,
        tensors: &Tensors,
        vectors: &Vectors,
        trace: &Trace,
        mut at: impl FnMut(Point, &Parts) -> Result<()>,
    ) -> Result<Parts> {
        let taking = Taking { spec, vectors, trace };
        let mut parts = Parts { columns: spec.hidden_size, list: Vec::new() };
        for (kind, name) in [(Kind::TokEmbed, "embed"), (Kind::PosEmbed, "pos_embed"), (Kind::TypeEmbed, "type_embed")]
        {
            let point = Point::new(0, kind);
            if kind == Kind::TokEmbed || trace.tensors.contains_key(&point) {
                parts.add(name.into(), widen(taking.seen(point)?));
            }
        }
        if let Some(norm) = tensors.embedding_norm {
            taking.normalise(&mut parts, norm, "embed_ln_bias".into())?;
        }
        for (l, block) in tensors.blocks.iter().enumerate() {
            let mut term = taking.attention(l, &block.o.bias)?;
            if let Some(norm) = block.attention_post_norm {
                taking.normalise(&mut term, norm, format!("{l}_attn_post_bias"))?;
            }
            parts.list.append(&mut term.list);
            let ends = |norm: Option<Norm>| norm.filter(|_| spec.placement == Placement::Post);
            if let Some(norm) = ends(block.attention_norm) {
                taking.normalise(&mut parts, norm, format!("{l}_ln1_bias"))?;
            }
            parts.add(format!("{l}_mlp_out"), widen(taking.seen(Point::new(l, Kind::MlpOut))?));
            at(Point::new(l, Kind::ResidPost), &parts)?;
            if let Some(norm) = ends(block.mlp_norm) {
                taking.normalise(&mut parts, norm, format!("{l}_ln2_bias"))?;
                at(Point::new(l, Kind::NormalizedResidPost), &parts)?;
            }
        }
        if let Some(norm) = tensors.final_norm {
            taking.normalise(&mut parts, norm, "ln_final_bias".into())?;
        }
        Ok(parts)
    }

    /// Their sum, `[tokens, d_model]`.
    pub fn sum(&self) -> Vec<f64> {
        let mut sum = vec![0.0; self.list.first().map_or(0, |part| part.values.len())];
        for part in &self.list {
            sum.iter_mut().zip(&part.values).for_each(|(sum, value)| *sum += value);
        }
        sum
    }

    fn add(&mut self, name: String, values: Vec<f64>) {
        self.list.push(Part { name, values });
    }
}

pub(super) fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// What a forward is taken apart with.
struct Taking<'a> {
    spec: &'a Spec,
    vectors: &'a Vectors,
    trace: &'a Trace,
}

impl Taking<'_> {
    fn seen(&self, point: Point) -> Result<&[f32]> {
        let tensor = self.trace.tensors.get(&point);
        tensor.map(|tensor| &tensor.data[..]).ok_or_else(|| Error::Input(format!("the trace has no {point}")))
    }

    fn vector(&self, slot: Slot) -> Result<&[f32]> {
        let missing = || Error::Internal { during: "parts".into(), message: format!("{slot:?} was not read") };
        self.vectors.get(&slot).map(|vector| &vector[..]).ok_or_else(missing)
    }

    /// Each head's term, and the bias.
    fn attention(&self, l: usize, bias: &[Slot]) -> Result<Parts> {
        let (d, heads) = (self.spec.hidden_size, self.spec.num_attention_heads);
        let result = self.seen(Point::new(l, Kind::Result))?;
        let mut parts = Parts { columns: d, list: Vec::new() };
        for head in 0..heads {
            let rows = result.chunks_exact(heads * d).flat_map(|token| &token[head * d..(head + 1) * d]);
            parts.add(format!("L{l}H{head}"), rows.copied().map(f64::from).collect());
        }
        if !bias.is_empty() {
            let bias = bias.iter().map(|&slot| self.vector(slot)).collect::<Result<Vec<_>>>()?.concat();
            let tokens = result.len() / (heads * d);
            parts.add(format!("{l}_attn_bias"), widen(&bias[..d]).repeat(tokens));
        }
        Ok(parts)
    }

    /// Carries parts through a norm, whose statistics are those of their sum.
    fn normalise(&self, parts: &mut Parts, norm: Norm, bias: String) -> Result<()> {
        let Spec { hidden_size: d, norm: kind, norm_eps, .. } = *self.spec;
        let (centred, add_one) = match kind {
            NormKind::Layer | NormKind::LayerNoBias => (true, 0.0),
            NormKind::Rms => (false, 0.0),
            NormKind::RmsPlusOne => (false, 1.0),
        };
        let gamma: Vec<f64> = self.vector(norm.gamma)?[..d].iter().map(|&g| f64::from(g) + add_one).collect();
        let mean = |row: &[f64]| if centred { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
        let deviations: Vec<f64> = parts
            .sum()
            .chunks_exact(d)
            .map(|row| {
                let mean = mean(row);
                let squares: f64 = row.iter().map(|x| (x - mean).powi(2)).sum();
                (squares / d as f64 + f64::from(norm_eps)).sqrt()
            })
            .collect();
        for part in &mut parts.list {
            for (row, deviation) in part.values.chunks_exact_mut(d).zip(&deviations) {
                let mean = mean(row);
                row.iter_mut().zip(&gamma).for_each(|(x, gamma)| *x = gamma * (*x - mean) / deviation);
            }
        }
        if let Some(beta) = norm.beta {
            let beta = widen(&self.vector(beta)?[..d]);
            parts.add(bias, beta.repeat(deviations.len()));
        }
        Ok(())
    }
}
