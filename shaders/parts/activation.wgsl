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
        return 0.5 * x * (1.0 + erf(x * 0.70710678));
    }
    if (ACTIVATION == GELU_TANH) {
        return 0.5 * x * (1.0 + tanh_of(0.79788456 * fma(0.044715 * x * x, x, x)));
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

// x·P(x²)/Q(x²), a fit of relative error 2e-8 on |x| < 3.95, beyond which erf is 1 in f32.
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
