//! What a row of logits says, in f64.

/// Of one row beside another.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitStats {
    /// The largest logit.
    pub largest: f64,
    /// log Σ exp(x - largest).
    pub log_sum: f64,
    /// -Σ p log p, in nats.
    pub entropy: f64,
    /// Σ q (log q - log p) of the other row's distribution q, in nats.
    pub kl: f64,
    /// The token that was asked for, or the other row's likeliest.
    pub token: usize,
    /// Tokens that are more likely; of equal ones, those of a lower id.
    pub rank: usize,
    /// The likeliest tokens, of equal ones that of the lowest id first.
    pub top: Vec<usize>,
}

/// Statistics of a row `x` beside a row `y` over the same vocabulary.
pub fn logit_stats(x: &[f64], y: &[f64], token: Option<usize>, top: usize) -> LogitStats {
    let log_p = log_softmax(x);
    let log_q = log_softmax(y);
    let order = descending(x);
    let token = token.unwrap_or(likeliest(y));
    let before = |&id: &usize| x[id] > x[token] || (x[id] == x[token] && id < token);
    LogitStats {
        largest: x[order[0]],
        log_sum: -log_p[order[0]],
        entropy: -log_p.iter().map(|l| l.exp() * l).sum::<f64>(),
        kl: log_q.iter().zip(&log_p).map(|(&q, &p)| divergence(q, p)).sum(),
        token,
        rank: (0..x.len()).filter(before).count(),
        top: order.into_iter().take(top).collect(),
    }
}

/// A term q (log q - log p) by its logarithms, with p - q, which sums to 0 over all: for near rows the terms alone are much
/// larger than their sum.
fn divergence(q: f64, p: f64) -> f64 {
    let apart = if (p - q).abs() < 1.0 { q.exp() * (p - q).exp_m1() } else { p.exp() - q.exp() };
    apart + q.exp() * (q - p)
}

fn log_softmax(x: &[f64]) -> Vec<f64> {
    let best = likeliest(x);
    let others = x.iter().enumerate().filter(|(id, _)| *id != best);
    let log_sum = others.map(|(_, other)| (other - x[best]).exp()).sum::<f64>().ln_1p();
    x.iter().map(|other| other - x[best] - log_sum).collect()
}

fn likeliest(x: &[f64]) -> usize {
    (1..x.len()).fold(0, |best, id| if x[id] > x[best] { id } else { best })
}

/// Ids from the largest down; the sort is stable, so that of equal ones the lowest id is first.
fn descending(x: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..x.len()).collect();
    ids.sort_by(|&a, &b| x[b].partial_cmp(&x[a]).unwrap_or(std::cmp::Ordering::Equal));
    ids
}
