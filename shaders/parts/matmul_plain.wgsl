// No tile at all: an invocation computes one output. Too slow for models, and too plain to be wrong: large outputs of
// the other forms are compared with it.

const LANES = 64u;

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 63u) / 64u;
    let row = group / across;
    let column = (group % across) * 64u + lane;
    if (row >= params.rows || column >= params.columns) {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < params.depth4; k++) {
        let a = row4(row, k);
        let w = weight4(column * params.stride4 + k);
        sum = fma(a.x, w.x, sum);
        sum = fma(a.y, w.y, sum);
        sum = fma(a.z, w.z, sum);
        sum = fma(a.w, w.w, sum);
    }
    finish(row, column, sum);
}
