// RMS normalisation: x / sqrt(mean(x²) + eps) · gamma over each row; Gemma's gamma is stored less 1.
// One workgroup a row.

struct Params {
    rows: u32,
    columns: u32,
    eps: f32,
}

override LANES: u32 = 64u;
override ADD_ONE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> rows: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(LANES)
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let first = row * params.columns;

    var squares = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = rows[first + i];
        squares = fma(x, x, squares);
    }
    let mean = reduce_sum(lane, squares) / f32(params.columns);
    let scale = 1.0 / sqrt(mean + params.eps);

    for (var i = lane; i < params.columns; i += LANES) {
        let weight = select(gamma[i], gamma[i] + 1.0, ADD_ONE);
        output[first + i] = rows[first + i] * scale * weight;
    }
}
