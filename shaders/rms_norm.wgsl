// RMS normalisation: x / sqrt(mean(x²) + eps) · gamma over each row, or over each head of a row; Gemma's gamma is
// stored less 1. One workgroup a row or head.

struct Params {
    rows: u32,    // heads of all rows
    columns: u32, // of a head
    heads: u32,   // in a row
    stride: u32,  // elements in a row
    first: u32,   // column at which the first head begins
    eps: f32,
}

override LANES: u32 = 64u;
override ADD_ONE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
// binding 2 and up: the rows, by an rms part

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
    let first = row / params.heads * params.stride + params.first + row % params.heads * params.columns;

    var squares = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = take(first + i);
        squares = fma(x, x, squares);
    }
    let mean = reduce_sum(lane, squares) / f32(params.columns);
    let scale = 1.0 / sqrt(mean + params.eps);

    for (var i = lane; i < params.columns; i += LANES) {
        let weight = select(gamma[i], gamma[i] + 1.0, ADD_ONE);
        put(first + i, take(first + i) * scale * weight);
    }
}
