// Few rows without workgroup memory, for drivers that run on the CPU: an invocation holds 4 columns, and sums each as
// one chain of fma over ascending k.

const LANES = 8u;

fn product(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let row = group / across * 4u;
    let column = group % across * 32u + lane * 4u;
    if (row >= params.rows || column >= params.columns) {
        return;
    }
    let last = params.columns - 1u;
    let first0 = column * params.depth4;
    let first1 = min(column + 1u, last) * params.depth4;
    let first2 = min(column + 2u, last) * params.depth4;
    let first3 = min(column + 3u, last) * params.depth4;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    let alone = row + 1u == params.rows;
    for (var k = 0u; k < params.depth4; k++) {
        let w0 = weight4(first0 + k);
        let w1 = weight4(first1 + k);
        let w2 = weight4(first2 + k);
        let w3 = weight4(first3 + k);
        let x = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
        let y = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
        let z = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
        let w = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        sum0 = step4(sum0, row4(row, k), x, y, z, w);
        if (!alone) {
            sum1 = step4(sum1, row4(row + 1u, k), x, y, z, w);
            sum2 = step4(sum2, row4(row + 2u, k), x, y, z, w);
            sum3 = step4(sum3, row4(row + 3u, k), x, y, z, w);
        }
    }
    finish4(row, column, sum0);
    finish4(row + 1u, column, sum1);
    finish4(row + 2u, column, sum2);
    finish4(row + 3u, column, sum3);
}
