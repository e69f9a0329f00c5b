// Each head alone, for instruments: a row of all heads becomes a row for each, which has that head's elements in their
// places and zeros elsewhere. A product with W_O then gives what each head adds to the stream.

struct Params {
    rows: u32,      // tokens · wanted
    heads: u32,
    head_size: u32,
    first: u32,     // the first head that is wanted
    wanted: u32,    // how many are
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<f32>; // [tokens, heads, head_size]
@group(0) @binding(2) var<storage, read_write> split: array<f32>; // [tokens, wanted, heads · head_size]

@compute @workgroup_size(64)
fn split_heads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let columns = params.heads * params.head_size;
    let row = index / columns;
    if (row >= params.rows) {
        return;
    }
    let column = index % columns;
    let own = column / params.head_size == params.first + row % params.wanted;
    split[index] = select(0.0, z[row / params.wanted * columns + column], own);
}
