//! What a run is judged by, as the options of sweeps say it.

use anyhow::Result;
use clap::Args;
use thalweg::schedule::{Purpose, Watch};
use thalweg::stream::{Look, Metric, Probe};
use thalweg::{Error, Model};

use super::{ids_of, token};

/// What runs are judged by.
#[derive(Args)]
pub struct Judge {
    /// Token whose logit counts, by its id or its text (" river")
    #[arg(long, value_name = "ID|TOKEN", allow_hyphen_values = true)]
    target: Option<String>,
    /// Token whose logit is taken off
    #[arg(long, value_name = "ID|TOKEN", allow_hyphen_values = true, requires = "target")]
    against: Option<String>,
    /// The target's probability instead of its logit
    #[arg(long, requires = "target", conflicts_with = "against")]
    probability: bool,
    /// The loss instead, in nats a token; of two prompts, of both at the tokens of the clean one
    #[arg(long, conflicts_with_all = ["target", "to"])]
    loss: bool,
    /// Position of the token whose next is meant, from 0; the last where it is left out
    #[arg(long, value_name = "N", requires = "target")]
    position: Option<usize>,
    /// Encoders: text with whose vector the cosine is taken
    #[arg(long, value_name = "TEXT", conflicts_with = "target")]
    to: Option<String>,
}

impl Judge {
    /// The metric of a text; where nothing is said, a language model's loss, or the cosine with the text's own vector.
    pub fn of(&self, model: &Model, ids: &[u32]) -> Result<Metric> {
        match self.named(model, ids)? {
            Some(metric) => Ok(metric),
            None if model.spec().is_decoder() => Ok(Metric::Loss),
            None => Ok(Metric::Cosine { to: output(model, ids)? }),
        }
    }

    /// The metric of a clean and a corrupted text; where nothing is said, what each takes for most likely in the end, the
    /// one less the other, or the cosine with the clean text's own vector.
    pub fn between(&self, model: &Model, clean: &[u32], corrupted: &[u32]) -> Result<Metric> {
        if let Some(metric) = self.named(model, clean)? {
            return Ok(metric);
        }
        if !model.spec().is_decoder() {
            return Ok(Metric::Cosine { to: output(model, clean)? });
        }
        let best =
            |logits: &[f32]| (0..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best });
        let (target, against) = (best(&output(model, clean)?) as u32, best(&output(model, corrupted)?) as u32);
        if target == against {
            let token = name(model, target);
            let what =
                format!("both prompts are most likely to go on with {token}: say what to judge by with --target");
            return Err(Error::Input(what).into());
        }
        Ok(Metric::Logit { target, against: Some(against), position: clean.len() - 1 })
    }

    fn named(&self, model: &Model, ids: &[u32]) -> Result<Option<Metric>> {
        if let Some(text) = &self.to {
            return Ok(Some(Metric::Cosine { to: output(model, &ids_of(model, text)?)? }));
        }
        if self.loss {
            return Ok(Some(Metric::Loss));
        }
        let Some(target) = &self.target else { return Ok(None) };
        let target = token(model, target)?;
        let position = self.position.unwrap_or(ids.len().saturating_sub(1));
        Ok(Some(match self.probability {
            true => Metric::Probability { target, position },
            false => {
                let against = self.against.as_ref().map(|text| token(model, text)).transpose()?;
                Metric::Logit { target, against, position }
            }
        }))
    }
}

/// What the metric is of, in words.
pub fn title(model: &Model, metric: &Metric) -> String {
    match metric {
        Metric::Logit { target, against: None, position } => {
            format!("logit of {} after position {position}", name(model, *target))
        }
        Metric::Logit { target, against: Some(against), position } => {
            format!(
                "logit of {} less that of {} after position {position}",
                name(model, *target),
                name(model, *against)
            )
        }
        Metric::Probability { target, position } => {
            format!("probability of {} after position {position}", name(model, *target))
        }
        Metric::Loss => "loss in nats a token".into(),
        Metric::Cosine { .. } => "cosine of the vectors".into(),
    }
}

/// A token as a person reads it.
pub fn name(model: &Model, id: u32) -> String {
    match model.tokenizer().and_then(|tokenizer| tokenizer.decode(&[id], false)) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("token {id}"),
    }
}

/// The logits after a text, or its vector.
fn output(model: &Model, ids: &[u32]) -> Result<Vec<f32>> {
    let purpose = model.head().map_or(Purpose::Score, |head| Purpose::Embed(head.clone()));
    let probe = pollster::block_on(Probe::new(model, &purpose, Watch::default()))?;
    Ok(probe.run_blocking(&[Look::new(ids)])?.remove(0).output)
}
