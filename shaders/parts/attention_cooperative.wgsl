// 128 invocations share a tile of 32 queries, whose scores beside 32 keys, and whose sums of 32 columns of the values,
// are four squares of 16 × 16 that subgroups multiply by cooperative matrices of f16 into f32. A head is staged in
// slices of 32 elements. Key tiles are counted from the sequence's first key, and keys that a query does not see weigh
// exactly 0, so that a query's bits are the same wherever tiles of queries begin.
//
// Rows of q, k and v are multiplied by powers of two (powers.wgsl), each by its own. Scores are divided by those of q
// and k. That of v, 2^(14 - e), is made good by the weights: 2^e · exp(s - top), where top is the largest s + e · ln 2
// so far, is at most 1 and so in the range of f16; the total of the weights is that of exp(s - top), in f32. When top
// grows, the total and the sums, which are f32 in registers, shrink. An invocation has 8 of a query's keys and columns.

override SLICES: u32 = 1u; // of 32 elements, as many as there is room for in a head: 1, 2 or 4

const LANES = 128u;
const SQUARES = 4u;
// elements between staged lines: 32 and a few, so that lines do not begin in the same banks
const PITCH = 40u;
const OTHERS = 1280u;
const LN2 = 0.6931472;
const TWO28 = 268435456.0;

// 32 lines of 32 elements: of queries, and, from OTHERS on, of keys or values
var<workgroup> staged: array<f16, 2560>;
var<workgroup> weights: array<f16, 1280>; // [query][key]
var<workgroup> drain: array<f32, 1024>; // what was multiplied, [query][key or column]
var<workgroup> zeros: array<f32, 256>; // from which sums begin
// of 32 queries, 32 keys and 32 rows of values: the bits of their largest magnitudes, and the factors
var<workgroup> largest: array<atomic<u32>, 96>;
var<workgroup> factors: array<f32, 96>;
var<workgroup> peaks: array<f32, 128>; // [query][8 keys]
var<workgroup> shares: array<f32, 128>;
var<workgroup> tickets: atomic<u32>;

// What an invocation stages, of line lane / 4: where the rows of queries, keys and values begin.
struct Own {
    lane: u32,
    q: u32,
    k: u32,
    v: u32,
}

fn attend(tile: Tile, head: u32, lane: u32) {
    let line = lane / 4u;
    let kv_column = kv_column_of(head);
    let in_tile = min(line, tile.queries - 1u);
    let query = tile.position + in_tile;
    let bias_row = bias_row_of(head, query);
    let last_key = tile.length - 1u;
    var own = Own(lane, 0u, 0u, 0u);
    own.q = (tile.row + in_tile) * params.q_stride + params.first_q + head * params.head_size;

    zeros[lane] = 0.0;
    zeros[lane + 128u] = 0.0;
    if (lane < 32u) {
        atomicStore(&largest[lane], 0u);
    }
    if (lane == 0u) {
        atomicStore(&tickets, 0u);
    }
    workgroupBarrier();
    var most = vec4<f32>();
    for (var quad = lane % 4u; quad < params.quads; quad += 4u) {
        most = max(most, abs(q4(own.q, quad)));
    }
    atomicMax(&largest[line], bits_of(most));
    // subgroups have no numbers here: the first invocation of each draws one for all of them
    var drawn = 0u;
    if (subgroupExclusiveAdd(1u) == 0u) {
        drawn = atomicAdd(&tickets, 1u);
    }
    let number = subgroupBroadcastFirst(drawn);
    workgroupBarrier();
    let subgroups = atomicLoad(&tickets);
    if (lane < 32u) {
        factors[lane] = factor_of(atomicLoad(&largest[lane]));
    }

    var highest = MASKED;
    var total = 0.0;
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var b0 = vec4<f32>();
    var b1 = vec4<f32>();
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var d0 = vec4<f32>();
    var d1 = vec4<f32>();
    let end = end_seen(tile);
    for (var first = first_seen(tile) / 32u * 32u; first < end; first += 32u) {
        // keys past the end are the last one again, and hidden
        let row = key_row(tile.keys, min(first + line, last_key)) * params.kv_stride + kv_column;
        own.k = row + params.first_k;
        own.v = row + params.first_v;
        measure(own);
        // fewer subgroups than squares take several turns, all together; more than squares have nothing to multiply
        for (var turn = 0u; turn < SQUARES; turn += subgroups) {
            scores(own, min(turn + subgroups, SQUARES), turn + number);
        }
        workgroupBarrier();

        // 8 keys of a query
        let key = 8u * (lane % 4u);
        let s0 = scores4(line, key, first, query, tile.length, bias_row);
        let s1 = scores4(line, key + 4u, first, query, tile.length, bias_row);
        let m0 = fma(exponents4(key), vec4<f32>(LN2), s0);
        let m1 = fma(exponents4(key + 4u), vec4<f32>(LN2), s1);
        let peak = max(m0, m1);
        peaks[lane] = max(max(peak.x, peak.y), max(peak.z, peak.w));
        workgroupBarrier();
        let all = 4u * line;
        let top = max(highest, max(max(peaks[all], peaks[all + 1u]), max(peaks[all + 2u], peaks[all + 3u])));
        let shrink = exp(highest - top);
        highest = top;
        let p0 = select(exp(s0 - top), vec4<f32>(), s0 < vec4<f32>(0.5 * MASKED));
        let p1 = select(exp(s1 - top), vec4<f32>(), s1 < vec4<f32>(0.5 * MASKED));
        // 2¹⁴ times as large as said above, so that fewer small ones are lost
        stage_weights(line * PITCH + key, p0 * powers4(key));
        stage_weights(line * PITCH + key + 4u, p1 * powers4(key + 4u));
        let sum = p0 + p1;
        shares[lane] = (sum.x + sum.y) + (sum.z + sum.w);
        workgroupBarrier();
        let share = (shares[all] + shares[all + 1u]) + (shares[all + 2u] + shares[all + 3u]);
        total = fma(total, shrink, share);

        // 8 columns of a query, of each slice
        let at = line * 32u + key;
        mix(own, 0u, subgroups, number);
        a0 = fma(a0, vec4<f32>(shrink), drained(at));
        a1 = fma(a1, vec4<f32>(shrink), drained(at + 4u));
        if (SLICES > 1u) {
            mix(own, 1u, subgroups, number);
            b0 = fma(b0, vec4<f32>(shrink), drained(at));
            b1 = fma(b1, vec4<f32>(shrink), drained(at + 4u));
        }
        if (SLICES > 2u) {
            mix(own, 2u, subgroups, number);
            c0 = fma(c0, vec4<f32>(shrink), drained(at));
            c1 = fma(c1, vec4<f32>(shrink), drained(at + 4u));
            mix(own, 3u, subgroups, number);
            d0 = fma(d0, vec4<f32>(shrink), drained(at));
            d1 = fma(d1, vec4<f32>(shrink), drained(at + 4u));
        }
    }

    if (line < tile.queries) {
        let z_at = ((tile.row + line) * params.heads + head) * params.head_size;
        let quad = 2u * (lane % 4u);
        store(z_at, quad, a0, total);
        store(z_at, quad + 1u, a1, total);
        if (SLICES > 1u) {
            store(z_at, quad + 8u, b0, total);
            store(z_at, quad + 9u, b1, total);
        }
        if (SLICES > 2u) {
            store(z_at, quad + 16u, c0, total);
            store(z_at, quad + 17u, c1, total);
            store(z_at, quad + 24u, d0, total);
            store(z_at, quad + 25u, d1, total);
        }
    }
}

// The factors of the tile's keys and values.
fn measure(own: Own) {
    let line = own.lane / 4u;
    workgroupBarrier(); // the readers of the factors before are done
    if (own.lane < 64u) {
        atomicStore(&largest[32u + own.lane], 0u);
    }
    workgroupBarrier();
    var most_k = vec4<f32>();
    var most_v = vec4<f32>();
    for (var quad = own.lane % 4u; quad < params.quads; quad += 4u) {
        most_k = max(most_k, abs(k4(own.k, quad)));
        most_v = max(most_v, abs(v4(own.v, quad)));
    }
    atomicMax(&largest[32u + line], bits_of(most_k));
    atomicMax(&largest[64u + line], bits_of(most_v));
    workgroupBarrier();
    if (own.lane < 64u) {
        factors[32u + own.lane] = factor_of(atomicLoad(&largest[32u + own.lane]));
    }
    workgroupBarrier();
}

// Stages a slice of queries and keys: an invocation 8 elements of each.
fn stage_scores(own: Own, slice: u32) {
    let line = own.lane / 4u;
    let quad = slice * 8u + 2u * (own.lane % 4u);
    var q0 = vec4<f32>();
    var q1 = vec4<f32>();
    var k0 = vec4<f32>();
    var k1 = vec4<f32>();
    if (quad < params.quads) {
        q0 = q4(own.q, quad);
        k0 = k4(own.k, quad);
    }
    if (quad + 1u < params.quads) {
        q1 = q4(own.q, quad + 1u);
        k1 = k4(own.k, quad + 1u);
    }
    let place = line * PITCH + 8u * (own.lane % 4u);
    workgroupBarrier(); // the readers of what was staged before are done
    stage4(place, q0 * factors[line]);
    stage4(place + 4u, q1 * factors[line]);
    stage4(OTHERS + place, k0 * factors[32u + line]);
    stage4(OTHERS + place + 4u, k1 * factors[32u + line]);
    workgroupBarrier();
}

// Multiplies the weights with a slice of the values.
fn mix(own: Own, slice: u32, subgroups: u32, number: u32) {
    let line = own.lane / 4u;
    let quad = slice * 8u + 2u * (own.lane % 4u);
    var v0 = vec4<f32>();
    var v1 = vec4<f32>();
    if (quad < params.quads) {
        v0 = v4(own.v, quad);
    }
    if (quad + 1u < params.quads) {
        v1 = v4(own.v, quad + 1u);
    }
    let place = OTHERS + line * PITCH + 8u * (own.lane % 4u);
    workgroupBarrier(); // the readers of keys, and of what was drained before, are done
    stage4(place, v0 * factors[64u + line]);
    stage4(place + 4u, v1 * factors[64u + line]);
    workgroupBarrier();
    for (var turn = 0u; turn < SQUARES; turn += subgroups) {
        weigh(min(turn + subgroups, SQUARES), turn + number);
    }
    workgroupBarrier();
}

fn stage4(place: u32, four: vec4<f32>) {
    let half = vec4<f16>(four);
    staged[place] = half.x;
    staged[place + 1u] = half.y;
    staged[place + 2u] = half.z;
    staged[place + 3u] = half.w;
}

fn stage_weights(place: u32, four: vec4<f32>) {
    let half = vec4<f16>(four);
    weights[place] = half.x;
    weights[place + 1u] = half.y;
    weights[place + 2u] = half.z;
    weights[place + 3u] = half.w;
}

// Scores of a query beside 4 keys of the key tile that begins with `first`.
fn scores4(line: u32, key: u32, first: u32, query: u32, length: u32, bias_row: u32) -> vec4<f32> {
    let q = inverse(factors[line]);
    let product = drained(line * 32u + key) * q;
    return vec4<f32>(
        scaled(product.x * inverse(factors[32u + key]), first + key, query, length, bias_row),
        scaled(product.y * inverse(factors[33u + key]), first + key + 1u, query, length, bias_row),
        scaled(product.z * inverse(factors[34u + key]), first + key + 2u, query, length, bias_row),
        scaled(product.w * inverse(factors[35u + key]), first + key + 3u, query, length, bias_row),
    );
}

// e of 4 keys' values.
fn exponents4(key: u32) -> vec4<f32> {
    return vec4<f32>(
        exponent(factors[64u + key]),
        exponent(factors[65u + key]),
        exponent(factors[66u + key]),
        exponent(factors[67u + key]),
    );
}

// e of a row that is multiplied by 2^(14 - e).
fn exponent(factor: f32) -> f32 {
    return 141.0 - f32(bitcast<u32>(factor) >> 23u);
}

// 2^(e + 14) of 4 keys' values.
fn powers4(key: u32) -> vec4<f32> {
    return TWO28 * vec4<f32>(
        inverse(factors[64u + key]),
        inverse(factors[65u + key]),
        inverse(factors[66u + key]),
        inverse(factors[67u + key]),
    );
}

fn drained(at: u32) -> vec4<f32> {
    return vec4<f32>(drain[at], drain[at + 1u], drain[at + 2u], drain[at + 3u]);
}

// Of a sum of products that are 2²⁸ times as large.
fn store(at: u32, quad: u32, sum: vec4<f32>, total: f32) {
    let value = sum * (1.0 / TWO28) / total;
    for (var i = 0u; i < 4u; i++) {
        if (quad * 4u + i < params.head_size) {
            z[at + quad * 4u + i] = value[i];
        }
    }
}
