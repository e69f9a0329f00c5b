//! -log p of a token, in f64.

/// -log softmax(x)[token], in nats.
pub fn surprise(x: &[f64], token: usize) -> f64 {
    let likeliest = (1..x.len()).fold(0, |best, id| if x[id] > x[best] { id } else { best });
    let others = x.iter().enumerate().filter(|(id, _)| *id != likeliest);
    let log_sum = others.map(|(_, other)| (other - x[likeliest]).exp()).sum::<f64>().ln_1p();
    x[likeliest] - x[token] + log_sum
}
