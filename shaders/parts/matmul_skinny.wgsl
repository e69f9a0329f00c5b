// Tile through workgroup memory, for few rows on GPUs: 16 rows × 32 columns a workgroup of 128 invocations, each
// holding 2 rows of 2 columns, so that many workgroups share the weight. 32 elements of depth at a time are staged
// as they lie, along k, which nobody transposes: an invocation reads vec4s of its columns and of its rows, and takes
// their elements in turn.

const LANES = 128u;
// vec4s between staged columns: 8 and one more, so that neighbours meet different banks
const PITCH = 9u;

// [row][k] and [column][k], odd columns behind the even ones
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
    let even = line_of(first_column + 2u * line);
    let odd = line_of(first_column + 2u * line + 1u);
    // computing: lane's columns are 2·x and the next, its rows 2·y and the next
    let x = lane % 16u;
    let y = lane / 16u;
    var sum0 = vec2<f32>();
    var sum1 = vec2<f32>();
    for (var k4 = 0u; k4 < params.depth4; k4 += 8u) {
        var a = vec4<f32>();
        var w = vec4<f32>();
        var v = vec4<f32>();
        if (k4 + step < params.depth4) {
            a = row4(first_row + line, k4 + step);
            w = weight4(even + k4 + step);
            v = weight4(odd + k4 + step);
        }
        workgroupBarrier(); // the readers of the previous step are done
        staged_rows[lane] = a;
        staged_weight[line * PITCH + step] = w;
        staged_weight[(line + 16u) * PITCH + step] = v;
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let c = staged_weight[x * PITCH + k];
            let d = staged_weight[(x + 16u) * PITCH + k];
            sum0 = add(sum0, staged_rows[16u * y + k], c, d);
            sum1 = add(sum1, staged_rows[16u * y + 8u + k], c, d);
        }
    }
    let row = first_row + 2u * y;
    let column = first_column + 2u * x;
    finish2(row, column, sum0);
    finish2(row + 1u, column, sum1);
}

// Four terms of the sums of two columns, in their order.
fn add(sums: vec2<f32>, a: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> vec2<f32> {
    let two = fma(a.yy, vec2<f32>(c.y, d.y), fma(a.xx, vec2<f32>(c.x, d.x), sums));
    return fma(a.ww, vec2<f32>(c.w, d.w), fma(a.zz, vec2<f32>(c.z, d.z), two));
}
