// A tile's squares by matrices of 8 × 8: four rows of four. What is drained at a time is one row of each square.

const SIDE_BY_SIDE = 32u;

// The squares from `turn` to `end`, of which this subgroup multiplies one, or none where there is none of its number.
// naga takes loops for uniform control flow and conditions not, where subgroups differ: so what is to be skipped is a
// loop that ends before it begins.
fn multiply(first_row: u32, first_column: u32, lane: u32, turn: u32, end: u32, square: u32) {
    let top = (square / 2u) * 32u * PITCH;
    let left = (square % 2u) * 32u * PITCH;
    let first_k = select(32u, 0u, square < end);
    clear(lane);
    var sum00 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum01 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum02 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum03 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum10 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum11 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum12 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum13 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum20 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum21 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum22 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum23 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum30 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum31 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum32 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    var sum33 = coopLoadT<coop_mat8x8<f32, C>>(&drain[0], 8u);
    for (var k4 = 0u; k4 < params.depth4; k4 += 8u) {
        stage(first_row, first_column, k4, lane);
        for (var k = first_k; k < 32u; k += 8u) {
            let a0 = coopLoadT<coop_mat8x8<f16, A>>(&staged_rows[top + k], PITCH);
            let a1 = coopLoadT<coop_mat8x8<f16, A>>(&staged_rows[top + 8u * PITCH + k], PITCH);
            let a2 = coopLoadT<coop_mat8x8<f16, A>>(&staged_rows[top + 16u * PITCH + k], PITCH);
            let a3 = coopLoadT<coop_mat8x8<f16, A>>(&staged_rows[top + 24u * PITCH + k], PITCH);
            let b0 = coopLoad<coop_mat8x8<f16, B>>(&staged_weight[left + k], PITCH);
            let b1 = coopLoad<coop_mat8x8<f16, B>>(&staged_weight[left + 8u * PITCH + k], PITCH);
            let b2 = coopLoad<coop_mat8x8<f16, B>>(&staged_weight[left + 16u * PITCH + k], PITCH);
            let b3 = coopLoad<coop_mat8x8<f16, B>>(&staged_weight[left + 24u * PITCH + k], PITCH);
            sum00 = coopMultiplyAdd(a0, b0, sum00);
            sum01 = coopMultiplyAdd(a0, b1, sum01);
            sum02 = coopMultiplyAdd(a0, b2, sum02);
            sum03 = coopMultiplyAdd(a0, b3, sum03);
            sum10 = coopMultiplyAdd(a1, b0, sum10);
            sum11 = coopMultiplyAdd(a1, b1, sum11);
            sum12 = coopMultiplyAdd(a1, b2, sum12);
            sum13 = coopMultiplyAdd(a1, b3, sum13);
            sum20 = coopMultiplyAdd(a2, b0, sum20);
            sum21 = coopMultiplyAdd(a2, b1, sum21);
            sum22 = coopMultiplyAdd(a2, b2, sum22);
            sum23 = coopMultiplyAdd(a2, b3, sum23);
            sum30 = coopMultiplyAdd(a3, b0, sum30);
            sum31 = coopMultiplyAdd(a3, b1, sum31);
            sum32 = coopMultiplyAdd(a3, b2, sum32);
            sum33 = coopMultiplyAdd(a3, b3, sum33);
        }
    }
    for (var own = square; own < end; own = end) {
        coopStoreT(sum00, &drain[own * 256u], 32u);
        coopStoreT(sum01, &drain[own * 256u + 8u], 32u);
        coopStoreT(sum02, &drain[own * 256u + 16u], 32u);
        coopStoreT(sum03, &drain[own * 256u + 24u], 32u);
    }
    drained(first_row, first_column, lane, turn, end, 0u, 0u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum10, &drain[own * 256u], 32u);
        coopStoreT(sum11, &drain[own * 256u + 8u], 32u);
        coopStoreT(sum12, &drain[own * 256u + 16u], 32u);
        coopStoreT(sum13, &drain[own * 256u + 24u], 32u);
    }
    drained(first_row, first_column, lane, turn, end, 8u, 0u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum20, &drain[own * 256u], 32u);
        coopStoreT(sum21, &drain[own * 256u + 8u], 32u);
        coopStoreT(sum22, &drain[own * 256u + 16u], 32u);
        coopStoreT(sum23, &drain[own * 256u + 24u], 32u);
    }
    drained(first_row, first_column, lane, turn, end, 16u, 0u);
    for (var own = square; own < end; own = end) {
        coopStoreT(sum30, &drain[own * 256u], 32u);
        coopStoreT(sum31, &drain[own * 256u + 8u], 32u);
        coopStoreT(sum32, &drain[own * 256u + 16u], 32u);
        coopStoreT(sum33, &drain[own * 256u + 24u], 32u);
    }
    drained(first_row, first_column, lane, turn, end, 24u, 0u);
}
