// Scores and sums of attention by matrices of 8 × 8: two rows of two are a square.

// The squares of scores up to `end`, of which this subgroup multiplies one, or none where there is none of its number.
// naga takes loops for uniform control flow and conditions not, where subgroups differ: so what is to be skipped is a
// loop that ends before it begins.
fn scores(own: Own, end: u32, square: u32) {
    let top = (square / 2u) * 16u;
    let left = (square % 2u) * 16u;
    let first_k = select(32u, 0u, square < end);
    var sum00 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum01 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum10 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum11 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    for (var slice = 0u; slice < SLICES; slice++) {
        stage_scores(own, slice);
        for (var k = first_k; k < 32u; k += 8u) {
            let a0 = coopLoadT<coop_mat8x8<f16, A>>(&staged[top * PITCH + k], PITCH);
            let a1 = coopLoadT<coop_mat8x8<f16, A>>(&staged[(top + 8u) * PITCH + k], PITCH);
            let b0 = coopLoad<coop_mat8x8<f16, B>>(&staged[OTHERS + left * PITCH + k], PITCH);
            let b1 = coopLoad<coop_mat8x8<f16, B>>(&staged[OTHERS + (left + 8u) * PITCH + k], PITCH);
            sum00 = coopMultiplyAdd(a0, b0, sum00);
            sum01 = coopMultiplyAdd(a0, b1, sum01);
            sum10 = coopMultiplyAdd(a1, b0, sum10);
            sum11 = coopMultiplyAdd(a1, b1, sum11);
        }
    }
    for (var one = square; one < end; one = end) {
        coopStoreT(sum00, &drain[top * 32u + left], 32u);
        coopStoreT(sum01, &drain[top * 32u + left + 8u], 32u);
        coopStoreT(sum10, &drain[(top + 8u) * 32u + left], 32u);
        coopStoreT(sum11, &drain[(top + 8u) * 32u + left + 8u], 32u);
    }
}

// The same of the values' columns that are staged.
fn weigh(end: u32, square: u32) {
    let top = (square / 2u) * 16u;
    let left = (square % 2u) * 16u;
    let first_k = select(32u, 0u, square < end);
    var sum00 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum01 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum10 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    var sum11 = coopLoadT<coop_mat8x8<f32, C>>(&zeros[0], 8u);
    for (var k = first_k; k < 32u; k += 8u) {
        let a0 = coopLoadT<coop_mat8x8<f16, A>>(&weights[top * PITCH + k], PITCH);
        let a1 = coopLoadT<coop_mat8x8<f16, A>>(&weights[(top + 8u) * PITCH + k], PITCH);
        let b0 = coopLoadT<coop_mat8x8<f16, B>>(&staged[OTHERS + k * PITCH + left], PITCH);
        let b1 = coopLoadT<coop_mat8x8<f16, B>>(&staged[OTHERS + k * PITCH + left + 8u], PITCH);
        sum00 = coopMultiplyAdd(a0, b0, sum00);
        sum01 = coopMultiplyAdd(a0, b1, sum01);
        sum10 = coopMultiplyAdd(a1, b0, sum10);
        sum11 = coopMultiplyAdd(a1, b1, sum11);
    }
    for (var one = square; one < end; one = end) {
        coopStoreT(sum00, &drain[top * 32u + left], 32u);
        coopStoreT(sum01, &drain[top * 32u + left + 8u], 32u);
        coopStoreT(sum10, &drain[(top + 8u) * 32u + left], 32u);
        coopStoreT(sum11, &drain[(top + 8u) * 32u + left + 8u], 32u);
    }
}
