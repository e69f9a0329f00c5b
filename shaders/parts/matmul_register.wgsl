// Tile without workgroup memory, for drivers that run on the CPU: an invocation holds 8 rows × 4 columns. The rows
// are the same for the whole workgroup, so that their loads are uniform; each weight load serves 8 rows.

const LANES = 8u;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let row = (group / across) * 8u;
    let column = (group % across) * 32u + lane * 4u;
    if (row >= params.rows || column >= params.columns) {
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
    var sum4 = vec4<f32>();
    var sum5 = vec4<f32>();
    var sum6 = vec4<f32>();
    var sum7 = vec4<f32>();
    for (var k = 0u; k < params.depth4; k++) {
        let w0 = weight4(first0 + k);
        let w1 = weight4(first1 + k);
        let w2 = weight4(first2 + k);
        let w3 = weight4(first3 + k);
        let x = vec4<f32>(w0.x, w1.x, w2.x, w3.x);
        let y = vec4<f32>(w0.y, w1.y, w2.y, w3.y);
        let z = vec4<f32>(w0.z, w1.z, w2.z, w3.z);
        let w = vec4<f32>(w0.w, w1.w, w2.w, w3.w);
        let a0 = row4(row + 0u, k);
        let a1 = row4(row + 1u, k);
        let a2 = row4(row + 2u, k);
        let a3 = row4(row + 3u, k);
        let a4 = row4(row + 4u, k);
        let a5 = row4(row + 5u, k);
        let a6 = row4(row + 6u, k);
        let a7 = row4(row + 7u, k);
        sum0 = fma(vec4<f32>(a0.x), x, sum0);
        sum0 = fma(vec4<f32>(a0.y), y, sum0);
        sum0 = fma(vec4<f32>(a0.z), z, sum0);
        sum0 = fma(vec4<f32>(a0.w), w, sum0);
        sum1 = fma(vec4<f32>(a1.x), x, sum1);
        sum1 = fma(vec4<f32>(a1.y), y, sum1);
        sum1 = fma(vec4<f32>(a1.z), z, sum1);
        sum1 = fma(vec4<f32>(a1.w), w, sum1);
        sum2 = fma(vec4<f32>(a2.x), x, sum2);
        sum2 = fma(vec4<f32>(a2.y), y, sum2);
        sum2 = fma(vec4<f32>(a2.z), z, sum2);
        sum2 = fma(vec4<f32>(a2.w), w, sum2);
        sum3 = fma(vec4<f32>(a3.x), x, sum3);
        sum3 = fma(vec4<f32>(a3.y), y, sum3);
        sum3 = fma(vec4<f32>(a3.z), z, sum3);
        sum3 = fma(vec4<f32>(a3.w), w, sum3);
        sum4 = fma(vec4<f32>(a4.x), x, sum4);
        sum4 = fma(vec4<f32>(a4.y), y, sum4);
        sum4 = fma(vec4<f32>(a4.z), z, sum4);
        sum4 = fma(vec4<f32>(a4.w), w, sum4);
        sum5 = fma(vec4<f32>(a5.x), x, sum5);
        sum5 = fma(vec4<f32>(a5.y), y, sum5);
        sum5 = fma(vec4<f32>(a5.z), z, sum5);
        sum5 = fma(vec4<f32>(a5.w), w, sum5);
        sum6 = fma(vec4<f32>(a6.x), x, sum6);
        sum6 = fma(vec4<f32>(a6.y), y, sum6);
        sum6 = fma(vec4<f32>(a6.z), z, sum6);
        sum6 = fma(vec4<f32>(a6.w), w, sum6);
        sum7 = fma(vec4<f32>(a7.x), x, sum7);
        sum7 = fma(vec4<f32>(a7.y), y, sum7);
        sum7 = fma(vec4<f32>(a7.z), z, sum7);
        sum7 = fma(vec4<f32>(a7.w), w, sum7);
    }
    finish4(row + 0u, column, sum0);
    finish4(row + 1u, column, sum1);
    finish4(row + 2u, column, sum2);
    finish4(row + 3u, column, sum3);
    finish4(row + 4u, column, sum4);
    finish4(row + 5u, column, sum5);
    finish4(row + 6u, column, sum6);
    finish4(row + 7u, column, sum7);
}
