// Powers of two that bring a row's largest element to 2¹⁴ and above, so that none of the row overflows in f16 and none
// that matters sinks. A row's factor depends on that row alone, and so do its bits.

// The largest of four magnitudes, as bits: those of positive numbers are in their order.
fn bits_of(four: vec4<f32>) -> u32 {
    return bitcast<u32>(max(max(four.x, four.y), max(four.z, four.w)));
}

// The factor of a row whose largest magnitude has these bits.
fn factor_of(largest_bits: u32) -> f32 {
    // exponents are stored plus 127: one of 14 becomes one of 0, and none leaves the normal numbers, nor its inverse
    return bitcast<f32>(min(268u - (largest_bits >> 23u), 253u) << 23u);
}

// 1 through a power of two, exactly.
fn inverse(factor: f32) -> f32 {
    return bitcast<f32>((254u << 23u) - bitcast<u32>(factor));
}
