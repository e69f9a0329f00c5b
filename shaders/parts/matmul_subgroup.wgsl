// Tile of 16 rows × 4 columns an invocation, without workgroup memory, for drivers that run on the CPU.

fn tile(group: u32, lane: u32) {
    let across = (params.columns + 31u) / 32u;
    let row = (group / across) * 16u;
    let column = (group % across) * 32u + lane * 4u;
    let first = first_of(column);
    var sums = Sums();
    for (var run = 0u; run < params.depth4; run += RUN) {
        let scales = scales_at(first + run);
        for (var i = 0u; i < RUN; i++) {
            add16(&sums, row, lane, run + i, columns_at(first + run + i, scales));
        }
    }
    finish16(&sums, row, column);
}
