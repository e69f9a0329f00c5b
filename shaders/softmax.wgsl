// Softmax in place over each row: exp(x - max) / sum of exp(x - max). One workgroup a row.

struct Params {
    rows: u32,
    columns: u32,
}

override LANES: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> values: array<f32>;

@compute @workgroup_size(LANES)
fn softmax(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let first = row * params.columns;

    var largest = -3.4e38;
    for (var i = lane; i < params.columns; i += LANES) {
        largest = max(largest, values[first + i]);
    }
    largest = reduce_max(lane, largest);

    var sum = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let e = exp(values[first + i] - largest);
        values[first + i] = e;
        sum += e;
    }
    let scale = 1.0 / reduce_sum(lane, sum);

    for (var i = lane; i < params.columns; i += LANES) {
        values[first + i] = values[first + i] * scale;
    }
}
