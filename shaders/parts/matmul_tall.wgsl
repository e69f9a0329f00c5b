// Tile of 32 rows × 4 columns an invocation, without workgroup memory, for drivers that run on the CPU and many rows.

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    var row = (group / across) * 32u;
    let column = (group % across) * 32u + lane * 4u;
    let first = first_of(column);
    var upper = Sums();
    var lower = Sums();
    for (var run = 0u; run < params.depth4; run += RUN) {
        let scales = scales_at(first + run);
        for (var i = 0u; i < RUN; i++) {
            let weights = columns_at(first + run + i, scales);
            add16(&upper, row, lane, run + i, weights);
            add16(&lower, row + 16u, lane, run + i, weights);
        }
    }
    for (var half = 0u; half < 2u; half++) {
        finish16(&upper, row + 16u * half, column);
        upper = lower;
    }
}
