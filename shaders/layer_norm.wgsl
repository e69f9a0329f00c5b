// Layer normalisation: (x - mean) / sqrt(variance + eps) * gamma + beta, over each row.
// One workgroup a row. The variance is of the centred values (two passes), which loses nothing to cancellation.

struct Params {
    rows: u32,
    columns: u32,
    eps: f32,
}

override LANES: u32 = 64u;
override HAS_BETA: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> beta: array<f32>;
// binding 3 and up: the rows, by a norm part

@compute @workgroup_size(LANES)
fn layer_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let first = row * params.columns;

    var sum = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        sum += take(first + i);
    }
    let mean = reduce_sum(lane, sum) / f32(params.columns);

    var squares = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let centred = take(first + i) - mean;
        squares = fma(centred, centred, squares);
    }
    let variance = reduce_sum(lane, squares) / f32(params.columns);
    let scale = 1.0 / sqrt(variance + params.eps);

    for (var i = lane; i < params.columns; i += LANES) {
        var shift = 0.0;
        if (HAS_BETA) {
            shift = beta[i];
        }
        put(first + i, fma((take(first + i) - mean) * scale, gamma[i], shift));
    }
}
