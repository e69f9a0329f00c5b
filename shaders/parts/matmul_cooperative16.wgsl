// A tile's squares by matrices of 16 × 16: two rows of two. What is drained at a time is one matrix of each square.

const SIDE_BY_SIDE = 16u;

// The squares from `turn` to `end`, of which this subgroup multiplies one, or none where there is none of its number.
// naga takes loops for uniform control flow and conditions not, where subgroups differ: so what is to be skipped is a
// loop that ends before it begins.
fn multiply(first_row: u32, first_column: u32, lane: u32, turn: u32, end: u32, square: u32) {
    let top = (square / 2u) * 32u * PITCH;
    let left = (square % 2u) * 32u * PITCH;
    let first_k = select(32u, 0u, square < end);
    clear(lane);
    var sum00 = coopLoadT<coop_mat16x16<f32, C>>(&drain[0], 16u);
    var sum01 = coopLoadT<coop_mat16x16<f32, C>>(&drain[0], 16u);
    var sum10 = coopLoadT<coop_mat16x16<f32, C>>(&drain[0], 16u);
    var sum11 = coopLoadT<coop_mat16x16<f32, C>>(&drain[0], 16u);
    for (var k4 = 0u; k4 < params.depth4; k4 += 8u) {
        stage(first_row, first_column, k4, lane);
        for (var k = first_k; k < 32u; k += 16u) {
            let a0 = coopLoadT<coop_mat16x16<f16, A>>(&staged_rows[top + k], PITCH);
            let a1 = coopLoadT<coop_mat16x16<f16, A>>(&staged_rows[top + 16u * PITCH + k], PITCH);
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&staged_weight[left + k], PITCH);
            let b1 = coopLoad<coop_mat16x16<f16, B>>(&staged_weight[left + 16u * PITCH + k], PITCH);
            sum00 = coopMultiplyAdd(a0, b0, sum00);
            sum01 = coopMultiplyAdd(a0, b1, sum01);
            sum10 = coopMultiplyAdd(a1, b0, sum10);
            sum11 = coopMultiplyAdd(a1, b1, sum11);
        }
    }
    for (var own = square; own < end; own = end) {
        coopStoreT(sum00, &drain[own * 256u], 16u);
    }
    drained(first_row, first_column, lane, turn, end, 0u, 0u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum01, &drain[own * 256u], 16u);
    }
    drained(first_row, first_column, lane, turn, end, 0u, 16u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum10, &drain[own * 256u], 16u);
    }
    drained(first_row, first_column, lane, turn, end, 16u, 0u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum11, &drain[own * 256u], 16u);
    }
    drained(first_row, first_column, lane, turn, end, 16u, 16u);
}
