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

const LARGEST = 0x7e800000u; // 2^126
const NOTHING = 0x7f000000u; // 2^127: no number that a row can give, and an ordinary float
const LEAST = -3.4e38;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> readings: array<vec2<u32>>; // token, and a row that is not looked at
@group(0) @binding(2) var<storage, read> logits: array<u32>;         // bits of f32
@group(0) @binding(3) var<storage, read_write> surprises: array<u32>; // [rows], bits of f32

// log(1 + rest), also where 1 + rest would be 1: 2 artanh(rest / (2 + rest)) by its series.
fn log_of_one_and(rest: f32) -> f32 {
    if (rest < 0.5) {
        let z = rest / (2.0 + rest);
        let t = z * z;
        return 2.0 * z * (1.0 + t * (1.0 / 3.0 + t * (1.0 / 5.0 + t * (1.0 / 7.0 + t * (1.0 / 9.0)))));
    }
    return log(1.0 + rest);
}

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
        let is_number = (bits & 0x7fffffffu) < LARGEST;
        odd = select(1.0, odd, is_number);
        own = max(own, bitcast<f32>(select(0u, bits, is_number)));
    }
    let there = reduce_max(lane, odd) == 0.0;
    let largest = reduce_max(lane, own);
    // all but what the largest themselves give, which is 1 each
    var rest = 0.0;
    var equals = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let bits = logits[first + i];
        let x = bitcast<f32>(select(0u, bits, there));
        rest += select(exp(x - largest), 0.0, x == largest);
        equals += select(0.0, 1.0, x == largest);
    }
    rest = reduce_sum(lane, rest) + (reduce_sum(lane, equals) - 1.0);
    if (lane == 0u) {
        let token = readings[row].x;
        if (there && token < params.columns) {
            surprises[row] = bitcast<u32>(largest - bitcast<f32>(logits[first + token]) + log_of_one_and(rest));
        } else {
            surprises[row] = NOTHING;
        }
    }
}
