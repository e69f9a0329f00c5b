// Attention of decode steps, first half: one query against SPLIT keys of its sequence. What comes of a split is the sum
// of its values weighted by exp(score - largest), the largest score, and the sum of the weights; attention_merge makes
// z of them, but for sequences of one split, whose z is written here. A workgroup is one split of one tile of one query
// and of one head; splits without a visible key are not written. A sequence's splits are counted from its first key,
// so that they do not depend on the batch.

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
    splits: u32,  // of the longest sequence in the batch
    before: u32,  // tokens that a query sees before itself
    after: u32,   // and behind
    scale: f32,   // 1/√head_size as a rule
    cap: f32,     // scores are bent to cap · tanh(score / cap)
}

override LANES: u32 = 128u;
override SPLIT: u32 = 256u;
override QUADS: u32 = 8u; // room for a head, in groups of 4: a power of two, at most LANES
override HAS_CAP: bool = false;

const TEAM = 8u; // invocations that share a key's score
const MASKED = -1e30;
const KEYS_BINDING = 7;

@group(0) @binding(0) var<uniform> params: Params;
// binding 1: the tiles; bindings 2 to 4: q, k and v, by a heads part; binding 7: the page tables, by the keys part
@group(0) @binding(5) var<storage, read_write> partials: array<f32>; // [tiles, splits, heads, head_size + 2]
@group(0) @binding(6) var<storage, read_write> z: array<f32>; // [tokens, heads, head_size]

// Each team member's part of a score, [member][key]; 4 more a row spread a team over the memory's banks.
var<workgroup> shares: array<f32, TEAM * (SPLIT + 4u)>;
var<workgroup> weights: array<f32, SPLIT>;
var<workgroup> slices: array<vec4<f32>, LANES>; // sums of values, [slice of the keys][quad]

fn score(place: u32) -> f32 {
    var s = 0.0;
    for (var member = 0u; member < TEAM; member++) {
        s += shares[member * (SPLIT + 4u) + place];
    }
    s *= params.scale;
    if (HAS_CAP) {
        s = params.cap * tanh_of(s / params.cap);
    }
    return s;
}

@compute @workgroup_size(LANES)
fn attention_split(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    let head = index % params.heads;
    let split = index / params.heads % params.splits;
    let number = index / params.heads / params.splits;
    if (number >= params.tiles) {
        return;
    }
    let tile = tiles[number];
    // the split's keys that the query sees
    let first = split * SPLIT;
    let begin = max(first, tile.position - min(tile.position, params.before));
    let end = min(first + SPLIT, min(tile.length, tile.position + 1u + params.after));
    if (begin >= end) {
        return;
    }
    let kv_column = head / params.group * params.head_size;
    let q_at = tile.row * params.q_stride + params.first_q + head * params.head_size;
    let k_at = params.first_k + kv_column;
    let v_at = params.first_v + kv_column;

    let member = lane % TEAM;
    for (var key = begin + lane / TEAM; key < end; key += LANES / TEAM) {
        let at = k_at + key_row(tile.keys, key) * params.kv_stride;
        var share = 0.0;
        for (var d = member; d < params.quads; d += TEAM) {
            let a = q4(q_at, d);
            let b = k4(at, d);
            share = fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, share))));
        }
        shares[member * (SPLIT + 4u) + key - first] = share;
    }
    workgroupBarrier();
    var highest = MASKED;
    for (var key = begin + lane; key < end; key += LANES) {
        let s = score(key - first);
        weights[key - first] = s;
        highest = max(highest, s);
    }
    let largest = reduce_max(lane, highest);
    var own = 0.0;
    for (var key = begin + lane; key < end; key += LANES) {
        let weight = exp(weights[key - first] - largest);
        weights[key - first] = weight;
        own += weight;
    }
    let total = reduce_sum(lane, own);

    // all weights are written: reduce_sum has barriers
    let quad = lane % QUADS;
    var sum = vec4<f32>();
    if (quad < params.quads) {
        for (var key = begin + lane / QUADS; key < end; key += LANES / QUADS) {
            let at = v_at + key_row(tile.keys, key) * params.kv_stride;
            sum = fma(vec4<f32>(weights[key - first]), v4(at, quad), sum);
        }
    }
    slices[lane] = sum;
    workgroupBarrier();
    let alone = tile.length <= SPLIT;
    let to = ((number * params.splits + split) * params.heads + head) * (params.head_size + 2u);
    let to_z = (tile.row * params.heads + head) * params.head_size;
    if (lane < params.quads) {
        for (var other = lane + QUADS; other < LANES; other += QUADS) {
            sum += slices[other];
        }
        for (var i = lane * 4u; i < min(lane * 4u + 4u, params.head_size); i++) {
            if (alone) {
                z[to_z + i] = sum[i % 4u] / total;
            } else {
                partials[to + i] = sum[i % 4u];
            }
        }
    }
    if (lane == 0u && !alone) {
        partials[to + params.head_size] = largest;
        partials[to + params.head_size + 1u] = total;
    }
}
