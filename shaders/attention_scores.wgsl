// Scores of one sequence, for instruments: scores[h, i, j] = q[i, h] · k[j, h] · scale + bias. A softmax over the rows
// makes the attention pattern of them. Models never run this: their attention stores no matrix.

struct Params {
    heads: u32,
    group: u32,   // heads that share one head of keys
    head_size: u32,
    stride: u32,  // elements in a row of q and k
    first_q: u32, // column at which head 0 begins
    first_k: u32,
    tokens: u32,
    before: u32,  // tokens that a query sees before itself
    after: u32,   // and behind
    reach: u32,   // the bias covers distances below this
    scale: f32,
    cap: f32,     // scores are bent to cap · tanh(score / cap)
}

override HAS_BIAS: bool = false;
override HAS_CAP: bool = false;

const MASKED = -1e30;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [heads, 2·reach - 1], by key - query + reach - 1
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [heads, tokens, tokens]

@compute @workgroup_size(64)
fn attention_scores(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let key = index % params.tokens;
    let query = index / params.tokens % params.tokens;
    let head = index / params.tokens / params.tokens;
    if (head >= params.heads) {
        return;
    }
    let q_at = query * params.stride + params.first_q + head * params.head_size;
    let k_at = key * params.stride + params.first_k + head / params.group * params.head_size;
    var score = 0.0;
    for (var d = 0u; d < params.head_size; d++) {
        score = fma(q[q_at + d], k[k_at + d], score);
    }
    score *= params.scale;
    if (HAS_CAP) {
        score = params.cap * tanh_of(score / params.cap);
    }
    if (HAS_BIAS) {
        score += bias[head * (2u * params.reach - 1u) + params.reach - 1u + key - query];
    }
    let visible = key + params.before >= query && key <= query + params.after;
    scores[index] = select(MASKED, score, visible);
}
