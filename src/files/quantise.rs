//! f32 as GGUF's blocks: byte for byte what ggml's reference and the gguf package make of the same rows.

use half::f16;

use super::GgmlType;

/// Why numbers cannot be stored in a type; the caller knows which tensor of which file they are.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantiseError {
    /// Nothing is written in this type here.
    #[error("floats cannot be stored as {0}")]
    Unsupported(GgmlType),
    /// So many elements of the type are not so many bytes.
    #[error("{elements} elements are not {bytes} bytes of {ggml_type}")]
    Length {
        /// The type.
        ggml_type: GgmlType,
        /// How many elements there were.
        elements: usize,
        /// For how many bytes there was room.
        bytes: usize,
    },
    /// An element is NaN or infinite.
    #[error("expected finite numbers, found {value} at index {index}")]
    NotFinite {
        /// Which one.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// An element is so large that it, or the scale of its block, is no finite f16.
    #[error("{value} at index {index} is too large for {ggml_type}")]
    TooLarge {
        /// The type.
        ggml_type: GgmlType,
        /// Which one.
        index: usize,
        /// What it is.
        value: f32,
    },
}

impl QuantiseError {
    /// The same error about an element that has `elements` more before it.
    pub(crate) fn after(self, elements: usize) -> Self {
        match self {
            QuantiseError::NotFinite { index, value } => QuantiseError::NotFinite { index: index + elements, value },
            QuantiseError::TooLarge { ggml_type, index, value } => {
                QuantiseError::TooLarge { ggml_type, index: index + elements, value }
            }
            other => other,
        }
    }
}

/// Whether [`quantise`] writes the type: F32, F16, Q8_0 and Q4_0.
pub fn can_quantise(ggml_type: GgmlType) -> bool {
    matches!(ggml_type, GgmlType::F32 | GgmlType::F16 | GgmlType::Q8_0 | GgmlType::Q4_0)
}

/// Stores `values`, whole blocks of them, as the bytes `out`: for Q8_0 and Q4_0 those that ggml's reference gives,
/// rounding included, and for F16 the nearest, ties to even.
///
/// # Errors
/// [`QuantiseError::Unsupported`] for a type that [`can_quantise`] denies, [`QuantiseError::Length`] where `out` is not
/// the size of just these blocks, [`QuantiseError::NotFinite`] and [`QuantiseError::TooLarge`] for the first element
/// that the type cannot hold. `out` is undefined after an error.
pub fn quantise(ggml_type: GgmlType, values: &[f32], out: &mut [u8]) -> Result<(), QuantiseError> {
    let Some((elements, bytes)) = ggml_type.block().filter(|_| can_quantise(ggml_type)) else {
        return Err(QuantiseError::Unsupported(ggml_type));
    };
    let (elements, bytes) = (elements as usize, bytes as usize);
    if !values.len().is_multiple_of(elements) || (values.len() / elements).checked_mul(bytes) != Some(out.len()) {
        return Err(QuantiseError::Length { ggml_type, elements: values.len(), bytes: out.len() });
    }
    if let Some(index) = values.iter().position(|x| !x.is_finite()) {
        return Err(QuantiseError::NotFinite { index, value: values[index] });
    }
    let large = match ggml_type {
        GgmlType::F16 => blocks(values, out, f16s),
        GgmlType::Q8_0 => blocks(values, out, q8_0),
        GgmlType::Q4_0 => blocks(values, out, q4_0),
        _ => blocks(values, out, |[x]: &[f32; 1], out: &mut [u8; 4]| {
            *out = x.to_le_bytes();
            true
        }),
    };
    match large {
        None => Ok(()),
        Some(block) => {
            let values = &values[block * elements..][..elements];
            let within = largest(values);
            let index = block * elements + within;
            Err(QuantiseError::TooLarge { ggml_type, index, value: values[within] })
        }
    }
}

/// Runs `each` on every block; the number of the first one that it cannot store.
fn blocks<const E: usize, const B: usize>(
    values: &[f32],
    out: &mut [u8],
    each: impl Fn(&[f32; E], &mut [u8; B]) -> bool,
) -> Option<usize> {
    let pairs = values.as_chunks().0.iter().zip(out.as_chunks_mut().0);
    pairs.enumerate().find_map(|(i, (values, out))| (!each(values, out)).then_some(i))
}

/// Where the largest number is, whatever its sign; the first of equal ones.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, x) in values.iter().enumerate() {
        if x.abs() > values[best].abs() {
            best = i;
        }
    }
    best
}

/// A scale as it is stored, and whether it is finite.
fn scale(d: f32, out: &mut [u8]) -> bool {
    let half = f16::from_f32(d);
    out.copy_from_slice(&half.to_le_bytes());
    half.is_finite()
}

/// What elements are multiplied by: 1/d, where there is such a number. A d whose inverse overflows is stored as 0.
fn inverse(d: f32) -> f32 {
    let inverse = 1.0 / d;
    if inverse.is_finite() { inverse } else { 0.0 }
}

fn f16s([x]: &[f32; 1], out: &mut [u8; 2]) -> bool {
    scale(*x, out)
}

/// The scale is a 127th of the largest; elements are rounded, halves away from 0.
fn q8_0(values: &[f32; 32], out: &mut [u8; 34]) -> bool {
    let d = values.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0;
    let inverse = inverse(d);
    let (head, quants) = out.split_at_mut(2);
    for (q, x) in quants.iter_mut().zip(values) {
        *q = (x * inverse).round() as i8 as u8;
    }
    scale(d, head)
}

/// The largest, with its sign, becomes -8; elements are rounded, halves upwards, and 8 becomes 7.
fn q4_0(values: &[f32; 32], out: &mut [u8; 18]) -> bool {
    let d = values[largest(values)] / -8.0;
    let inverse = inverse(d);
    let (head, quants) = out.split_at_mut(2);
    let (lower, upper) = values.split_at(16);
    // conversion cuts what is behind the point
    let quant = |x: f32| ((x * inverse + 8.5) as u8).min(15);
    for ((q, &lower), &upper) in quants.iter_mut().zip(lower).zip(upper) {
        *q = quant(lower) | quant(upper) << 4;
    }
    scale(d, head)
}
