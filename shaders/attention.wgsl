// Fused scaled dot-product attention: z = softmax(q kᵀ · scale + bias) v for each head and each sequence of a ragged
// batch, with online normalisation, so that no matrix of scores is stored.
// A workgroup is one tile of queries of one sequence and one head. Keys are taken in groups of 8, counted from the
// sequence's first, whatever else is in the batch and however a prompt is cut: after each group the sums so far shrink
// by what the largest score has grown. A score is one chain of fma along the head, a weighted sum one along the keys of
// a group, and a group's weights are added as a tree: forms that do this agree bit for bit. A query sees the keys from
// `before` tokens before it to `after` behind it: that is all there is to causal and to local attention.

struct Params {
    heads: u32,
    group: u32,   // heads that share one head of keys and values
    head_size: u32,
    quads: u32,   // groups of 4 in a head, the last perhaps partial
    q_stride: u32, // elements in a row of q
    kv_stride: u32, // and of k and v
    first_q: u32, // column at which head 0 begins
    first_k: u32,
    first_v: u32,
    tiles: u32,
    before: u32,  // tokens that a query sees before itself
    after: u32,   // and behind
    reach: u32,   // the bias covers distances below this
    scale: f32,   // 1/√head_size as a rule
    cap: f32,     // scores are bent to cap · tanh(score / cap)
}

override HAS_BIAS: bool = false;
override HAS_CAP: bool = false;

const MASKED = -1e30;
const KEYS_BINDING = 6;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the tiles; bindings 2 to 4: q, k and v, by a heads part; binding 6: biases or page tables, by a keys part.
// A form part says who computes what of a tile.
@group(0) @binding(5) var<storage, read_write> z: array<f32>; // [tokens, heads, head_size]

fn scaled(score: f32, key: u32, query: u32, length: u32, bias_row: u32) -> f32 {
    var s = score * params.scale;
    if (HAS_CAP) {
        s = params.cap * tanh_of(s / params.cap);
    }
    if (HAS_BIAS) {
        s += bias_at(bias_row + min(key, length - 1u));
    }
    // not &&, which branches: some compilers take minutes over many of these in a row
    let visible = (key < length) & (key + params.before >= query) & (key <= query + params.after);
    return select(MASKED, s, visible);
}

// The keys that any query of a tile sees begin here, with a group of 8,
fn first_seen(tile: Tile) -> u32 {
    return (tile.position - min(tile.position, params.before)) / 8u * 8u;
}

// and end here.
fn end_seen(tile: Tile) -> u32 {
    return min(tile.length, tile.position + tile.queries + params.after);
}

// bias[bias_row + key] is the entry for key - query.
fn bias_row_of(head: u32, query: u32) -> u32 {
    return head * (2u * params.reach - 1u) + params.reach - 1u - query;
}

// Column of a head's keys and values, which as many heads share.
fn kv_column_of(head: u32) -> u32 {
    return head / params.group * params.head_size;
}

@compute @workgroup_size(LANES)
fn attention(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    if (index / params.heads < params.tiles) {
        attend(tiles[index / params.heads], index % params.heads, lane);
    }
}
