// An invocation is one query of the tile, and passes over the keys 8 at a time. A share part says whether a group of
// keys is loaded by all invocations or by one for each key, a state part where a query's sums are.

override LANES: u32 = 32u; // queries a tile

// One more chain of fma along the head.
fn along(score: f32, q: vec4<f32>, k: vec4<f32>) -> f32 {
    return fma(q.w, k.w, fma(q.z, k.z, fma(q.y, k.y, fma(q.x, k.x, score))));
}

fn attend(tile: Tile, head: u32, lane: u32) {
    let length = tile.length;
    let own = min(lane, tile.queries - 1u);
    let query = tile.position + own;
    let column = head * params.head_size;
    let q_at = (tile.row + own) * params.q_stride + params.first_q + column;
    let k_at = params.first_k + kv_column_of(head);
    let v_at = params.first_v + kv_column_of(head);
    let first_key = first_seen(tile);
    let end = end_seen(tile);
    let bias_row = bias_row_of(head, query);

    begin(lane, q_at);
    var largest = MASKED;
    var total = 0.0;
    for (var key = first_key; key < end; key += 8u) {
        // the 8 keys of a group are neighbours; those past the end read the last one, and are hidden
        let row = key_row(tile.keys, key);
        let behind = length - 1u - key;
        let row0 = row * params.kv_stride;
        let row1 = (row + min(1u, behind)) * params.kv_stride;
        let row2 = (row + min(2u, behind)) * params.kv_stride;
        let row3 = (row + min(3u, behind)) * params.kv_stride;
        let row4 = (row + min(4u, behind)) * params.kv_stride;
        let row5 = (row + min(5u, behind)) * params.kv_stride;
        let row6 = (row + min(6u, behind)) * params.kv_stride;
        let row7 = (row + min(7u, behind)) * params.kv_stride;
        let own_row = (row + min(lane % 8u, behind)) * params.kv_stride;
        var s0 = 0.0;
        var s1 = 0.0;
        var s2 = 0.0;
        var s3 = 0.0;
        var s4 = 0.0;
        var s5 = 0.0;
        var s6 = 0.0;
        var s7 = 0.0;
        for (var d = 0u; d < quads(); d++) {
            let q = query4(q_at, d);
            let mine = k4(k_at + own_row, d);
            s0 = along(s0, q, key4(mine, 0u, k_at + row0, d));
            s1 = along(s1, q, key4(mine, 1u, k_at + row1, d));
            s2 = along(s2, q, key4(mine, 2u, k_at + row2, d));
            s3 = along(s3, q, key4(mine, 3u, k_at + row3, d));
            s4 = along(s4, q, key4(mine, 4u, k_at + row4, d));
            s5 = along(s5, q, key4(mine, 5u, k_at + row5, d));
            s6 = along(s6, q, key4(mine, 6u, k_at + row6, d));
            s7 = along(s7, q, key4(mine, 7u, k_at + row7, d));
        }
        s0 = scaled(s0, key, query, length, bias_row);
        s1 = scaled(s1, key + 1u, query, length, bias_row);
        s2 = scaled(s2, key + 2u, query, length, bias_row);
        s3 = scaled(s3, key + 3u, query, length, bias_row);
        s4 = scaled(s4, key + 4u, query, length, bias_row);
        s5 = scaled(s5, key + 5u, query, length, bias_row);
        s6 = scaled(s6, key + 6u, query, length, bias_row);
        s7 = scaled(s7, key + 7u, query, length, bias_row);
        let highest = max(max(max(s0, s1), max(s2, s3)), max(max(s4, s5), max(s6, s7)));
        let top = max(largest, highest);
        let shrink = exp(largest - top);
        largest = top;
        let p0 = exp(s0 - top);
        let p1 = exp(s1 - top);
        let p2 = exp(s2 - top);
        let p3 = exp(s3 - top);
        let p4 = exp(s4 - top);
        let p5 = exp(s5 - top);
        let p6 = exp(s6 - top);
        let p7 = exp(s7 - top);
        total = fma(total, shrink, ((p0 + p1) + (p2 + p3)) + ((p4 + p5) + (p6 + p7)));
        for (var d = 0u; d < quads(); d++) {
            let mine = v4(v_at + own_row, d);
            var sum = sum_of(lane, d) * shrink;
            sum = fma(vec4<f32>(p0), value4(mine, 0u, v_at + row0, d), sum);
            sum = fma(vec4<f32>(p1), value4(mine, 1u, v_at + row1, d), sum);
            sum = fma(vec4<f32>(p2), value4(mine, 2u, v_at + row2, d), sum);
            sum = fma(vec4<f32>(p3), value4(mine, 3u, v_at + row3, d), sum);
            sum = fma(vec4<f32>(p4), value4(mine, 4u, v_at + row4, d), sum);
            sum = fma(vec4<f32>(p5), value4(mine, 5u, v_at + row5, d), sum);
            sum = fma(vec4<f32>(p6), value4(mine, 6u, v_at + row6, d), sum);
            sum = fma(vec4<f32>(p7), value4(mine, 7u, v_at + row7, d), sum);
            set_sum(lane, d, sum);
        }
    }

    if (lane < tile.queries) {
        let at = (tile.row + lane) * params.heads * params.head_size + column;
        for (var d = 0u; d < quads(); d++) {
            let value = sum_of(lane, d) / total;
            for (var i = 0u; i < 4u; i++) {
                if (d * 4u + i < params.head_size) {
                    z[at + d * 4u + i] = value[i];
                }
            }
        }
    }
}
