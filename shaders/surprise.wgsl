// How surprised rows of logits are at a token each: -log p of it, which is what a loss is the mean of.
//   -log p = max - x + log sum of exp(x - max)
//
// A row in which something is no number (NaN, infinite or beyond 2^126) gives NOTHING, so that nobody takes what came
// of it for a result. One workgroup a row.

struct Params {
    rows: u32,
    columns: u32,
}

override LANES: u32 = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> readings: array<vec2<u32>>; // token, and a row that is not looked at
@group(0) @binding(2) var<storage, read> logits: array<u32>;         // bits of f32
@group(0) @binding(3) var<storage, read_write> surprises: array<u32>; // [rows], bits of f32

@compute @workgroup_size(LANES)
fn surprise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let first = row * params.columns;
    var odd = 0.0;
    var own = LEAST;
    for (var i = lane; i < params.columns; i += LANES) {
        let bits = logits[first + i];
        odd = select(1.0, odd, is_number(bits));
        own = max(own, value_of(bits));
    }
    let there = reduce_max(lane, odd) == 0.0;
    let largest = reduce_max(lane, own);
    // all but what the largest themselves give, which is 1 each
    var rest = 0.0;
    var equals = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = value_of(logits[first + i]);
        rest += select(exp(x - largest), 0.0, x == largest);
        equals += select(0.0, 1.0, x == largest);
    }
    rest = reduce_sum(lane, rest) + (reduce_sum(lane, equals) - 1.0);
    if (lane == 0u) {
        let token = readings[row].x;
        let x = value_of(logits[first + min(token, params.columns - 1u)]);
        surprises[row] = number(largest - x + log_of_one_and(rest), there && token < params.columns);
    }
}
