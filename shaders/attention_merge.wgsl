// Attention of decode steps, second half: z of a query from what attention_split left of each split of its keys, in
// ascending order. Only splits with a visible key are read: the others were not written. Sequences of one split have
// their z. One invocation is one element.

struct Params {
    heads: u32,
    head_size: u32,
    tiles: u32,
    splits: u32,  // of the longest sequence in the batch
    before: u32,  // tokens that a query sees before itself
    after: u32,   // and behind
}

struct Tile {
    row: u32,      // of the query in the batch
    queries: u32,  // 1
    position: u32, // of the query in its sequence
    length: u32,   // keys of the sequence
    keys: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}

override SPLIT: u32 = 256u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> tiles: array<Tile>;
@group(0) @binding(2) var<storage, read> partials: array<f32>; // [tiles, splits, heads, head_size + 2]
@group(0) @binding(3) var<storage, read_write> z: array<f32>; // [tokens, heads, head_size]

@compute @workgroup_size(64)
fn attention_merge(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let d = index % params.head_size;
    let head = index / params.head_size % params.heads;
    let number = index / params.head_size / params.heads;
    if (number >= params.tiles) {
        return;
    }
    let tile = tiles[number];
    if (tile.length <= SPLIT) {
        return;
    }
    let step = params.heads * (params.head_size + 2u);
    let at = number * params.splits * step + head * (params.head_size + 2u);
    // the splits of the first and of the last visible key
    let first = (tile.position - min(tile.position, params.before)) / SPLIT;
    let last = (min(tile.length, tile.position + 1u + params.after) - 1u) / SPLIT;
    var largest = -1e30;
    for (var split = first; split <= last; split++) {
        largest = max(largest, partials[at + split * step + params.head_size]);
    }
    var sum = 0.0;
    var total = 0.0;
    for (var split = first; split <= last; split++) {
        let from_split = at + split * step;
        let shrink = exp(partials[from_split + params.head_size] - largest);
        sum = fma(partials[from_split + d], shrink, sum);
        total = fma(partials[from_split + params.head_size + 1u], shrink, total);
    }
    z[(tile.row * params.heads + head) * params.head_size + d] = sum / total;
}
