// RMS normalisation: x / sqrt(mean(x²) + eps) · gamma over each row, or over each head of a row; Gemma's gamma is
// stored less 1.

struct Params {
    rows: u32,    // heads of all rows
    columns: u32, // of a head
    heads: u32,   // in a row
    stride: u32,  // elements in a row
    first: u32,   // column at which the first head begins
    eps: f32,
}

override ADD_ONE: bool = false;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gamma: array<Element>;
// binding 2 and up: the rows, by an rms part; an elements part says what is read at once, a sums part who sums a row

@compute @workgroup_size(LANES)
fn rms_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = row_of(group.x + group.y * groups.x, lane);
    if (row >= params.rows) {
        return;
    }
    let place = row / params.heads * params.stride + params.first + row % params.heads * params.columns;
    let first = place / WIDTH;
    let count = params.columns / WIDTH;

    var squares = Element();
    for (var i = begin(lane); i < count; i += stride()) {
        let x = take(first + i);
        squares = fma(x, x, squares);
    }
    let mean = reduce_sum(lane, across(squares)) / f32(params.columns);
    let scale = 1.0 / sqrt(mean + params.eps);

    for (var i = begin(lane); i < count; i += stride()) {
        var weight = gamma[i];
        if (ADD_ONE) {
            weight += 1.0;
        }
        put(first + i, take(first + i) * scale * weight);
    }
}
