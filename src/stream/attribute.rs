//! Direct logit attribution: how much each part of the stream gives to a logit, or to the difference of two.

use std::ops::Range;

use super::parts::widen;
use super::{Look, Parts, Point, Probe, Tap};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::schedule::{Purpose, Watch};

/// A logit taken apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribution {
    /// The position whose next token is meant.
    pub position: usize,
    /// The token whose logit it is; encoders have none.
    pub target: Option<u32>,
    /// The token whose logit is taken off, where one is.
    pub against: Option<u32>,
    /// The model's own logit, or difference of logits; of encoders the length of the token's last stream.
    pub logit: f64,
    /// What each part gives, in the order in which they were added.
    pub parts: Vec<(String, f64)>,
}

impl Attribution {
    /// What the parts give together: the logit, up to rounding.
    pub fn sum(&self) -> f64 {
        self.parts.iter().map(|(_, value)| value).sum()
    }
}

/// What is taken apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// The position; the last where none is named, of encoders the first.
    pub position: Option<usize>,
    /// The token; the most likely where none is named.
    pub target: Option<u32>,
    /// Another token, whose logit is taken off.
    pub against: Option<u32>,
}

impl Model {
    /// Takes the logit of a token after a position apart: each part c of the stream, carried through the final norm with
    /// the stream's own statistics, gives c · W_U[target], or c · (W_U[target] - W_U[against]). β of the final norm is
    /// `ln_final_bias`; what a final soft cap takes away is `logit_soft_cap`.
    ///
    /// An encoder has no logits here: its parts are taken along the direction of the token's own last stream x, as
    /// c · x/‖x‖, and sum to ‖x‖.
    ///
    /// # Errors
    /// [`Error::Input`] for a position or a token that is not there; else as [`Model::trace`].
    pub async fn attribute(&self, ids: &[u32], question: Question) -> Result<Attribution> {
        self.check_length(ids)?;
        self.check_ids(&question.target.into_iter().chain(question.against).collect::<Vec<_>>())?;
        let last = if self.spec.is_decoder() { ids.len() - 1 } else { 0 };
        let position = question.position.unwrap_or(last);
        if position >= ids.len() {
            return Err(Error::Input(format!("position {position} of {} tokens", ids.len())));
        }
        let (parts, logits) = self.parts(ids, position..position + 1).await?;
        if !self.spec.is_decoder() {
            if question.target.is_some() || question.against.is_some() {
                return Err(Error::Input(
                    "an encoder's parts are taken along its own stream, not a token's logit".into(),
                ));
            }
            return Ok(along_itself(&parts, position));
        }
        let most = || (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]).then(b.cmp(&a))).unwrap_or(0);
        let target = question.target.unwrap_or_else(|| most() as u32);
        let tokens: Vec<u32> = [target].into_iter().chain(question.against).collect();
        let directions = widen(&self.head_rows(&tokens).await?);
        let given: Vec<_> = directions.chunks_exact(self.spec.hidden_size).map(|row| along(&parts, row)).collect();
        let less = |values: &[f64]| values[0] - values.get(1).unwrap_or(&0.0);
        let logit = less(&tokens.iter().map(|&token| f64::from(logits[token as usize])).collect::<Vec<_>>());
        let each = |i: usize| less(&given.iter().map(|values| values[i]).collect::<Vec<_>>());
        let mut parts: Vec<_> = parts.list.iter().enumerate().map(|(i, part)| (part.name.clone(), each(i))).collect();
        if let Some(cap) = self.spec.head.and_then(|head| head.cap.map(f64::from)) {
            let bent = |values: &Vec<f64>| {
                let whole: f64 = values.iter().sum();
                cap * (whole / cap).tanh() - whole
            };
            parts.push(("logit_soft_cap".into(), less(&given.iter().map(bent).collect::<Vec<_>>())));
        }
        Ok(Attribution { position, target: Some(target), against: question.against, logit, parts })
    }

    /// [`Model::attribute`], blocking the calling thread.
    pub fn attribute_blocking(&self, ids: &[u32], question: Question) -> Result<Attribution> {
        pollster::block_on(self.attribute(ids, question))
    }

    /// The parts of the last stream of some tokens, behind the final norm where there is one; and the logits after the
    /// last of those tokens, where there is a head.
    ///
    /// # Errors
    /// [`Error::Input`] for tokens that are not there; else as [`Model::trace`].
    pub async fn parts(&self, ids: &[u32], tokens: Range<usize>) -> Result<(Parts, Vec<f32>)> {
        if tokens.is_empty() || tokens.end > ids.len() {
            return Err(Error::Input(format!("tokens {tokens:?} of {}", ids.len())));
        }
        let position = tokens.end - 1;
        let tap = |point: &Point| Tap::from(point).of_tokens(tokens.clone());
        let watch = Watch { taps: Parts::points(&self.spec).iter().map(tap).collect(), ..Watch::default() };
        let purpose = if self.spec.head.is_some() { Purpose::Score } else { Purpose::Trace };
        let probe = Probe::new(self, &purpose, watch).await?;
        let mut seen = probe.run(&[Look { position, ..Look::new(ids) }]).await?.remove(0);
        let vectors = self.read_vectors(&Parts::vectors(&self.tensors)).await?;
        let parts = Parts::of(&self.spec, &self.tensors, &vectors, &seen.trace, |_, _| Ok(()))?;
        Ok((parts, std::mem::take(&mut seen.output)))
    }
}

/// What each part of one token gives along a direction.
fn along(parts: &Parts, direction: &[f64]) -> Vec<f64> {
    parts.list.iter().map(|part| part.values.iter().zip(direction).map(|(x, d)| x * d).sum()).collect()
}

fn along_itself(parts: &Parts, position: usize) -> Attribution {
    let x = parts.sum();
    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    let direction: Vec<f64> = x.iter().map(|x| x / length.max(f64::MIN_POSITIVE)).collect();
    let names = parts.list.iter().map(|part| part.name.clone());
    let parts = names.zip(along(parts, &direction)).collect();
    Attribution { position, target: None, against: None, logit: length, parts }
}
