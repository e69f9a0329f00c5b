//! The logit lens as a report shows it (nostalgebraist 2020): the stream of every block read by the model's own final norm and
//! head, as if it were the last.

use crate::error::Result;
use crate::model::Model;
use crate::schedule::{Purpose, Watch};
use crate::stream::{Kind, Look, Point, Probe, Trace};

/// How many of a cell's likeliest tokens are kept.
const TOP: usize = 5;

/// Readings of every token at every block.
#[derive(Clone, Debug, PartialEq)]
pub struct Lens {
    /// Before each block, then behind the last.
    pub rows: Vec<LensRow>,
}

/// Of the stream at one point.
#[derive(Clone, Debug, PartialEq)]
pub struct LensRow {
    /// The stream point.
    pub point: Point,
    /// One for each token.
    pub positions: Vec<Reading>,
}

/// What a stream says comes next.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The likeliest tokens: id, name, probability.
    pub top: Vec<(u32, String, f64)>,
    /// -Σ p log p, in nats.
    pub entropy: f64,
    /// Σ q log(q/p) of the model's own distribution q, in nats.
    pub kl: f64,
}

impl Lens {
    /// Of a trace with the streams before blocks and behind the last; none without a head.
    pub(super) async fn of(model: &Model, trace: &Trace, name: &dyn Fn(u32) -> String) -> Result<Option<Lens>> {
        let (spec, ids) = (model.spec(), &trace.ids[..]);
        if spec.head.is_none() {
            return Ok(None);
        }
        let logits = Point::new(0, Kind::Logits);
        let watch = Watch { taps: vec![logits], from: Some(spec.num_hidden_layers), ..Watch::default() };
        let probe = Probe::new(model, &Purpose::Trace, watch).await?;
        let points = (0..spec.num_hidden_layers).map(|block| Point::new(block, Kind::ResidPre));
        let mut own: Vec<Vec<f64>> = Vec::new();
        let mut rows = Vec::new();
        // the last comes first, since the others are compared with it
        for point in points.chain([spec.last_point()]).rev() {
            let stream = trace.tensors.get(&point).map(|tensor| &tensor.data[..]);
            let seen = probe.run(&[Look { stream, ..Look::new(ids) }]).await?.remove(0);
            let all = seen.trace.tensors.get(&logits).map_or(&[][..], |tensor| &tensor.data);
            let rows_of = || all.chunks_exact(spec.vocab_size).map(log_softmax);
            if own.is_empty() {
                own = rows_of().collect();
            }
            let positions = rows_of().zip(&own).map(|(p, q)| Reading::of(&p, q, name)).collect();
            rows.push(LensRow { point, positions });
        }
        rows.reverse();
        Ok(Some(Lens { rows }))
    }
}

impl Reading {
    fn of(log_p: &[f64], log_q: &[f64], name: &dyn Fn(u32) -> String) -> Self {
        let mut best: Vec<usize> = Vec::new();
        for (id, value) in log_p.iter().enumerate() {
            if best.len() < TOP || log_p[best[TOP - 1]] < *value {
                let place = best.partition_point(|&other| log_p[other] >= *value);
                best.insert(place, id);
                best.truncate(TOP);
            }
        }
        let weighted = |log: f64, of: f64| if log.exp() == 0.0 { 0.0 } else { log.exp() * of };
        Reading {
            top: best.into_iter().map(|id| (id as u32, name(id as u32), log_p[id].exp())).collect(),
            entropy: -log_p.iter().map(|&p| weighted(p, p)).sum::<f64>(),
            kl: log_q.iter().zip(log_p).map(|(&q, &p)| weighted(q, q - p)).sum(),
        }
    }
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&x| f64::from(x - largest).exp()).sum();
    row.iter().map(|&x| f64::from(x - largest) - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading() {
        let logits = [0.0, 4f32.ln(), 4f32.ln(), 0.0, 0.0, 0.0, 4f32.ln()];
        let own = log_softmax(&logits);
        let reading = Reading::of(&own, &own, &|id| id.to_string());
        assert_eq!(reading.top.iter().map(|top| top.0).collect::<Vec<_>>(), [1, 2, 6, 0, 3]);
        assert!((reading.top[0].2 - 0.25).abs() < 1e-7 && reading.kl == 0.0);
        let entropy = -(3.0 * 0.25 * 0.25f64.ln() + 4.0 * 0.0625 * 0.0625f64.ln());
        assert!((reading.entropy - entropy).abs() < 1e-6);
        let even = vec![(1.0 / 7.0f64).ln(); 7];
        let apart = Reading::of(&even, &own, &|id| id.to_string()).kl;
        assert!((apart - (7f64.ln() - entropy)).abs() < 1e-6, "{apart}");
    }
}
