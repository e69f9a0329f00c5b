// Activations, chosen by number: the host's enum counts them in this order.

const NONE = 0u;
const GELU_ERF = 1u;
const GELU_TANH = 2u;
const RELU = 3u;
const TANH = 4u;
const SIGMOID = 5u;
const SILU = 6u;
override ACTIVATION: u32 = 0u;

fn activate(x: f32) -> f32 {
    if (ACTIVATION == GELU_ERF) {
        return x * normal_cdf(x);
    }
    if (ACTIVATION == GELU_TANH) {
        // (1 + tanh(u)) / 2 is sigmoid(2u), which loses no digits where tanh(u) is near -1
        return x * sigmoid(1.5957691 * fma(0.044715 * x * x, x, x));
    }
    if (ACTIVATION == RELU) {
        return max(x, 0.0);
    }
    if (ACTIVATION == TANH) {
        return tanh_of(x);
    }
    if (ACTIVATION == SIGMOID) {
        return sigmoid(x);
    }
    if (ACTIVATION == SILU) {
        return x * sigmoid(x);
    }
    return x;
}

fn sigmoid(x: f32) -> f32 {
    return 1.0 / (1.0 + exp(-max(x, -80.0)));
}

// (1 + erf(x/√2)) / 2. On the left, where erf is near -1, from a fit of erfc(t)·exp(t²), so that small results
// keep their digits.
fn normal_cdf(x: f32) -> f32 {
    let t = min(abs(x) * 0.70710678, 9.2);
    if (x > -0.7071) {
        return 0.5 * (1.0 + sign(x) * erf(t));
    }
    var p = fma(0.12051929, t, 0.53661752);
    p = fma(p, t, 1.0891774);
    p = fma(p, t, 0.99988443);
    var q = fma(0.21362555, t, 0.95079935);
    q = fma(q, t, 2.0416241);
    q = fma(q, t, 2.2165516);
    q = fma(q, t, 1.0);
    return 0.5 * exp(-t * t) * p / q;
}

// x·P(x²)/Q(x²), a fit on |x| < 3.95, beyond which erf is 1 in f32.
fn erf(value: f32) -> f32 {
    let x = clamp(value, -3.95, 3.95);
    let s = x * x;
    var p = fma(2.0259447e-6, s, 2.8468377e-4);
    p = fma(p, s, 3.8079752e-3);
    p = fma(p, s, 5.2874874e-2);
    p = fma(p, s, 0.19154592);
    p = fma(p, s, 1.1283791);
    var q = fma(3.7831975e-5, s, 1.1706810e-3);
    q = fma(q, s, 1.5054718e-2);
    q = fma(q, s, 0.11455782);
    q = fma(q, s, 0.50308585);
    q = fma(q, s, 1.0);
    return x * p / q;
}
