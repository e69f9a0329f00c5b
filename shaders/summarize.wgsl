// What instruments want to know of rows without having them: of each group of a row its norm, its mean, and the
// element of largest magnitude with its place. One workgroup a group.

struct Params {
    rows: u32,
    groups: u32,  // of a row: heads, or 1
    columns: u32, // of a group
    stride: u32,  // elements from one row to the next
    first: u32,   // element of a row at which its first group begins
}

override LANES: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> summary: array<f32>; // [rows, groups, 4]

@compute @workgroup_size(LANES)
fn summarize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    if (index >= params.rows * params.groups) {
        return;
    }
    let start = index / params.groups * params.stride + params.first + index % params.groups * params.columns;
    var most = 0.0;
    var total = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = values[start + i];
        most = max(most, abs(x));
        total += x;
    }
    most = reduce_max(lane, most);
    total = reduce_sum(lane, total);
    // the largest is divided out before squaring, so that no row leaves f32's range; the first of equals counts
    let scale = max(most, 1e-30);
    var squares = 0.0;
    var place = -1e30;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = values[start + i] / scale;
        squares = fma(x, x, squares);
        if (abs(values[start + i]) == most) {
            place = max(place, -f32(i));
        }
    }
    squares = reduce_sum(lane, squares);
    place = -reduce_max(lane, place);
    if (lane == 0u) {
        summary[index * 4u] = scale * sqrt(squares);
        summary[index * 4u + 1u] = total / f32(params.columns);
        summary[index * 4u + 2u] = values[start + u32(place)];
        summary[index * 4u + 3u] = place;
    }
}
