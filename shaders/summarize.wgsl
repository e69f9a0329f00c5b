// What instruments want to know of rows without having them: of each group of a row its norm, its sum, and the elements
// of largest magnitude with their places, of equal ones first the first. One workgroup a group.

struct Params {
    rows: u32,
    groups: u32,  // of a row: heads, or 1
    columns: u32, // of a group
    stride: u32,  // elements from one row to the next
    first: u32,   // element of a row at which its first group begins
    top: u32,     // how many of the largest
}

override LANES: u32 = 64u;

const LEAST = -3.4e38;
const NOWHERE = 16777216u; // 2^24: places are below it, so that floats hold them
const FIRST = 2u;          // numbers in front of the largest elements

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read_write> summary: array<f32>; // [rows, groups, 2 + 2 top]

struct Largest {
    size: f32,
    place: u32,
}

fn larger(own: Largest, size: f32, place: u32) -> Largest {
    if (size > own.size) {
        return Largest(size, place);
    }
    return own;
}

// The largest of all invocations' and, of equal ones, the first.
fn largest_of(lane: u32, own: Largest) -> Largest {
    let size = reduce_max(lane, own.size);
    let place = -reduce_max(lane, select(LEAST, -f32(own.place), own.size == size));
    return Largest(size, u32(place));
}

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
    var own = Largest(-1.0, NOWHERE);
    var total = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = values[start + i];
        own = larger(own, abs(x), i);
        total += x;
    }
    var largest = largest_of(lane, own);
    total = reduce_sum(lane, total);
    // the largest is divided out before squaring, so that no row leaves f32's range
    let scale = max(largest.size, 1e-30);
    var squares = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = values[start + i] / scale;
        squares = fma(x, x, squares);
    }
    squares = reduce_sum(lane, squares);

    let base = index * (FIRST + 2u * params.top);
    if (lane == 0u) {
        summary[base] = scale * sqrt(squares);
        summary[base + 1u] = total;
    }
    for (var rank = 0u; rank < params.top; rank++) {
        if (lane == 0u) {
            var value = 0.0;
            if (largest.place < params.columns) {
                value = values[start + largest.place];
            }
            summary[base + FIRST + 2u * rank] = value;
            summary[base + FIRST + 2u * rank + 1u] = f32(largest.place);
        }
        // who had this one looks for its next
        if (own.place == largest.place) {
            own = Largest(-1.0, NOWHERE);
            for (var i = lane; i < params.columns; i += LANES) {
                let size = abs(values[start + i]);
                if (size < largest.size || (size == largest.size && i > largest.place)) {
                    own = larger(own, size, i);
                }
            }
        }
        largest = largest_of(lane, own);
    }
}
