// Scores, for instruments: scores[i, h, j] = q[i, h] · k[j, h] · scale + bias, over the keys j of i's own sequence. A
// softmax over the rows makes the attention pattern of them. Plain forwards never run this: they store no scores.
// A workgroup is one head of every SLOTS-th query of a tile; an invocation takes every 64th key.

struct Params {
    heads: u32,
    group: u32,     // heads that share one head of keys
    head_size: u32,
    q_stride: u32,  // elements in a row of q
    kv_stride: u32, // and of k
    first_q: u32,   // column at which head 0 begins
    first_k: u32,
    tiles: u32,
    keys: u32,      // of the longest sequence: what others lack is hidden
    before: u32,    // tokens that a query sees before itself
    after: u32,     // and behind
    reach: u32,     // the bias covers distances below this
    scale: f32,
    cap: f32,       // scores are bent to cap · tanh(score / cap)
}

override SLOTS: u32 = 16u;
override HAS_BIAS: bool = false;
override HAS_CAP: bool = false;

const MASKED = -1e30;
const KEYS_BINDING = 5;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the tiles, by a part
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [tokens, heads, keys]

@compute @workgroup_size(64)
fn attention_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    let head = index / SLOTS % params.heads;
    if (index / SLOTS / params.heads >= params.tiles) {
        return;
    }
    let tile = tiles[index / SLOTS / params.heads];
    let k_at = params.first_k + head / params.group * params.head_size;
    for (var own = index % SLOTS; own < tile.queries; own += SLOTS) {
        let row = tile.row + own;
        let query = tile.position + own;
        let q_at = row * params.q_stride + params.first_q + head * params.head_size;
        let at = (row * params.heads + head) * params.keys;
        for (var key = lane; key < params.keys; key += 64u) {
            var score = MASKED;
            if (key < tile.length && key + params.before >= query && key <= query + params.after) {
                let key_at = key_row(tile.keys, key) * params.kv_stride + k_at;
                score = 0.0;
                for (var d = 0u; d < params.head_size; d++) {
                    score = fma(q[q_at + d], k[key_at + d], score);
                }
                score *= params.scale;
                if (HAS_CAP) {
                    score = params.cap * tanh_of(score / params.cap);
                }
                if (HAS_BIAS) {
                    score += bias_at(head * (2u * params.reach - 1u) + params.reach - 1u + key - query);
                }
            }
            scores[at + key] = score;
        }
    }
}
