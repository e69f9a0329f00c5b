//! GGUF's quantised blocks as plain numbers, from their layout. Every value is the one f32 that ggml's arithmetic gives:
//! products are exact in f32, and the types with minima round one subtraction.

use half::f16;

use crate::kernels::WeightType;

/// The elements of whole blocks; none for the float types, which have no blocks.
pub fn dequantised(weight_type: WeightType, bytes: &[u8]) -> Vec<f32> {
    let values = match weight_type {
        WeightType::F32 | WeightType::F16 | WeightType::Bf16 => return Vec::new(),
        WeightType::Q8_0 => q8_0,
        WeightType::Q4_0 => q4_0,
        WeightType::Q4K => q4_k,
        WeightType::Q5K => q5_k,
        WeightType::Q6K => q6_k,
    };
    let block = weight_type.block();
    bytes.chunks_exact(block.bytes).flat_map(|b| (0..block.elements).map(move |e| values(b, e))).collect()
}

/// The f16 at a place.
fn half(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// The lower or the upper half of a byte.
fn nibble(byte: u8, upper: bool) -> u8 {
    if upper { byte >> 4 } else { byte & 15 }
}

/// A scale, then 32 signed bytes.
fn q8_0(b: &[u8], e: usize) -> f32 {
    half(b, 0) * f32::from(b[2 + e] as i8)
}

/// A scale, then 16 bytes: lower halves are the first 16 elements, upper halves the others, all plus 8.
fn q4_0(b: &[u8], e: usize) -> f32 {
    half(b, 0) * (f32::from(nibble(b[2 + e % 16], e >= 16)) - 8.0)
}

/// Scale and minimum of each 32 elements, in 6 bits: the first 4 scales in bytes 0 to 3, the first 4 minima in bytes 4 to
/// 7; the lower 4 bits of the others in bytes 8 to 11, and their upper 2 bits on top of bytes 0 to 7.
fn scale_and_minimum(b: &[u8], run: usize) -> (f32, f32) {
    let s = &b[4..16];
    let (scale, minimum) = if run < 4 {
        (s[run] & 63, s[run + 4] & 63)
    } else {
        ((s[run + 4] & 15) | (s[run - 4] >> 6) << 4, (s[run + 4] >> 4) | (s[run] >> 6) << 4)
    };
    (half(b, 0) * f32::from(scale), half(b, 2) * f32::from(minimum))
}

/// Two scales of scales, 12 bytes of scales, then 32 bytes for each 64 elements: lower halves first.
fn q4_k(b: &[u8], e: usize) -> f32 {
    let (scale, minimum) = scale_and_minimum(b, e / 32);
    scale * f32::from(nibble(b[16 + e / 64 * 32 + e % 32], e / 32 % 2 == 1)) - minimum
}

/// As Q4_K, with 32 bytes in front of the lower bits: bit r of byte l is the fifth bit of element l of the r-th 32.
fn q5_k(b: &[u8], e: usize) -> f32 {
    let (scale, minimum) = scale_and_minimum(b, e / 32);
    let fifth = b[16 + e % 32] >> (e / 32) & 1;
    scale * f32::from(nibble(b[48 + e / 64 * 32 + e % 32], e / 32 % 2 == 1) | fifth << 4) - minimum
}

/// 128 bytes of lower 4 bits, 64 of upper 2 bits, 16 signed scales, the scale of scales. Each 128 elements take 64 bytes of
/// the lower bits, lower halves first, and 32 bytes of the upper bits, lowest bits first; all plus 32.
fn q6_k(b: &[u8], e: usize) -> f32 {
    let (side, within) = (e / 128, e % 128);
    let lower = nibble(b[side * 64 + within % 64], within >= 64);
    let upper = b[128 + side * 32 + within % 32] >> (within / 32 * 2) & 3;
    half(b, 208) * f32::from(b[192 + e / 16] as i8) * (f32::from(lower | upper << 4) - 32.0)
}
