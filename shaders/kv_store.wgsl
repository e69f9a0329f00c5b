// Stores keys and values in the cache: turns the queries' heads in place and the keys' heads on their way, with the
// arithmetic of rope, and copies the values. One invocation is two elements of a head of a token: a turned pair, or
// two neighbours behind the turned part.

struct Params {
    tokens: u32,
    stride: u32,    // elements in a row: queries, keys, values
    heads: u32,     // of queries
    kv_heads: u32,
    head_size: u32,
    pairs: u32,     // turned pairs (i, i + pairs) of a head; the elements after them stay as they are
    first: u32,     // head of the row at which the work begins: where nothing is turned, queries are left alone
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tokens: array<vec4<u32>>; // the last is the row in the cache
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>; // [tokens, pairs] of cos and sin
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
@group(0) @binding(4) var<storage, read_write> cache: array<f32>; // [rows, 2, kv_heads, head_size]

@compute @workgroup_size(64)
fn kv_store(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let units = (params.head_size + 1u) / 2u;
    let many = params.heads + 2u * params.kv_heads - params.first; // heads of a token
    let unit = index % units;
    let head = params.first + index / units % many;
    let token = index / units / many;
    if (token >= params.tokens) {
        return;
    }
    let at = token * params.stride + head * params.head_size;
    let turned = unit < params.pairs && head < params.heads + params.kv_heads;
    let i = select(2u * unit, unit, turned);
    let j = select(i + 1u, unit + params.pairs, turned);
    var x = rows[at + i];
    var y = 0.0;
    if (j < params.head_size) {
        y = rows[at + j];
    }
    if (turned) {
        let angle = angles[token * params.pairs + unit];
        let before = x;
        x = fma(x, angle.x, -(y * angle.y));
        y = fma(y, angle.x, before * angle.y);
    }
    if (head < params.heads) {
        if (turned) {
            rows[at + i] = x;
            rows[at + j] = y;
        }
        return;
    }
    // keys and values stand in a row of the cache as they do behind the queries
    let row = tokens[token].w * 2u * params.kv_heads * params.head_size;
    let to = row + (head - params.heads) * params.head_size;
    cache[to + i] = x;
    if (j < params.head_size) {
        cache[to + j] = y;
    }
}
