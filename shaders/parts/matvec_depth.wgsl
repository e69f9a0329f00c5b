// Few rows for GPUs: a workgroup holds 4 columns, and its invocations stand along k, so that neighbours read
// neighbouring elements of the weight, and each element of a row serves 4 columns. One tree in workgroup memory then
// adds up all columns and rows at once, in the same order on every device.

const LANES = 64u;

var<workgroup> partial: array<vec4<f32>, 256>; // [row][lane] of 4 columns

fn product(group: u32, lane: u32) {
    let across = (params.columns + 3u) / 4u;
    let row = group / across * 4u;
    let column = group % across * 4u;
    if (row >= params.rows) {
        return;
    }
    let first0 = line_of(column);
    let first1 = line_of(column + 1u);
    let first2 = line_of(column + 2u);
    let first3 = line_of(column + 3u);
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    let many = min(4u, params.rows - row);
    for (var k = lane; k < params.depth4; k += LANES) {
        let w0 = weight4(first0 + k);
        let w1 = weight4(first1 + k);
        let w2 = weight4(first2 + k);
        let w3 = weight4(first3 + k);
        let x = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
        let y = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
        let z = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
        let w = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        sum0 = step4(sum0, row4(row, k), x, y, z, w);
        if (many > 1u) {
            sum1 = step4(sum1, row4(row + 1u, k), x, y, z, w);
            sum2 = step4(sum2, row4(row + 2u, k), x, y, z, w);
            sum3 = step4(sum3, row4(row + 3u, k), x, y, z, w);
        }
    }
    partial[lane] = sum0;
    partial[lane + 64u] = sum1;
    partial[lane + 128u] = sum2;
    partial[lane + 192u] = sum3;
    for (var width = 32u; width > 0u; width = width / 2u) {
        workgroupBarrier();
        if (lane < width) {
            for (var i = lane; i < 64u * many; i += 64u) {
                partial[i] = partial[i] + partial[i + width];
            }
        }
    }
    workgroupBarrier();
    // 2 lanes a row, of two columns each
    if (lane < 2u * many) {
        let sums = partial[lane / 2u * 64u];
        finish2(row + lane / 2u, column + lane % 2u * 2u, select(sums.xy, sums.zw, lane % 2u == 1u));
    }
}

// One step of 4 columns along k: a row's element times theirs, in the order x, y, z, w.
fn step4(sum: vec4<f32>, a: vec4<f32>, x: vec4<f32>, y: vec4<f32>, z: vec4<f32>, w: vec4<f32>) -> vec4<f32> {
    return fma(vec4<f32>(a.w), w, fma(vec4<f32>(a.z), z, fma(vec4<f32>(a.y), y, fma(vec4<f32>(a.x), x, sum))));
}
