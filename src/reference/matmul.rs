//! Matrix product with bias and activation in f64.

use crate::kernels::matmul::Activation;

/// out[m, n] = activation(Σ_k rows[m, k] · weight[n, k] + bias[n]) for a weight of `columns` rows; `bias` may be empty.
pub fn matmul(
    rows: &[f64],
    weight: &[f64],
    bias: &[f64],
    columns: usize,
    depth: usize,
    activation: Activation,
) -> Vec<f64> {
    let mut out = Vec::new();
    for row in rows.chunks_exact(depth) {
        for n in 0..columns {
            let mut sum = 0.0;
            for k in 0..depth {
                sum += row[k] * weight[n * depth + k];
            }
            out.push(activate(sum + bias.get(n).copied().unwrap_or(0.0), activation));
        }
    }
    out
}

/// One activation (GELU: Hendrycks and Gimpel 2016).
pub fn activate(x: f64, activation: Activation) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::None => x,
        Activation::GeluErf => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Activation::Relu => x.max(0.0),
        Activation::Tanh => x.tanh(),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
    }
}

/// The error function: its Taylor series below 3, a continued fraction of its complement above (Abramowitz and Stegun
/// 7.1.6 and 7.1.14); both reach f64's precision there.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a > 6.0 {
        return x.signum();
    }
    if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..200 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        return x.signum() * 2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum;
    }
    let fraction = (1..200).rev().fold(0.0, |rest, n| f64::from(n) / 2.0 / (a + rest));
    x.signum() * (1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction))
}

#[cfg(test)]
mod tests {
    /// Against values of Python's math.erf.
    #[test]
    fn erf() {
        for (x, y) in [
            (0.5, 0.5204998778130465),
            (1.0, 0.8427007929497149),
            (-2.0, -0.9953222650189527),
            (2.9999, 0.9999778955735178),
            (3.0001, 0.9999779234241298),
            (4.0, 0.9999999845827421),
        ] {
            assert!((super::erf(x) - y).abs() < 1e-14, "erf({x}) = {} and not {y}", super::erf(x));
        }
    }
}
