// Layer normalisation: (x - mean) / sqrt(variance + eps) * gamma + beta, over each row.
// The variance is of the centred values (two passes), which loses nothing to cancellation.

struct Params {
    rows: u32,
    columns: u32,
    eps: f32,
}

override HAS_BETA: bool = true;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gamma: array<Element>;
@group(0) @binding(2) var<storage, read> beta: array<Element>;
// binding 3 and up: the rows, by a norm part; an elements part says what is read at once, a sums part who sums a row

@compute @workgroup_size(LANES)
fn layer_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group.x + group.y * groups.x, lane);
    if (row >= params.rows) {
        return;
    }
    let count = params.columns / WIDTH;
    let first = row * count;

    var sum = Element();
    for (var i = begin(lane); i < count; i += stride()) {
        sum += take(first + i);
    }
    let mean = reduce_sum(lane, across(sum)) / f32(params.columns);

    var squares = Element();
    for (var i = begin(lane); i < count; i += stride()) {
        let centred = take(first + i) - mean;
        squares = fma(centred, centred, squares);
    }
    let variance = reduce_sum(lane, across(squares)) / f32(params.columns);
    let scale = 1.0 / sqrt(variance + params.eps);

    for (var i = begin(lane); i < count; i += stride()) {
        var shift = Element();
        if (HAS_BETA) {
            shift = beta[i];
        }
        put(first + i, fma((take(first + i) - mean) * scale, gamma[i], shift));
    }
}
