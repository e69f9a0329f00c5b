// Tile through workgroup memory, for GPUs: 64 rows × 64 columns a workgroup of 16 × 16 invocations, each holding
// 4 rows × 4 columns; 16 elements of depth at a time are staged, so that every element is loaded once a tile.

const LANES = 256u;

// [k][row] and [k][column]; scalars, since several invocations write parts of one group of four
var<workgroup> staged_rows: array<f32, 1024>;
var<workgroup> staged_weight: array<f32, 1024>;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 63u) / 64u;
    let first_row = (group / across) * 64u;
    let first_column = (group % across) * 64u;
    if (first_row >= params.rows) {
        return;
    }
    // staging: lane loads one vec4 along k of one row and one of one column, and stores it transposed
    let line = lane / 4u;
    let step = lane % 4u;
    let weight_row = line_of(first_column + line);
    let place = step * 256u + line;
    // computing: lane's rows are 4·y to 4·y + 3, its columns 4·x to 4·x + 3
    let x = lane % 16u;
    let y = lane / 16u;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var k4 = 0u; k4 < params.depth4; k4 += 4u) {
        var a = vec4<f32>();
        var w = vec4<f32>();
        if (k4 + step < params.depth4) {
            a = row4(first_row + line, k4 + step);
            w = weight4(weight_row + k4 + step);
        }
        workgroupBarrier(); // the readers of the previous step are done
        staged_rows[place] = a.x;
        staged_rows[place + 64u] = a.y;
        staged_rows[place + 128u] = a.z;
        staged_rows[place + 192u] = a.w;
        staged_weight[place] = w.x;
        staged_weight[place + 64u] = w.y;
        staged_weight[place + 128u] = w.z;
        staged_weight[place + 192u] = w.w;
        workgroupBarrier();
        for (var k = 0u; k < 1024u; k += 64u) {
            let i = k + 4u * y;
            let r = vec4<f32>(staged_rows[i], staged_rows[i + 1u], staged_rows[i + 2u], staged_rows[i + 3u]);
            let j = k + 4u * x;
            let c = vec4<f32>(staged_weight[j], staged_weight[j + 1u], staged_weight[j + 2u], staged_weight[j + 3u]);
            sum0 = fma(vec4<f32>(r.x), c, sum0);
            sum1 = fma(vec4<f32>(r.y), c, sum1);
            sum2 = fma(vec4<f32>(r.z), c, sum2);
            sum3 = fma(vec4<f32>(r.w), c, sum3);
        }
    }
    let row = first_row + 4u * y;
    let column = first_column + 4u * x;
    finish4(row, column, sum0);
    finish4(row + 1u, column, sum1);
    finish4(row + 2u, column, sum2);
    finish4(row + 3u, column, sum3);
}
