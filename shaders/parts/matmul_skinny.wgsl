// Tile through workgroup memory, for few rows on GPUs: 16 rows × 32 columns a workgroup of 128 invocations, each
// holding 4 rows of one column, so that many workgroups share the weight. 32 elements of depth at a time are staged
// as they lie, along k, which nobody transposes: an invocation reads vec4s of its column and of its rows, and takes
// their elements in turn.

const LANES = 128u;
// vec4s between staged columns: 8 and one more, so that neighbours meet different banks
const PITCH = 9u;

// [row][k] and [column][k]
var<workgroup> staged_rows: array<vec4<f32>, 128>;
var<workgroup> staged_weight: array<vec4<f32>, 288>;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let first_row = (group / across) * 16u;
    let first_column = (group % across) * 32u;
    if (first_row >= params.rows) {
        return;
    }
    // staging: 8 invocations load a line's vec4s, of one row and of two columns
    let line = lane / 8u;
    let step = lane % 8u;
    let last = params.columns - 1u;
    let upper = min(first_column + line, last) * params.depth4;
    let lower = min(first_column + line + 16u, last) * params.depth4;
    // computing: lane's column is x, its rows are 4·y to 4·y + 3
    let x = lane % 32u;
    let y = lane / 32u;
    var sum0 = 0.0;
    var sum1 = 0.0;
    var sum2 = 0.0;
    var sum3 = 0.0;
    for (var k4 = 0u; k4 < params.depth4; k4 += 8u) {
        var a = vec4<f32>();
        var w = vec4<f32>();
        var v = vec4<f32>();
        if (k4 + step < params.depth4) {
            a = row4(first_row + line, k4 + step);
            w = weight4(upper + k4 + step);
            v = weight4(lower + k4 + step);
        }
        workgroupBarrier(); // the readers of the previous step are done
        staged_rows[lane] = a;
        staged_weight[line * PITCH + step] = w;
        staged_weight[(line + 16u) * PITCH + step] = v;
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let c = staged_weight[x * PITCH + k];
            sum0 = add(sum0, staged_rows[32u * y + k], c);
            sum1 = add(sum1, staged_rows[32u * y + 8u + k], c);
            sum2 = add(sum2, staged_rows[32u * y + 16u + k], c);
            sum3 = add(sum3, staged_rows[32u * y + 24u + k], c);
        }
    }
    let row = first_row + 4u * y;
    let column = first_column + x;
    finish(row, column, sum0);
    finish(row + 1u, column, sum1);
    finish(row + 2u, column, sum2);
    finish(row + 3u, column, sum3);
}

// Four terms of a sum, in their order.
fn add(sum: f32, a: vec4<f32>, w: vec4<f32>) -> f32 {
    return fma(a.w, w.w, fma(a.z, w.z, fma(a.y, w.y, fma(a.x, w.x, sum))));
}
