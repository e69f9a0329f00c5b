//! Metrics: the one number that a forward is judged by.

use super::{Kind, Point};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::schedule::Purpose;

/// What a forward is judged by. All are computed on the host in f64, of what the GPU brings back in f32: logits, vectors, or of
/// a loss each token's logit and the logarithm of the sum.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// The logit of the token `target` after the token at `position`, less that of `against` where there is one: the logit
    /// difference.
    Logit {
        /// The token.
        target: u32,
        /// What is subtracted.
        against: Option<u32>,
        /// The token whose continuation is judged.
        position: usize,
    },
    /// The probability of the token `target` after the token at `position`.
    Probability {
        /// The token.
        target: u32,
        /// The token whose continuation is judged.
        position: usize,
    },
    /// The mean of -ln p(token | those before it) over the text's tokens but the first, in nats a token: what transformers
    /// returns as `loss` with `labels=input_ids`.
    Loss,
    /// The cosine between an encoder's vector and this one. A shorter vector is held against that many of the first numbers.
    Cosine {
        /// The other vector.
        to: Vec<f32>,
    },
}

impl Metric {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Metric::Logit { against: None, .. } => "logit",
            Metric::Logit { .. } => "logit difference",
            Metric::Probability { .. } => "probability",
            Metric::Loss => "loss",
            Metric::Cosine { .. } => "cosine",
        }
    }

    /// Fails where it cannot be computed of a sequence of that many tokens.
    ///
    /// # Errors
    /// [`Error::Input`] saying why not.
    pub fn check(&self, model: &Model, tokens: usize) -> Result<()> {
        let wrong = |what: String| Err(Error::Input(what));
        let decoder = model.spec().is_decoder();
        if decoder == matches!(self, Metric::Cosine { .. }) {
            let kind = if decoder { "a language model" } else { "an encoder" };
            return wrong(format!("{kind} has no {} to be judged by", self.name()));
        }
        match self {
            Metric::Logit { position, .. } | Metric::Probability { position, .. } if *position >= tokens => {
                wrong(format!("position {position} of {tokens} tokens"))
            }
            Metric::Logit { target, against, .. } => {
                model.check_ids(&[*target])?;
                model.check_ids(against.as_slice())
            }
            Metric::Probability { target, .. } => model.check_ids(&[*target]),
            Metric::Loss if tokens < 2 => wrong("a loss needs at least 2 tokens, the first of which is given".into()),
            Metric::Cosine { to } if norm(to) <= 0.0 || !norm(to).is_finite() => {
                wrong("a cosine needs a vector of finite numbers that are not all 0".into())
            }
            Metric::Loss | Metric::Cosine { .. } => Ok(()),
        }
    }

    /// The forward that it is computed of.
    pub(crate) fn purpose(&self, model: &Model) -> Purpose {
        match (self, model.head()) {
            (Metric::Cosine { .. }, Some(head)) => Purpose::Embed(head.clone()),
            (Metric::Loss, _) => Purpose::Trace,
            _ => Purpose::Score,
        }
    }

    /// What that forward brings back besides its output: of a loss the stream after the last block, of which the logits of a
    /// few tokens at a time are made afterwards.
    pub(crate) fn taps(&self, model: &Model) -> Vec<Point> {
        match self {
            Metric::Loss => vec![Point::new(model.spec().num_hidden_layers - 1, Kind::ResidPost)],
            _ => Vec::new(),
        }
    }

    /// The token whose logits it reads.
    pub(crate) fn position(&self) -> Option<usize> {
        match self {
            Metric::Logit { position, .. } | Metric::Probability { position, .. } => Some(*position),
            Metric::Loss | Metric::Cosine { .. } => None,
        }
    }

    /// Its value, of a forward's output; a loss is not made of one.
    ///
    /// # Errors
    /// [`Error::Input`] for a cosine with a vector that is longer than the model's.
    pub(crate) fn of(&self, output: &[f32]) -> Result<f64> {
        let logit = |id: u32| output.get(id as usize).map_or(f64::NAN, |&x| f64::from(x));
        Ok(match self {
            Metric::Logit { target, against, .. } => logit(*target) - against.map_or(0.0, logit),
            Metric::Probability { target, .. } => (-surprise(output, *target)).exp(),
            Metric::Loss => f64::NAN,
            Metric::Cosine { to } => match output.get(..to.len()) {
                Some(own) => cosine(own, to),
                None => {
                    let (to, own) = (to.len(), output.len());
                    return Err(Error::Input(format!(
                        "a cosine with {to} numbers, and the model's vectors have {own}"
                    )));
                }
            },
        })
    }
}

/// -ln p of a token, in nats.
pub(crate) fn surprise(logits: &[f32], id: u32) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    let own = logits.get(id as usize).map_or(f64::NAN, |&x| f64::from(x - most));
    sum.ln() - own
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot: f64 = a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
    dot / (norm(a) * norm(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let logits = [1.0, 3.0, -2.0];
        let sum = 1f64.exp() + 3f64.exp() + (-2f64).exp();
        assert!((surprise(&logits, 2) - (sum.ln() + 2.0)).abs() < 1e-12);
        assert!((surprise(&[-1e4, 1e4], 1)).abs() < 1e-12 && (surprise(&[-1e4, 1e4], 0) - 2e4).abs() < 1e-8);
        let difference = Metric::Logit { target: 1, against: Some(2), position: 0 };
        assert_eq!((difference.of(&logits).unwrap(), difference.name()), (5.0, "logit difference"));
        let probability = Metric::Probability { target: 0, position: 0 }.of(&logits).unwrap();
        assert!((probability - 1f64.exp() / sum).abs() < 1e-12);
        let cosine = Metric::Cosine { to: vec![0.0, 2.0] };
        assert!((cosine.of(&logits).unwrap() - 3.0 / 10f64.sqrt()).abs() < 1e-12);
        assert!(Metric::Cosine { to: vec![1.0; 4] }.of(&logits).is_err());
    }
}
