// Tile of 16 rows × 4 columns an invocation, without workgroup memory, for drivers that run on the CPU: these load for
// each invocation by itself, so that each of 8 loads other rows and hands them to the rest of its subgroup. A load of
// the weight serves 16 rows. No invocation leaves early: the others need its rows.

const LANES = 8u;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let row = (group / across) * 16u;
    let column = (group % across) * 32u + lane * 4u;
    let last = params.columns - 1u;
    let first0 = min(column, last) * params.depth4;
    let first1 = min(column + 1u, last) * params.depth4;
    let first2 = min(column + 2u, last) * params.depth4;
    let first3 = min(column + 3u, last) * params.depth4;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    var sum4 = vec4<f32>();
    var sum5 = vec4<f32>();
    var sum6 = vec4<f32>();
    var sum7 = vec4<f32>();
    var sum8 = vec4<f32>();
    var sum9 = vec4<f32>();
    var sum10 = vec4<f32>();
    var sum11 = vec4<f32>();
    var sum12 = vec4<f32>();
    var sum13 = vec4<f32>();
    var sum14 = vec4<f32>();
    var sum15 = vec4<f32>();
    for (var k = 0u; k < params.depth4; k++) {
        let w0 = weight4(first0 + k);
        let w1 = weight4(first1 + k);
        let w2 = weight4(first2 + k);
        let w3 = weight4(first3 + k);
        let x = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
        let y = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
        let z = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
        let w = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        let own0 = row4(row + 0u + lane, k);
        let own1 = row4(row + 8u + lane, k);
        sum0 = add4(sum0, subgroupBroadcast(own0, 0u), x, y, z, w);
        sum1 = add4(sum1, subgroupBroadcast(own0, 1u), x, y, z, w);
        sum2 = add4(sum2, subgroupBroadcast(own0, 2u), x, y, z, w);
        sum3 = add4(sum3, subgroupBroadcast(own0, 3u), x, y, z, w);
        sum4 = add4(sum4, subgroupBroadcast(own0, 4u), x, y, z, w);
        sum5 = add4(sum5, subgroupBroadcast(own0, 5u), x, y, z, w);
        sum6 = add4(sum6, subgroupBroadcast(own0, 6u), x, y, z, w);
        sum7 = add4(sum7, subgroupBroadcast(own0, 7u), x, y, z, w);
        sum8 = add4(sum8, subgroupBroadcast(own1, 0u), x, y, z, w);
        sum9 = add4(sum9, subgroupBroadcast(own1, 1u), x, y, z, w);
        sum10 = add4(sum10, subgroupBroadcast(own1, 2u), x, y, z, w);
        sum11 = add4(sum11, subgroupBroadcast(own1, 3u), x, y, z, w);
        sum12 = add4(sum12, subgroupBroadcast(own1, 4u), x, y, z, w);
        sum13 = add4(sum13, subgroupBroadcast(own1, 5u), x, y, z, w);
        sum14 = add4(sum14, subgroupBroadcast(own1, 6u), x, y, z, w);
        sum15 = add4(sum15, subgroupBroadcast(own1, 7u), x, y, z, w);
    }
    // what follows is compiled once, not 16 times
    var sums: array<vec4<f32>, 16>;
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
    sums[4] = sum4;
    sums[5] = sum5;
    sums[6] = sum6;
    sums[7] = sum7;
    sums[8] = sum8;
    sums[9] = sum9;
    sums[10] = sum10;
    sums[11] = sum11;
    sums[12] = sum12;
    sums[13] = sum13;
    sums[14] = sum14;
    sums[15] = sum15;
    let count = min(16u, params.rows - row);
    for (var i = 0u; i < count; i++) {
        finish4(row + i, column, sums[i]);
    }
}

// Four terms of the sums of one row, in their order.
fn add4(sum: vec4f, a: vec4f, x: vec4f, y: vec4f, z: vec4f, w: vec4f) -> vec4f {
    return fma(vec4f(a.w), w, fma(vec4f(a.z), z, fma(vec4f(a.y), y, fma(vec4f(a.x), x, sum))));
}
