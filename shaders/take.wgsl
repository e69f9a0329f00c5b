// Some of a buffer's rows, and some columns of each, one behind another: what a narrowed tap brings back. The rows are
// those of every token, or the same range of tokens of each sequence.

struct Params {
    rows: u32,    // that are taken
    columns: u32, // that are taken of each
    stride: u32,  // elements from one row to the next
    first: u32,   // element of a row at which its columns begin
    start: u32,   // first token of each sequence
    each: u32,    // tokens of each sequence; 0 takes every row
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sequences: array<vec4<u32>>; // [first row, length, …]
@group(0) @binding(2) var<storage, read> values: array<u32>;          // bits of f32
@group(0) @binding(3) var<storage, read_write> taken: array<u32>;     // [rows, columns]

@compute @workgroup_size(64)
fn take(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let row = index / params.columns;
    if (row >= params.rows) {
        return;
    }
    var source = row;
    if (params.each > 0u) {
        source = sequences[row / params.each].x + params.start + row % params.each;
    }
    taken[index] = values[source * params.stride + params.first + index % params.columns];
}
