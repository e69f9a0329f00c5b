// 64 invocations share a tile, in a grid of ACROSS: each has 4 queries beside 4 of 4·ACROSS keys, which are staged in
// workgroup memory a slice of the head's depth at a time, and then the same 4 queries beside COLUMNS vec4s of the
// values. ACROSS is 8 or 16, so that the tile has 32 or 16 queries, and a key tile 32 or 64 keys, in whole groups of 8:
// where key tiles begin changes no bit. A vec4 of scores, weights or totals is of the 4 queries.

override ACROSS: u32 = 8u;
override COLUMNS: u32 = 1u; // 1, 2 or 4

const LANES = 64u;
const QUERIES_AT = 256u;

// a slice of keys and, from QUERIES_AT on, of queries, [element of the head][4 of them]; then values, [key][quad]
var<workgroup> stage: array<vec4<f32>, 512>;
var<workgroup> weights: array<vec4<f32>, 256>; // [key][queries]
// of each half of a group of keys, [half][queries]: the largest score; the sum of the weights
var<workgroup> peaks: array<vec4<f32>, 64>;
var<workgroup> shares: array<vec4<f32>, 64>;
var<workgroup> shrinks: array<vec4<f32>, 32>; // what sums shrink by before a group is added, [group][queries]

// Of lines of that many vec4s. A line is turned by some places, so that neighbours write to different banks that lie
// one below the other, as they do who transpose.
fn place(line: u32, width: u32, column: u32, turn: u32) -> u32 {
    return line * width + (column + turn) % width;
}

// Stages a square of 4 elements of 4 lines, transposed.
fn stage_square(first: u32, width: u32, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    stage[first] = vec4<f32>(a.x, b.x, c.x, d.x);
    stage[first + width] = vec4<f32>(a.y, b.y, c.y, d.y);
    stage[first + 2u * width] = vec4<f32>(a.z, b.z, c.z, d.z);
    stage[first + 3u * width] = vec4<f32>(a.w, b.w, c.w, d.w);
}

fn scaled4(score: vec4<f32>, key: u32, queries: vec4<u32>, length: u32, head: u32) -> vec4<f32> {
    return vec4<f32>(
        scaled(score.x, key, queries.x, length, bias_row_of(head, queries.x)),
        scaled(score.y, key, queries.y, length, bias_row_of(head, queries.y)),
        scaled(score.z, key, queries.z, length, bias_row_of(head, queries.z)),
        scaled(score.w, key, queries.w, length, bias_row_of(head, queries.w)),
    );
}

fn store(at: u32, quad: u32, value: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (quad * 4u + i < params.head_size) {
            z[at + quad * 4u + i] = value[i];
        }
    }
}

fn attend(tile: Tile, head: u32, lane: u32) {
    let rows = LANES / ACROSS; // of 4 queries each; as many quads of depth are a slice
    let keys = 4u * ACROSS;
    let quads = ACROSS * COLUMNS; // room for a head
    let across = lane % ACROSS;
    let down = lane / ACROSS;
    let half = across % 2u;
    let group = across / 2u;
    let last_key = tile.length - 1u;
    let q_at = params.first_q + head * params.head_size;
    let k_at = params.first_k + kv_column_of(head);
    let v_at = params.first_v + kv_column_of(head);
    // those past the tile's end are the last one again, and not stored
    let queries = tile.position + min(4u * down + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(tile.queries - 1u));

    // the square that this invocation stages: 4 keys, and 4 queries where there are so many
    let square = lane / rows;
    let own_rows = tile.row + min(4u * square + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(tile.queries - 1u));
    let q_rows = own_rows * params.q_stride + q_at;
    let depth = lane % rows;

    var largest = vec4<f32>(MASKED);
    var total = vec4<f32>();
    // sums of the first, second, third and fourth query, of up to four columns
    var a0 = vec4<f32>();
    var a1 = vec4<f32>();
    var a2 = vec4<f32>();
    var a3 = vec4<f32>();
    var b0 = vec4<f32>();
    var b1 = vec4<f32>();
    var b2 = vec4<f32>();
    var b3 = vec4<f32>();
    var c0 = vec4<f32>();
    var c1 = vec4<f32>();
    var c2 = vec4<f32>();
    var c3 = vec4<f32>();
    var d0 = vec4<f32>();
    var d1 = vec4<f32>();
    var d2 = vec4<f32>();
    var d3 = vec4<f32>();
    let end = end_seen(tile);
    for (var first = first_seen(tile); first < end; first += keys) {
        // scores of 4 keys; 4 keys that begin at a multiple of 4 are neighbours, and those past the end the last again
        var s0 = vec4<f32>();
        var s1 = vec4<f32>();
        var s2 = vec4<f32>();
        var s3 = vec4<f32>();
        let staged_key = min(first + 4u * square, last_key);
        let behind = min(vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last_key - staged_key));
        let k_rows = (key_row(tile.keys, staged_key) + behind) * params.kv_stride + k_at;
        for (var slice = 0u; slice < params.quads; slice += rows) {
            let quad = slice + depth;
            var k0 = vec4<f32>();
            var k1 = vec4<f32>();
            var k2 = vec4<f32>();
            var k3 = vec4<f32>();
            var q0 = vec4<f32>();
            var q1 = vec4<f32>();
            var q2 = vec4<f32>();
            var q3 = vec4<f32>();
            if (quad < params.quads) {
                k0 = k4(k_rows.x, quad);
                k1 = k4(k_rows.y, quad);
                k2 = k4(k_rows.z, quad);
                k3 = k4(k_rows.w, quad);
                q0 = q4(q_rows.x, quad);
                q1 = q4(q_rows.y, quad);
                q2 = q4(q_rows.z, quad);
                q3 = q4(q_rows.w, quad);
            }
            workgroupBarrier(); // the readers of what was staged before are done
            stage_square(place(4u * depth, ACROSS, square, depth * (ACROSS / 8u)), ACROSS, k0, k1, k2, k3);
            if (square < rows) {
                stage_square(QUERIES_AT + place(4u * depth, rows, square, depth), rows, q0, q1, q2, q3);
            }
            workgroupBarrier();
            for (var i = 0u; i < rows; i++) {
                let k_place = place(4u * i, ACROSS, across, i * (ACROSS / 8u));
                let q_place = QUERIES_AT + place(4u * i, rows, down, i);
                for (var d = 0u; d < 4u; d++) {
                    let k = stage[k_place + d * ACROSS];
                    let q = stage[q_place + d * rows];
                    s0 = fma(q, vec4<f32>(k.x), s0);
                    s1 = fma(q, vec4<f32>(k.y), s1);
                    s2 = fma(q, vec4<f32>(k.z), s2);
                    s3 = fma(q, vec4<f32>(k.w), s3);
                }
            }
        }
        let key = first + 4u * across;
        s0 = scaled4(s0, key, queries, tile.length, head);
        s1 = scaled4(s1, key + 1u, queries, tile.length, head);
        s2 = scaled4(s2, key + 2u, queries, tile.length, head);
        s3 = scaled4(s3, key + 3u, queries, tile.length, head);
        peaks[place(across, rows, down, across)] = max(max(s0, s1), max(s2, s3));
        workgroupBarrier();

        // the largest score so far, behind each group; and in front of the own one
        var before = largest;
        var top = largest;
        for (var g = 0u; g < ACROSS / 2u; g++) {
            let lower = peaks[place(2u * g, rows, down, 2u * g)];
            let upper = peaks[place(2u * g + 1u, rows, down, 2u * g + 1u)];
            let next = max(largest, max(lower, upper));
            if (g == group) {
                before = largest;
                top = next;
            }
            largest = next;
        }
        let p0 = exp(s0 - top);
        let p1 = exp(s1 - top);
        let p2 = exp(s2 - top);
        let p3 = exp(s3 - top);
        weights[place(4u * across, rows, down, across)] = p0;
        weights[place(4u * across + 1u, rows, down, across)] = p1;
        weights[place(4u * across + 2u, rows, down, across)] = p2;
        weights[place(4u * across + 3u, rows, down, across)] = p3;
        shares[place(across, rows, down, across)] = (p0 + p1) + (p2 + p3);
        if (half == 0u) {
            shrinks[place(group, rows, down, 0u)] = exp(before - top);
        }

        // as many keys' values at a time as the stage holds, but for groups that nobody sees
        let held = min(512u / quads, keys);
        let seen = min(end - first, keys);
        for (var start = 0u; start < seen; start += held) {
            workgroupBarrier();
            for (var i = lane; i < held * quads; i += LANES) {
                let quad = i % quads;
                if (quad < params.quads) {
                    let row = key_row(tile.keys, min(first + start + i / quads, last_key));
                    stage[i] = v4(row * params.kv_stride + v_at, quad);
                }
            }
            workgroupBarrier();
            for (var g = start / 8u; 8u * g < min(start + held, seen); g++) {
                let shrink = shrinks[place(g, rows, down, 0u)];
                let lower = shares[place(2u * g, rows, down, 2u * g)];
                let upper = shares[place(2u * g + 1u, rows, down, 2u * g + 1u)];
                total = fma(total, shrink, lower + upper);
                if (any(shrink != vec4<f32>(1.0))) {
                    a0 *= shrink.x;
                    b0 *= shrink.y;
                    c0 *= shrink.z;
                    d0 *= shrink.w;
                    if (COLUMNS > 1u) {
                        a1 *= shrink.x;
                        b1 *= shrink.y;
                        c1 *= shrink.z;
                        d1 *= shrink.w;
                    }
                    if (COLUMNS > 2u) {
                        a2 *= shrink.x;
                        b2 *= shrink.y;
                        c2 *= shrink.z;
                        d2 *= shrink.w;
                        a3 *= shrink.x;
                        b3 *= shrink.y;
                        c3 *= shrink.z;
                        d3 *= shrink.w;
                    }
                }
                for (var j = 8u * g; j < 8u * g + 8u; j++) {
                    let p = weights[place(j, rows, down, j / 4u)];
                    let v_place = (j - start) * quads + across;
                    let v0 = stage[v_place];
                    a0 = fma(vec4<f32>(p.x), v0, a0);
                    b0 = fma(vec4<f32>(p.y), v0, b0);
                    c0 = fma(vec4<f32>(p.z), v0, c0);
                    d0 = fma(vec4<f32>(p.w), v0, d0);
                    if (COLUMNS > 1u) {
                        let v1 = stage[v_place + ACROSS];
                        a1 = fma(vec4<f32>(p.x), v1, a1);
                        b1 = fma(vec4<f32>(p.y), v1, b1);
                        c1 = fma(vec4<f32>(p.z), v1, c1);
                        d1 = fma(vec4<f32>(p.w), v1, d1);
                    }
                    if (COLUMNS > 2u) {
                        let v2 = stage[v_place + 2u * ACROSS];
                        a2 = fma(vec4<f32>(p.x), v2, a2);
                        b2 = fma(vec4<f32>(p.y), v2, b2);
                        c2 = fma(vec4<f32>(p.z), v2, c2);
                        d2 = fma(vec4<f32>(p.w), v2, d2);
                        let v3 = stage[v_place + 3u * ACROSS];
                        a3 = fma(vec4<f32>(p.x), v3, a3);
                        b3 = fma(vec4<f32>(p.y), v3, b3);
                        c3 = fma(vec4<f32>(p.z), v3, c3);
                        d3 = fma(vec4<f32>(p.w), v3, d3);
                    }
                }
            }
        }
    }

    let stride = params.heads * params.head_size;
    let z_at = (tile.row + 4u * down) * stride + head * params.head_size;
    let mine = tile.queries - min(tile.queries, 4u * down);
    if (mine > 0u) {
        store4(z_at, across, a0, a1, a2, a3, total.x);
    }
    if (mine > 1u) {
        store4(z_at + stride, across, b0, b1, b2, b3, total.y);
    }
    if (mine > 2u) {
        store4(z_at + 2u * stride, across, c0, c1, c2, c3, total.z);
    }
    if (mine > 3u) {
        store4(z_at + 3u * stride, across, d0, d1, d2, d3, total.w);
    }
}

// A query's columns of z.
fn store4(at: u32, across: u32, s0: vec4<f32>, s1: vec4<f32>, s2: vec4<f32>, s3: vec4<f32>, total: f32) {
    store(at, across, s0 / total);
    if (COLUMNS > 1u) {
        store(at, across + ACROSS, s1 / total);
    }
    if (COLUMNS > 2u) {
        store(at, across + 2u * ACROSS, s2 / total);
        store(at, across + 3u * ACROSS, s3 / total);
    }
}
