//! A report's numbers as JSON, to six digits.

use serde_json::{Map, Value, json};

use super::image::base64;
use super::{BlockStates, Report, State};
use crate::stream::{BlockMeasures, Contribution, LensView, Reading};

impl Report {
    /// All numbers: `schema`, `model`, `ids`, `tokens`, `blocks` (of each its measures, and norm, mean, min, max, cosine and
    /// strip of each state by token), `cka`, `rollout`, `lens` and `attribution`, under the names that the other
    /// `stream` commands print, and `patterns`, whose weights are base64 of bytes, each a 255th: of each block `[heads, tokens, tokens]`.
    pub fn json(&self) -> Value {
        let mut value = self.page_json();
        let blocks: Vec<_> = (0..self.blocks.len()).map(|block| self.patterns.text(block)).collect();
        value["patterns"] = json!({"tokens": self.patterns.tokens, "scale": 255, "blocks": blocks});
        value
    }

    /// What the page's script reads: the same without patterns, which it has as pictures.
    pub(super) fn page_json(&self) -> Value {
        let facts = &self.facts;
        let measures = self.measures.blocks.iter();
        let blocks = self.blocks.iter().zip(measures).enumerate();
        let blocks: Vec<_> = blocks.map(|(i, (states, measures))| block(i, states, measures)).collect();
        let parts: Vec<_> =
            self.attribution.parts.iter().map(|(name, value)| json!({"name": name, "value": digits(*value)})).collect();
        let found = &self.attribution;
        json!({
            "schema": 1,
            "thalweg": env!("CARGO_PKG_VERSION"),
            "model": {
                "name": self.model, "family": facts.family, "placement": facts.placement, "blocks": facts.blocks,
                "heads": facts.heads, "d_model": facts.d_model, "vocabulary": facts.vocabulary,
            },
            "ids": self.ids,
            "tokens": self.tokens,
            "blocks": blocks,
            "cka": table(&self.measures.cka),
            "rollout": table(&self.measures.rollout),
            "lens": lens(&self.lens),
            "attribution": {
                "position": found.position, "target": found.target, "token": self.target, "against": found.against,
                "logit": digits(found.logit), "parts": parts, "sum": digits(found.sum()),
            },
        })
    }
}

fn block(i: usize, states: &BlockStates, measures: &BlockMeasures) -> Value {
    let massive: Vec<_> = measures
        .massive
        .iter()
        .map(|a| json!({"position": a.position, "dimension": a.dimension, "value": digits(a.value)}))
        .collect();
    let all: Map<String, Value> = states.states.iter().map(|s| (s.name.to_string(), state(s))).collect();
    json!({
        "block": i,
        "states": all,
        "mid": list(&states.mid),
        "attention": contribution(&measures.attention, &states.attention),
        "mlp": contribution(&measures.mlp, &states.mlp),
        "influence": digits(measures.influence),
        "rank_residual": digits(measures.rank_residual),
        "median": digits(measures.median),
        "largest": digits(measures.largest),
        "sinks": list(&measures.sinks),
        "massive": massive,
    })
}

fn contribution(mean: &Contribution, cosines: &[f64]) -> Value {
    json!({
        "norm": digits(mean.norm), "ratio": digits(mean.ratio), "cosine": digits(mean.cosine), "cosines": list(cosines),
    })
}

fn state(state: &State) -> Value {
    let strip: Vec<u8> = state.strip.iter().map(|value| value.cast_unsigned()).collect();
    json!({
        "point": state.point.to_string(), "norm": list(&state.norm), "mean": list(&state.mean), "min": list(&state.least),
        "max": list(&state.most), "cosine": list(&state.cosine), "strip": base64(&strip),
    })
}

fn lens(lens: &LensView) -> Value {
    let reading = |reading: &Reading| match reading {
        Reading::Distribution(said) => {
            let top = said
                .top
                .iter()
                .map(|guess| json!({"id": guess.id, "token": guess.token.as_deref(), "p": digits(guess.p.into())}));
            let top: Vec<_> = top.collect();
            let (entropy, kl) = (digits(said.entropy.into()), digits(said.kl.into()));
            json!({"top": top, "entropy": entropy, "kl": kl, "rank": said.rank})
        }
        Reading::Cosine(cosine) => json!({"cosine": digits((*cosine).into())}),
    };
    let rows = lens.rows.iter().map(|row| {
        let positions: Vec<_> = row.positions.iter().map(reading).collect();
        json!({"point": row.point.to_string(), "positions": positions})
    });
    json!({"rows": rows.collect::<Vec<_>>()})
}

fn list(values: &[f64]) -> Value {
    values.iter().map(|&value| digits(value)).collect()
}

fn table(rows: &[Vec<f64>]) -> Value {
    rows.iter().map(|row| list(row)).collect()
}

/// Six digits.
fn digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
