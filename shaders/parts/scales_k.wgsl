// Scales and minima of the blocks of 256 elements that have them in 6 bits, for each of 8 runs of 32 elements.

// Scale and minimum of a run of the block whose first word is given: two f16 that are multiplied by two 6-bit numbers
// each. Of runs 0 to 3 these are the lower 6 bits of bytes 0 to 3 and 4 to 7; of runs 4 to 7 their lower 4 bits are
// those of bytes 8 to 11, the minimum's in the upper half, and the upper 2 bits of bytes 0 to 7 complete them.
fn scale_and_minimum(first: u32, run: u32) -> vec2<f32> {
    let shift = (run % 4u) * 8u;
    let a = weight[first + 1u] >> shift;
    let b = weight[first + 2u] >> shift;
    let c = weight[first + 3u] >> shift;
    let late = run >= 4u;
    let scale = select(a & 0x3fu, (c & 0x0fu) | ((a >> 2u) & 0x30u), late);
    let minimum = select(b & 0x3fu, ((c >> 4u) & 0x0fu) | ((b >> 2u) & 0x30u), late);
    return unpack2x16float(weight[first]) * vec2<f32>(f32(scale), f32(minimum));
}
