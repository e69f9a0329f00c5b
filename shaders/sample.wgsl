// Chooses one token a row of logits: repetition penalty, temperature, top-k, top-p and min-p as Hugging Face's
// processors apply them one after another, then the largest, or a draw. One workgroup a row.
//
// Floats are compared as integers of the same order, NaN lowest of all, so that no compiler's view of NaN and
// infinities matters. The smallest that belongs to the k largest, or to a share of the probability, is found by
// radix: four passes of 8 bits, each over a histogram. Probabilities are summed there in units of 2^-31 of the whole,
// so that the order of the additions is of no consequence; n tokens are off by at most n * 2^-32 of the whole.
//
// The draw is the largest of x / T + g, where g is Gumbel noise: that token has the probability softmax(x / T). The
// noise is a hash of the seed, the token's number in its sequence and its id, so that no other row plays a part.

struct Params {
    rows: u32,
    columns: u32,
}

struct Draw {
    temperature: f32,
    top_k: u32,
    top_p: f32,
    min_p: f32,
    penalty: f32,
    seed_low: u32,
    seed_high: u32,
    position: u32,
    first_seen: u32,
    seen: u32,
    unused: vec2<u32>,
}

// what a token's value is counted by in a selection
const TOKENS = 0u; // keys, each once
const MASS = 1u;   // keys, by their probability
const TIES = 2u;   // places of those with the same key, lowest first

const LANES = 256u;  // and bins of a histogram
const COPIES = 8u;   // of the histogram: logits share their upper bits, and atomics on one word wait for each other
const LARGEST = 0x7e800000u; // 2^126: values beyond it count as this, so that no difference overflows
const REACH = 27.0;  // the noise lies between -3.14 and 22.88: what is further below the best cannot win
const NONE = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> draws: array<Draw>;
@group(0) @binding(2) var<storage, read> seen: array<u32>;
@group(0) @binding(3) var<storage, read_write> logits: array<u32>; // bits of f32
@group(0) @binding(4) var<storage, read_write> ids: array<u32>;

var<workgroup> counts: array<atomic<u32>, 2048>;
var<workgroup> scan: array<u32, LANES>;
var<workgroup> places: array<u32, LANES>;
var<workgroup> sums: array<f32, LANES>;
var<workgroup> found: vec3<u32>;

// What the passes over one row share.
struct Row {
    first: u32,       // place of its first logit
    top: f32,         // its largest value
    temperature: f32,
    unit: f32,        // of probability, in exp(x / T - top / T)
    least: u32,       // smallest key that is left; never 0, which is NaN's
}

// What is chosen of a row that has no number.
const NO_TOKEN = 0x7f000000u;

// An integer in the order of floats: 0 for NaN, then from -inf to +inf; the two zeros are the same.
fn key_of(bits: u32) -> u32 {
    let magnitude = bits & 0x7fffffffu;
    let key = select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
    return select(key, 0u, magnitude > 0x7f800000u);
}

// The float, with infinities made finite.
fn value_of(key: u32) -> f32 {
    let bounded = clamp(key, 0x7fffffffu - LARGEST, 0x80000000u + LARGEST);
    return bitcast<f32>(select(~bounded, bounded & 0x7fffffffu, bounded >= 0x80000000u));
}

// The key of the token at a place; 0 beyond the last.
fn key_at(first: u32, place: u32) -> u32 {
    let key = key_of(logits[first + min(place, params.columns - 1u)]);
    return select(key, 0u, place >= params.columns);
}

// Four of them, so that four loads are on their way at once.
fn keys_at(first: u32, place: u32) -> vec4<u32> {
    return vec4<u32>(
        key_at(first, place),
        key_at(first, place + LANES),
        key_at(first, place + 2u * LANES),
        key_at(first, place + 3u * LANES),
    );
}

// A seen token's logit moves towards less probable; an infinite one stays, and none becomes infinite.
fn penalised(bits: u32, penalty: f32) -> u32 {
    let largest = 3.4e38;
    if ((bits & 0x7fffffffu) >= 0x7f800000u) {
        return bits;
    }
    let x = bitcast<f32>(bits);
    if (x > 0.0) {
        if (penalty < 1.0 && x > largest * penalty) {
            return bitcast<u32>(largest);
        }
        return bitcast<u32>(x / penalty);
    }
    if (penalty > 1.0 && -x > largest / penalty) {
        return bitcast<u32>(-largest);
    }
    return bitcast<u32>(x * penalty);
}

// The place of the largest of all invocations' keys, the lowest such place; `scan[0]` is that key.
fn reduce_best(lane: u32, key: u32, place: u32) {
    workgroupBarrier();
    scan[lane] = key;
    places[lane] = place;
    for (var width = LANES / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) {
            let other = scan[lane + width];
            if (other > scan[lane] || (other == scan[lane] && places[lane + width] < places[lane])) {
                scan[lane] = other;
                places[lane] = places[lane + width];
            }
        }
    }
    workgroupBarrier();
}

fn reduce_sum(lane: u32, value: f32) -> f32 {
    workgroupBarrier();
    sums[lane] = value;
    for (var width = LANES / 2u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) {
            sums[lane] = sums[lane] + sums[lane + width];
        }
    }
    return workgroupUniformLoad(&sums[0]);
}

// exp(x / T - top / T), and 0 where that is too little to count.
fn weight(row: Row, key: u32) -> f32 {
    let below = value_of(key) - row.top;
    if (key < row.least || below < -REACH * row.temperature) {
        return 0.0;
    }
    return exp(below / row.temperature);
}

fn mass(row: Row, key: u32) -> u32 {
    return u32(weight(row, key) * row.unit + 0.5);
}

fn count(row: Row, by: u32, key: u32, place: u32, shift: u32, prefix: u32, copy: u32) {
    let word = select(key, ~place, by == TIES);
    let counted = select(key >= row.least, key == row.least, by == TIES);
    if (counted && ((word >> shift) >> 8u) == prefix) {
        var amount = 1u;
        if (by == MASS) {
            amount = mass(row, key);
        }
        atomicAdd(&counts[((word >> shift) & 255u) * COPIES + copy], amount);
    }
}

// The largest word so that it and those above amount to `want` or more, or to that `share` of the mass; what of it
// falls to those equal to that word; what those amount to. All 0 where there is less than `want` in all.
fn selected(row: Row, lane: u32, by: u32, want: u32, share: f32) -> vec3<u32> {
    var prefix = 0u;
    var rest = want;
    var equal = 0u;
    for (var digit = 0u; digit < 4u; digit++) {
        let shift = 24u - 8u * digit;
        workgroupBarrier();
        for (var copy = 0u; copy < COPIES; copy++) {
            atomicStore(&counts[copy * LANES + lane], 0u);
        }
        if (lane == 0u) {
            found = vec3<u32>(0u);
        }
        workgroupBarrier();
        for (var place = lane; place < params.columns; place += 4u * LANES) {
            let keys = keys_at(row.first, place);
            let copy = lane % COPIES;
            count(row, by, keys.x, place, shift, prefix, copy);
            count(row, by, keys.y, place + LANES, shift, prefix, copy);
            count(row, by, keys.z, place + 2u * LANES, shift, prefix, copy);
            count(row, by, keys.w, place + 3u * LANES, shift, prefix, copy);
        }
        workgroupBarrier();
        var own = 0u;
        for (var copy = 0u; copy < COPIES; copy++) {
            own += atomicLoad(&counts[lane * COPIES + copy]);
        }
        scan[lane] = own;
        // what this bin and those above it hold
        for (var width = 1u; width < LANES; width = width * 2u) {
            workgroupBarrier();
            let above = select(0u, scan[min(lane + width, LANES - 1u)], lane + width < LANES);
            workgroupBarrier();
            scan[lane] = scan[lane] + above;
        }
        let whole = workgroupUniformLoad(&scan[0]);
        if (by == MASS && digit == 0u) {
            // rounding has made the whole another than 2^31
            rest = clamp(u32(ceil(share * f32(whole))), 1u, max(whole, 1u));
        }
        let above = scan[lane] - own;
        if (scan[lane] >= rest && above < rest) {
            found = vec3<u32>(lane, rest - above, own);
        }
        let bin = workgroupUniformLoad(&found);
        prefix = (prefix << 8u) | bin.x;
        rest = bin.y;
        equal = bin.z;
    }
    return vec3<u32>(prefix, rest, equal);
}

// pcg4d (Jarzynski and Olano, "Hash Functions for GPU Rendering", JCGT 9(3), 2020), whose low bits are weak, and a
// 32-bit finaliser of low bias (Wellons, hash-prospector) on its last word.
fn hash(id: u32, draw: Draw) -> u32 {
    var v = vec4<u32>(id, draw.position, draw.seed_low, draw.seed_high) * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v = v ^ (v >> vec4<u32>(16u));
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    var h = v.w;
    h = (h ^ (h >> 16u)) * 0x21f0aaadu;
    h = (h ^ (h >> 15u)) * 0xd35a2d97u;
    return h ^ (h >> 15u);
}

// -log(e) of an exponential variable e = -log(1 - u), u = (h + 1/2) / 2^32. A small e decides: it must be exact to a
// fraction of itself, which log is not near 1.
fn gumbel(h: u32) -> f32 {
    let scale = 2.3283064365386963e-10;
    var e: f32;
    if (h < 0x80000000u) {
        let u = (f32(h) + 0.5) * scale;
        // -log(1 - u) = 2 artanh(u / (2 - u))
        let s = u / (2.0 - u);
        let t = s * s;
        let far = 1.0 / 7.0 + t * (1.0 / 9.0 + t * (1.0 / 11.0 + t * (1.0 / 13.0)));
        e = 2.0 * s * (1.0 + t * (1.0 / 3.0 + t * (1.0 / 5.0 + t * far)));
    } else {
        e = -log((f32(~h) + 0.5) * scale);
    }
    return -log(e);
}

@compute @workgroup_size(LANES)
fn sample(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = group.x + group.y * groups.x;
    if (index >= params.rows) {
        return;
    }
    let draw = draws[index];
    var row: Row;
    row.first = index * params.columns;
    row.temperature = clamp(draw.temperature, 1e-30, 1e30);
    row.unit = 0.0;
    row.least = 1u;

    // written back: once for all passes, as each id stands in `seen` once
    if (draw.penalty != 1.0) {
        for (var i = lane; i < draw.seen; i += LANES) {
            let id = seen[draw.first_seen + i];
            if (id < params.columns) {
                logits[row.first + id] = penalised(logits[row.first + id], draw.penalty);
            }
        }
    }
    storageBarrier();

    var best = 0u;
    var choice = 0u;
    for (var place = lane; place < params.columns; place += 4u * LANES) {
        let keys = keys_at(row.first, place);
        let most = max(max(keys.x, keys.y), max(keys.z, keys.w));
        if (most > best) {
            best = most;
            let late = select(3u, 2u, keys.z == most);
            choice = place + LANES * select(select(late, 1u, keys.y == most), 0u, keys.x == most);
        }
    }
    reduce_best(lane, best, choice);
    let top = workgroupUniformLoad(&scan[0]);
    if (draw.temperature <= 0.0 || top == 0u) {
        if (lane == 0u) {
            ids[index] = select(places[0], NO_TOKEN, top == 0u);
        }
        return;
    }
    row.top = value_of(top);

    if (draw.top_k > 0u && draw.top_k < params.columns) {
        // fewer than k that are no NaN are all kept
        row.least = max(selected(row, lane, TOKENS, draw.top_k, 0.0).x, 1u);
    }

    var last = NONE; // of those with the smallest key, those up to this place are left
    if (draw.top_p < 1.0) {
        var sum = 0.0;
        for (var place = lane; place < params.columns; place += 4u * LANES) {
            let keys = keys_at(row.first, place);
            sum += weight(row, keys.x) + weight(row, keys.y) + weight(row, keys.z) + weight(row, keys.w);
        }
        row.unit = 2147483648.0 / reduce_sum(lane, sum);
        let least = selected(row, lane, MASS, 0u, draw.top_p);
        row.least = max(least.x, row.least);
        // of ties no more than needed, the lowest ids first
        let each = max(mass(row, least.x), 1u);
        let ties = (least.y + each - 1u) / each;
        if (ties * each < least.z) {
            last = ~selected(row, lane, TIES, ties, 0.0).x;
        }
    }

    best = 0u;
    choice = 0u;
    for (var place = lane; place < params.columns; place += LANES) {
        let key = key_at(row.first, place);
        let below = value_of(key) - row.top;
        let kept = key > row.least || (key == row.least && place <= last);
        if (kept && below >= -REACH * row.temperature) {
            let x = below / row.temperature;
            if (key == top || exp(x) >= draw.min_p) {
                let score = key_of(bitcast<u32>(x + gumbel(hash(place, draw))));
                if (score > best) {
                    best = score;
                    choice = place;
                }
            }
        }
    }
    reduce_best(lane, best, choice);
    if (lane == 0u) {
        ids[index] = places[0];
    }
}
