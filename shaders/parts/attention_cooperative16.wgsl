// Scores and sums of attention by matrices of 16 × 16: one is a square.

// The squares of scores up to `end`, of which this subgroup multiplies one, or none where there is none of its number.
// naga takes loops for uniform control flow and conditions not, where subgroups differ: so what is to be skipped is a
// loop that ends before it begins.
fn scores(own: Own, end: u32, square: u32) {
    let top = (square / 2u) * 16u;
    let left = (square % 2u) * 16u;
    let first_k = select(32u, 0u, square < end);
    var sum = coopLoadT<coop_mat16x16<f32, C>>(&zeros[0], 16u);
    for (var slice = 0u; slice < SLICES; slice++) {
        stage_scores(own, slice);
        for (var k = first_k; k < 32u; k += 16u) {
            let a0 = coopLoadT<coop_mat16x16<f16, A>>(&staged[top * PITCH + k], PITCH);
            let b0 = coopLoad<coop_mat16x16<f16, B>>(&staged[OTHERS + left * PITCH + k], PITCH);
            sum = coopMultiplyAdd(a0, b0, sum);
        }
    }
    for (var one = square; one < end; one = end) {
        coopStoreT(sum, &drain[top * 32u + left], 32u);
    }
}

// The same of the values' columns that are staged.
fn weigh(end: u32, square: u32) {
    let top = (square / 2u) * 16u;
    let left = (square % 2u) * 16u;
    let first_k = select(32u, 0u, square < end);
    var sum = coopLoadT<coop_mat16x16<f32, C>>(&zeros[0], 16u);
    for (var k = first_k; k < 32u; k += 16u) {
        let a0 = coopLoadT<coop_mat16x16<f16, A>>(&weights[top * PITCH + k], PITCH);
        let b0 = coopLoadT<coop_mat16x16<f16, B>>(&staged[OTHERS + k * PITCH + left], PITCH);
        sum = coopMultiplyAdd(a0, b0, sum);
    }
    for (var one = square; one < end; one = end) {
        coopStoreT(sum, &drain[top * 32u + left], 32u);
    }
}
