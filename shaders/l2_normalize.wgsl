// L2 normalisation in place: x / max(‖x‖, 1e-12) over each row (PyTorch's F.normalize). One workgroup a row.

struct Params {
    rows: u32,
    columns: u32,
}

override LANES: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(LANES)
fn l2_normalize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let first = row * params.columns;

    // The largest magnitude is divided out before squaring, so that neither tiny nor huge rows leave f32's range.
    var largest = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        largest = max(largest, abs(values[first + i]));
    }
    largest = max(reduce_max(lane, largest), 1e-30);
    var squares = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = values[first + i] / largest;
        squares = fma(x, x, squares);
    }
    let norm = largest * sqrt(reduce_sum(lane, squares));
    let scale = 1.0 / max(norm, 1e-12);

    for (var i = lane; i < params.columns; i += LANES) {
        values[first + i] = values[first + i] * scale;
    }
}
