//! GGUF's blocks as f32 on the host, for what goes to the device as floats: whole rows at a time, each type in a loop
//! of its own. Values have the bits that ggml's arithmetic gives.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::GgmlType;

/// Why bytes cannot be turned into numbers; the caller knows which tensor of which file they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DequantiseError {
    /// The type is not known or not done here.
    #[error("elements of {0} cannot be turned into floats")]
    Unsupported(GgmlType),
    /// So many bytes of the type are not so many elements.
    #[error("{bytes} bytes of {ggml_type} are not {elements} elements")]
    Length {
        /// The type.
        ggml_type: GgmlType,
        /// How many bytes there were.
        bytes: usize,
        /// For how many elements there was room.
        elements: usize,
    },
}

/// What one type is turned into floats with.
type Run = fn(&[u8], &mut [f32]);

/// Whether [`dequantise`] knows the type.
pub fn can_dequantise(ggml_type: GgmlType) -> bool {
    run(ggml_type).is_some()
}

/// Turns the whole blocks `bytes` into the numbers `out`, in their order: bit for bit those of ggml's own arithmetic in
/// f32. Scales may be infinite or NaN in a damaged file, so the numbers may be too.
///
/// # Errors
/// [`DequantiseError::Unsupported`] for a type that [`can_dequantise`] denies; [`DequantiseError::Length`] where
/// `bytes` are not the whole blocks of just as many elements as `out` has.
pub fn dequantise(ggml_type: GgmlType, bytes: &[u8], out: &mut [f32]) -> Result<(), DequantiseError> {
    let (Some(run), Some((elements, block_bytes))) = (run(ggml_type), ggml_type.block()) else {
        return Err(DequantiseError::Unsupported(ggml_type));
    };
    let (elements, block_bytes) = (elements as usize, block_bytes as usize);
    if !out.len().is_multiple_of(elements) || (out.len() / elements).checked_mul(block_bytes) != Some(bytes.len()) {
        return Err(DequantiseError::Length { ggml_type, bytes: bytes.len(), elements: out.len() });
    }
    run(bytes, out);
    Ok(())
}

fn run(ggml_type: GgmlType) -> Option<Run> {
    Some(match ggml_type {
        GgmlType::F32 => |b, o| blocks(b, o, |b, o: &mut [f32; 1]| o[0] = f32::from_le_bytes(*b)),
        GgmlType::F16 => f16s,
        GgmlType::Bf16 => |b, o| blocks(b, o, |b: &[u8; 2], o: &mut [f32; 1]| o[0] = bf16(*b)),
        GgmlType::Q4_0 => |b, o| blocks(b, o, q4_0),
        GgmlType::Q4_1 => |b, o| blocks(b, o, q4_1),
        GgmlType::Q5_0 => |b, o| blocks(b, o, q5_0),
        GgmlType::Q5_1 => |b, o| blocks(b, o, q5_1),
        GgmlType::Q8_0 => |b, o| blocks(b, o, q8_0),
        GgmlType::Q2K => |b, o| blocks(b, o, q2_k),
        GgmlType::Q3K => |b, o| blocks(b, o, q3_k),
        GgmlType::Q4K => |b, o| blocks(b, o, q4_k),
        GgmlType::Q5K => |b, o| blocks(b, o, q5_k),
        GgmlType::Q6K => |b, o| blocks(b, o, q6_k),
        GgmlType::Iq4Nl => |b, o| blocks(b, o, iq4_nl),
        GgmlType::Iq4Xs => |b, o| blocks(b, o, iq4_xs),
        GgmlType::Mxfp4 => |b, o| blocks(b, o, mxfp4),
        _ => return None,
    })
}

/// Runs `each` on every block of `B` bytes and its `E` elements.
fn blocks<const B: usize, const E: usize>(bytes: &[u8], out: &mut [f32], each: impl Fn(&[u8; B], &mut [f32; E])) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        each(block, out);
    }
}

/// Half precision, many at a time: the conversion looks for the processor's instructions once a call.
fn f16s(bytes: &[u8], out: &mut [f32]) {
    const MANY: usize = 512;
    for (bytes, out) in bytes.chunks(2 * MANY).zip(out.chunks_mut(MANY)) {
        let mut halves = [f16::ZERO; MANY];
        for (half, b) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*b);
        }
        halves[..out.len()].convert_to_f32_slice(out);
    }
}

fn bf16(b: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)
}

/// The f16 at a place.
fn half(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// Small numbers as floats; none of them is larger than 255.
fn float(n: u8) -> f32 {
    f32::from(n)
}

/// The lower halves of bytes, then their upper halves, through `value`.
fn nibbles(bytes: &[u8], out: &mut [f32], value: impl Fn(u8) -> f32) {
    let (lower, upper) = out.split_at_mut(bytes.len());
    for ((&byte, lower), upper) in bytes.iter().zip(lower).zip(upper) {
        *lower = value(byte & 15);
        *upper = value(byte >> 4);
    }
}

/// A scale, then 32 signed bytes.
fn q8_0(b: &[u8; 34], out: &mut [f32; 32]) {
    let d = half(b, 0);
    for (x, &q) in out.iter_mut().zip(&b[2..]) {
        *x = d * f32::from(q as i8);
    }
}

/// A scale, then 4 bits an element, less 8.
fn q4_0(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    nibbles(&b[2..], out, |q| d * (float(q) - 8.0));
}

/// A scale and a minimum, then 4 bits an element.
fn q4_1(b: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    nibbles(&b[4..], out, |q| d * float(q) + m);
}

/// The lower 4 bits of 32 elements with the fifth of each from `fifth`, bit by bit.
fn five_bits(fifth: [u8; 4], lower: &[u8], out: &mut [f32; 32], value: impl Fn(u8) -> f32) {
    let fifth = u32::from_le_bytes(fifth);
    for (i, &byte) in lower.iter().enumerate() {
        out[i] = value(byte & 15 | ((fifth >> i & 1) as u8) << 4);
        out[i + 16] = value(byte >> 4 | ((fifth >> (i + 16) & 1) as u8) << 4);
    }
}

/// A scale, the fifth bits, then the lower 4 bits; all less 16.
fn q5_0(b: &[u8; 22], out: &mut [f32; 32]) {
    let d = half(b, 0);
    five_bits([b[2], b[3], b[4], b[5]], &b[6..], out, |q| d * (float(q) - 16.0));
}

/// A scale and a minimum, the fifth bits, then the lower 4 bits.
fn q5_1(b: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    five_bits([b[4], b[5], b[6], b[7]], &b[8..], out, |q| d * float(q) + m);
}

/// 16 bytes of a scale and a minimum in 4 bits for each 16 elements; 32 bytes for each 128 elements, the lowest 2 bits
/// first; the scales of both.
fn q2_k(b: &[u8; 84], out: &mut [f32; 256]) {
    let (d, m) = (half(b, 80), half(b, 82));
    for (run, out) in out.chunks_exact_mut(16).enumerate() {
        let (scale, minimum) = (d * float(b[run] & 15), m * float(b[run] >> 4));
        let (bits, shift) = two_bits(&b[16..80], run);
        for (x, &q) in out.iter_mut().zip(bits) {
            *x = scale * float(q >> shift & 3) - minimum;
        }
    }
}

/// Where run number `run` of 16 elements has its 2 bits each, in 32 bytes for each 128 elements: bytes and shift.
fn two_bits(bytes: &[u8], run: usize) -> (&[u8], usize) {
    let at = run / 8 * 32 + run % 2 * 16;
    (&bytes[at..at + 16], run % 8 / 2 * 2)
}

/// 32 bytes of third bits, inverted; the lower 2 bits as in Q2_K; 12 bytes of 6-bit scales, less 32, for each 16
/// elements; their scale.
fn q3_k(b: &[u8; 110], out: &mut [f32; 256]) {
    let d = half(b, 108);
    let scales = &b[96..108];
    for (run, out) in out.chunks_exact_mut(16).enumerate() {
        let lower = scales[run % 8] >> (run / 8 * 4) & 15;
        let upper = scales[8 + run % 4] >> (run / 4 * 2) & 3;
        let scale = d * (float(lower | upper << 4) - 32.0);
        let (bits, shift) = two_bits(&b[32..96], run);
        let third = &b[run % 2 * 16..][..16];
        for ((x, &q), &third) in out.iter_mut().zip(bits).zip(third) {
            let q = q >> shift & 3 | (third >> (run / 2) & 1) << 2;
            *x = scale * (float(q) - 4.0);
        }
    }
}

/// Scale and minimum of run number `run` of 32 elements, in 6 bits each, with the scales of both in front of their 12
/// bytes: the first 4 scales in bytes 0 to 3, the first 4 minima in bytes 4 to 7; the lower 4 bits of the others in
/// bytes 8 to 11, and their upper 2 bits on top of bytes 0 to 7.
fn scale_and_minimum(b: &[u8], run: usize) -> (f32, f32) {
    let s = &b[4..16];
    let (scale, minimum) = if run < 4 {
        (s[run] & 63, s[run + 4] & 63)
    } else {
        ((s[run + 4] & 15) | (s[run - 4] >> 6) << 4, (s[run + 4] >> 4) | (s[run] >> 6) << 4)
    };
    (half(b, 0) * float(scale), half(b, 2) * float(minimum))
}

/// Two scales of scales, 12 bytes of scales, then 32 bytes for each 64 elements: lower halves first.
fn q4_k(b: &[u8; 144], out: &mut [f32; 256]) {
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(b, run);
        let shift = run % 2 * 4;
        for (x, &q) in out.iter_mut().zip(&b[16 + run / 2 * 32..]) {
            *x = scale * float(q >> shift & 15) - minimum;
        }
    }
}

/// As Q4_K, with 32 bytes in front of the lower bits: bit r of byte l is the fifth bit of element l of the r-th 32.
fn q5_k(b: &[u8; 176], out: &mut [f32; 256]) {
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, minimum) = scale_and_minimum(b, run);
        let shift = run % 2 * 4;
        for ((x, &q), &fifth) in out.iter_mut().zip(&b[48 + run / 2 * 32..]).zip(&b[16..48]) {
            *x = scale * float(q >> shift & 15 | (fifth >> run & 1) << 4) - minimum;
        }
    }
}

/// 128 bytes of lower 4 bits, 64 of upper 2 bits, 16 signed scales, the scale of scales. Each 128 elements take 64
/// bytes of the lower bits, lower halves first, and 32 bytes of the upper bits, lowest bits first; all less 32.
fn q6_k(b: &[u8; 210], out: &mut [f32; 256]) {
    let d = half(b, 208);
    for (run, out) in out.chunks_exact_mut(16).enumerate() {
        let scale = d * f32::from(b[192 + run] as i8);
        let (side, within) = (run / 8, run % 8);
        let lower = &b[side * 64 + within % 4 * 16..];
        let (lower_shift, upper) = (within / 4 * 4, two_bits(&b[128..192], run));
        for ((x, &lower), &bits) in out.iter_mut().zip(lower).zip(upper.0) {
            *x = scale * (float(lower >> lower_shift & 15 | (bits >> upper.1 & 3) << 4) - 32.0);
        }
    }
}

/// What the 4 bits of the IQ4 types stand for.
const IQ4: [f32; 16] = [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];

/// A scale, then 4 bits an element: which of 16 values.
fn iq4_nl(b: &[u8; 18], out: &mut [f32; 32]) {
    let d = half(b, 0);
    nibbles(&b[2..], out, |q| d * IQ4[usize::from(q & 15)]);
}

/// The scale of scales, 2 bytes of upper bits and 4 bytes of lower bits of the scales of each 32 elements, less 32,
/// then each 32 as in IQ4_NL.
fn iq4_xs(b: &[u8; 136], out: &mut [f32; 256]) {
    let d = half(b, 0);
    let upper = u16::from_le_bytes([b[2], b[3]]);
    for (run, out) in out.chunks_exact_mut(32).enumerate() {
        let lower = b[4 + run / 2] >> (run % 2 * 4) & 15;
        let scale = d * (float(lower | ((upper >> (run * 2) & 3) as u8) << 4) - 32.0);
        nibbles(&b[8 + run * 16..][..16], out, |q| scale * IQ4[usize::from(q & 15)]);
    }
}

/// What the 4 bits of MXFP4 stand for, doubled: a sign, two bits of exponent, one of mantissa. There is no -0.
const E2M1: [f32; 16] = [0., 1., 2., 3., 4., 6., 8., 12., 0., -1., -2., -3., -4., -6., -8., -12.];

/// A scale that is an exponent only, then 4 bits an element.
fn mxfp4(b: &[u8; 17], out: &mut [f32; 32]) {
    // half of 2^(e - 127), since the values are doubled; the first two are subnormal
    let d = f32::from_bits(match b[0] {
        e @ (0 | 1) => 0x0020_0000 << e,
        e => u32::from(e - 1) << 23,
    });
    nibbles(&b[1..], out, |q| d * E2M1[usize::from(q & 15)]);
}
