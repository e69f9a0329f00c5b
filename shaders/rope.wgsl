// Rotary position embedding (Su et al. 2021) in place: each pair (x, y) of a head becomes
// (x·cos - y·sin, y·cos + x·sin). The angles come from the host, which computes
// them as Hugging Face does. One invocation
// a pair.

struct Params {
    tokens: u32,
    heads: u32,     // heads that are rotated, one behind another
    head_size: u32,
    pairs: u32,     // rotated pairs of a head; the elements after them stay as they are
    stride: u32,    // elements in a row
    first: u32,     // column at which the first head begins
}

override INTERLEAVED: bool = false; // pairs are neighbours (2i, 2i+1), else halves (i, i + pairs)

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> angles: array<vec2<f32>>; // [tokens, pairs] of cos and sin
@group(0) @binding(2) var<storage, read_write> rows: array<f32>;

@compute @workgroup_size(64)
fn rope(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let pair = index % params.pairs;
    let head = index / params.pairs % params.heads;
    let token = index / params.pairs / params.heads;
    if (token >= params.tokens) {
        return;
    }
    let angle = angles[token * params.pairs + pair];
    let at = token * params.stride + params.first + head * params.head_size;
    let i = at + select(pair, 2u * pair, INTERLEAVED);
    let j = select(i + params.pairs, i + 1u, INTERLEAVED);
    let x = rows[i];
    let y = rows[j];
    rows[i] = fma(x, angle.x, -(y * angle.y));
    rows[j] = fma(y, angle.x, x * angle.y);
}
