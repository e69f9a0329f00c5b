// What rows of logits say, beside a row that they are compared with: the largest, log s, entropy, the divergence of the
// other row's distribution from this one's, the place of a token, and the likeliest tokens. One workgroup a row.
//   log p = x - max - log s, s = sum of exp(x - max);  entropy = -sum p log p;  KL(q, p) = sum q (log q - log p)
//
// KL is summed as p - q + q d with d = log q - log p, whose first two parts sum to 0: no term is below 0, errors of the
// logarithms cancel to first order, and equal rows give 0. A row in which something is no number (NaN, infinite or
// beyond 2^126) gives NOTHING for each number, so that nobody takes what came of it for a result.

struct Params {
    rows: u32,
    columns: u32,
    top: u32, // how many of the likeliest
}

override LANES: u32 = 256u;

const NO_ID = 16777216u;      // 2^24: ids are below it, so that floats hold them
const LIKELIEST = 0xffffffffu; // instead of a token: the other row's likeliest
const FIRST = 7u;             // words in front of the likeliest tokens

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> readings: array<vec2<u32>>; // token, and row that this one is compared with
@group(0) @binding(2) var<storage, read> logits: array<u32>;         // bits of f32
@group(0) @binding(3) var<storage, read_write> stats: array<u32>;    // [rows, 7 + 2 top], ids and bits of f32

struct Best {
    value: f32,
    id: u32,
}

fn larger(own: Best, value: f32, id: u32) -> Best {
    if (value > own.value) {
        return Best(value, id);
    }
    return own;
}

// The largest of all invocations' and, of equal ones, that of the lowest id.
fn best_of(lane: u32, own: Best) -> Best {
    let value = reduce_max(lane, own.value);
    let id = -reduce_max(lane, select(LEAST, -f32(own.id), own.value == value));
    return Best(value, u32(id));
}

// q (exp(-d) - 1 + d) with d = log q - log p: for small ones by its series, as nothing would be left of the difference.
fn divergence(d: f32, log_q: f32, log_p: f32) -> f32 {
    let q = exp(log_q);
    if (abs(d) < 0.5) {
        let far = 1.0 / 120.0 - d * (1.0 / 720.0 - d * (1.0 / 5040.0 - d * (1.0 / 40320.0)));
        return q * d * d * (0.5 - d * (1.0 / 6.0 - d * (1.0 / 24.0 - d * far)));
    }
    return exp(log_p) - q + q * d;
}

@compute @workgroup_size(LANES)
fn logit_stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if (row >= params.rows) {
        return;
    }
    let reading = readings[row];
    let first = row * params.columns;
    let first_other = reading.y * params.columns;

    var own = Best(LEAST, NO_ID);
    var other = Best(LEAST, NO_ID);
    var odd = 0.0;
    var odd_other = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = logits[first + i];
        let y = logits[first_other + i];
        own = larger(own, value_of(x), i);
        other = larger(other, value_of(y), i);
        odd = select(1.0, odd, is_number(x));
        odd_other = select(1.0, odd_other, is_number(y));
    }
    let there = reduce_max(lane, odd) == 0.0;
    let both = reduce_max(lane, odd_other) == 0.0 && there;
    var best = best_of(lane, own);
    let likeliest = best_of(lane, other);
    let largest = best.value;

    var rest = 0.0;
    var weighted = 0.0;
    var rest_other = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let below = value_of(logits[first + i]) - largest;
        let e = exp(below);
        let e_other = exp(value_of(logits[first_other + i]) - likeliest.value);
        rest += select(e, 0.0, i == best.id);
        weighted = fma(e, below, weighted);
        rest_other += select(e_other, 0.0, i == likeliest.id);
    }
    rest = reduce_sum(lane, rest);
    weighted = reduce_sum(lane, weighted);
    let log_sum = log_of_one_and(rest);
    let log_sum_other = log_of_one_and(reduce_sum(lane, rest_other));

    let of_other = reading.x == LIKELIEST;
    let token = select(reading.x, likeliest.id, of_other);
    let x_token = value_of(logits[first + token]);
    var kl = 0.0;
    var above = 0.0;
    for (var i = lane; i < params.columns; i += LANES) {
        let x = value_of(logits[first + i]);
        let y = value_of(logits[first_other + i]);
        let below = x - largest;
        let below_other = y - likeliest.value;
        // two ways to the same number: the one whose parts are smaller, and so rounded by less
        let apart = y - x;
        let shift = likeliest.value - largest;
        let near = abs(apart) + abs(shift) < abs(below) + abs(below_other);
        let d = select(below_other - below, apart - shift, near) - (log_sum_other - log_sum);
        kl += divergence(d, below_other - log_sum_other, below - log_sum);
        above += select(0.0, 1.0, x > x_token || (x == x_token && i < token));
    }
    kl = reduce_sum(lane, kl);
    let rank = u32(reduce_sum(lane, above));

    let words = FIRST + 2u * params.top;
    let base = row * words;
    let placed = select(there, both, of_other);
    if (lane == 0u) {
        stats[base] = number(largest, there);
        stats[base + 1u] = number(log_sum, there);
        stats[base + 2u] = number(log_sum - weighted / (1.0 + rest), there);
        stats[base + 3u] = number(kl, both);
        stats[base + 4u] = select(NOTHING, token, placed);
        stats[base + 5u] = select(NOTHING, rank, placed);
        stats[base + 6u] = number(x_token, placed);
    }
    for (var place = 0u; place < params.top; place++) {
        if (lane == 0u) {
            let is_token = there && best.id < NO_ID;
            stats[base + FIRST + 2u * place] = select(NOTHING, best.id, is_token);
            stats[base + FIRST + 2u * place + 1u] = number(best.value, is_token);
        }
        // who had this one looks for its next
        if (own.id == best.id) {
            own = Best(LEAST, NO_ID);
            for (var i = lane; i < params.columns; i += LANES) {
                let x = value_of(logits[first + i]);
                if (x < best.value || (x == best.value && i > best.id)) {
                    own = larger(own, x, i);
                }
            }
        }
        best = best_of(lane, own);
    }
}
