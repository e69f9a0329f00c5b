// Matrix product with a stored weight: out[m, n] = activation(Σ_k rows[m, k] · weight[n, k] + bias[n]).
// Every output is one chain of fma over ascending k, in every form, so that all forms agree bit for bit.

struct Params {
    rows: u32,        // M
    columns: u32,     // N of this chunk of the weight
    depth: u32,       // K
    depth4: u32,      // vec4s in a row of the weight, which is padded with zeros
    out_columns: u32, // of a row of the output
    out_first: u32,   // column of the output at which this chunk begins
}

const NONE = 0u;
const GELU_ERF = 1u;
const GELU_TANH = 2u;
const RELU = 3u;
const TANH = 4u;
const SIGMOID = 5u;
const SILU = 6u;
override ACTIVATION: u32 = 0u;
override HAS_BIAS: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the rows, by a rows part; binding 2: the weight, by a weight part
@group(0) @binding(3) var<storage, read> bias: array<f32>;
// binding 4: the output, by an out part

// The tile parts use nothing but row4 and weight4 to read and finish4 to write.
fn finish4(row: u32, column: u32, sums: vec4<f32>) {
    finish(row, column, sums.x);
    finish(row, column + 1u, sums.y);
    finish(row, column + 2u, sums.z);
    finish(row, column + 3u, sums.w);
}

fn finish(row: u32, column: u32, sum: f32) {
    if (row < params.rows && column < params.columns) {
        var value = sum;
        if (HAS_BIAS) {
            value += bias[column];
        }
        put(row * params.out_columns + params.out_first + column, activate(value));
    }
}

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

// Drivers' own tanh is wrong by 5e-5 on some devices and NaN for large inputs on others. Near 0, where 1 - 2/(e+1)
// would lose its digits, the series takes over.
fn tanh_of(x: f32) -> f32 {
    let e = exp(2.0 * clamp(abs(x), 0.0, 15.0));
    let far = 1.0 - 2.0 / (e + 1.0);
    let s = x * x;
    let near = abs(x) * fma(s, fma(s, fma(s, -0.053968254, 0.13333333), -0.33333333), 1.0);
    return sign(x) * select(far, near, abs(x) < 0.25);
}

@compute @workgroup_size(LANES)
fn matmul(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    tile(group.x + group.y * groups.x, lane);
}
