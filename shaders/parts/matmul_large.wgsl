// Tile through workgroup memory, for large products on GPUs: 128 rows × 128 columns a workgroup of 16 × 16
// invocations, each holding 8 rows × 8 columns, so that a vec4 that is loaded from workgroup memory serves 16 sums.
// 16 elements of depth at a time are staged, by squares of 4 × 4 that an invocation transposes, so that only whole
// vec4s are written. Workgroups go down 8 tiles before they go right, so that those that run together find each
// other's rows and weights in the cache.

const LANES = 256u;
// tiles of rows that share the columns of a panel
const PANEL = 8u;

// [k][4 rows] and [k][4 columns]: 32 vec4s for each k, exchanged so that a stage's writers meet different banks
var<workgroup> staged_rows: array<vec4<f32>, 512>;
var<workgroup> staged_weight: array<vec4<f32>, 512>;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 127u) / 128u;
    let down = (params.rows + 127u) / 128u;
    if (group >= across * down) {
        return;
    }
    let first_down = (group / (PANEL * across)) * PANEL;
    let tall = min(down - first_down, PANEL);
    let within = group % (PANEL * across);
    let first_row = (first_down + within % tall) * 128u;
    let first_column = (within / tall) * 128u;
    // staging: the first half of the invocations takes rows, the other one columns; each 4 lines of a vec4
    let step = lane % 4u;
    let block = (lane / 4u) % 32u;
    let of_rows = lane < 128u;
    let line = 4u * block + select(first_column, first_row, of_rows);
    let place = step * 128u + (block ^ (2u * step));
    // computing: lane's rows are 4·y to 4·y + 3 and the same 64 below, its columns 4·x to 4·x + 3 and 64 to the right
    let x = lane % 16u;
    let y = lane / 16u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    var sum4 = vec4<f32>();
    var sum5 = vec4<f32>();
    var sum6 = vec4<f32>();
    var sum7 = vec4<f32>();
    var right0 = vec4<f32>();
    var right1 = vec4<f32>();
    var right2 = vec4<f32>();
    var right3 = vec4<f32>();
    var right4 = vec4<f32>();
    var right5 = vec4<f32>();
    var right6 = vec4<f32>();
    var right7 = vec4<f32>();
    for (var k4 = 0u; k4 < params.depth4; k4 += 4u) {
        var a = vec4<f32>();
        var b = vec4<f32>();
        var c = vec4<f32>();
        var d = vec4<f32>();
        if (k4 + step < params.depth4) {
            if (of_rows) {
                a = row4(line, k4 + step);
                b = row4(line + 1u, k4 + step);
                c = row4(line + 2u, k4 + step);
                d = row4(line + 3u, k4 + step);
            } else {
                a = weight4(line_of(line) + k4 + step);
                b = weight4(line_of(line + 1u) + k4 + step);
                c = weight4(line_of(line + 2u) + k4 + step);
                d = weight4(line_of(line + 3u) + k4 + step);
            }
        }
        workgroupBarrier(); // the readers of the previous step are done
        if (of_rows) {
            staged_rows[place] = vec4<f32>(a.x, b.x, c.x, d.x);
            staged_rows[place + 32u] = vec4<f32>(a.y, b.y, c.y, d.y);
            staged_rows[place + 64u] = vec4<f32>(a.z, b.z, c.z, d.z);
            staged_rows[place + 96u] = vec4<f32>(a.w, b.w, c.w, d.w);
        } else {
            staged_weight[place] = vec4<f32>(a.x, b.x, c.x, d.x);
            staged_weight[place + 32u] = vec4<f32>(a.y, b.y, c.y, d.y);
            staged_weight[place + 64u] = vec4<f32>(a.z, b.z, c.z, d.z);
            staged_weight[place + 96u] = vec4<f32>(a.w, b.w, c.w, d.w);
        }
        workgroupBarrier();
        for (var k = 0u; k < 16u; k++) {
            let exchange = 2u * (k / 4u);
            let r = staged_rows[k * 32u + (y ^ exchange)];
            let s = staged_rows[k * 32u + 16u + (y ^ exchange)];
            let w = staged_weight[k * 32u + (x ^ exchange)];
            let v = staged_weight[k * 32u + 16u + (x ^ exchange)];
            sum0 = fma(vec4<f32>(r.x), w, sum0);
            sum1 = fma(vec4<f32>(r.y), w, sum1);
            sum2 = fma(vec4<f32>(r.z), w, sum2);
            sum3 = fma(vec4<f32>(r.w), w, sum3);
            sum4 = fma(vec4<f32>(s.x), w, sum4);
            sum5 = fma(vec4<f32>(s.y), w, sum5);
            sum6 = fma(vec4<f32>(s.z), w, sum6);
            sum7 = fma(vec4<f32>(s.w), w, sum7);
            right0 = fma(vec4<f32>(r.x), v, right0);
            right1 = fma(vec4<f32>(r.y), v, right1);
            right2 = fma(vec4<f32>(r.z), v, right2);
            right3 = fma(vec4<f32>(r.w), v, right3);
            right4 = fma(vec4<f32>(s.x), v, right4);
            right5 = fma(vec4<f32>(s.y), v, right5);
            right6 = fma(vec4<f32>(s.z), v, right6);
            right7 = fma(vec4<f32>(s.w), v, right7);
        }
    }
    let row = first_row + 4u * y;
    let column = first_column + 4u * x;
    finish4(row, column, sum0);
    finish4(row, column + 64u, right0);
    finish4(row + 1u, column, sum1);
    finish4(row + 1u, column + 64u, right1);
    finish4(row + 2u, column, sum2);
    finish4(row + 2u, column + 64u, right2);
    finish4(row + 3u, column, sum3);
    finish4(row + 3u, column + 64u, right3);
    finish4(row + 64u, column, sum4);
    finish4(row + 64u, column + 64u, right4);
    finish4(row + 65u, column, sum5);
    finish4(row + 65u, column + 64u, right5);
    finish4(row + 66u, column, sum6);
    finish4(row + 66u, column + 64u, right6);
    finish4(row + 67u, column, sum7);
    finish4(row + 67u, column + 64u, right7);
}
