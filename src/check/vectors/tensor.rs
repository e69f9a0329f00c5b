//! Tensors of test vectors: bounded, distrusted, and moved about by index arithmetic alone.

use super::case::{Step, Stop};
use crate::files::{Checkpoint, Dtype, TensorInfo};

/// The most elements that a tensor, or anything made of tensors, may have: 64 MiB in f32, half of what every device binds.
pub const MAX_ELEMENTS: usize = 1 << 24;

/// A tensor as its file has it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub data: Data,
}

/// Elements, row by row.
#[derive(Clone, Debug)]
pub enum Data {
    /// F32, F16 and BF16, widened.
    Floats(Vec<f32>),
    /// I64 and I32.
    Ints(Vec<i64>),
    Bools(Vec<bool>),
    /// Of a type that no kernel takes: not read.
    Other,
}

/// What an operator computed, f32 whatever it will be stored as.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Tensor {
    /// Reads a tensor whose size is known to be bounded.
    pub fn read(file: &Checkpoint, info: &TensorInfo) -> Step<Self> {
        use Dtype as D;
        let taken = matches!(info.dtype, D::F32 | D::F16 | D::Bf16 | D::I32 | D::I64 | D::Bool);
        let mut bytes = vec![0; if taken { info.bytes as usize } else { 0 }];
        file.read(info, 0, &mut bytes)?;
        let halves = |widen: fn(u16) -> f32| {
            bytes.chunks_exact(2).map(|pair| widen(u16::from_le_bytes([pair[0], pair[1]]))).collect()
        };
        let quads = || bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let data = match info.dtype {
            D::F32 => Data::Floats(quads().map(f32::from_bits).collect()),
            D::F16 => Data::Floats(halves(|bits| half::f16::from_bits(bits).to_f32())),
            D::Bf16 => Data::Floats(halves(|bits| half::bf16::from_bits(bits).to_f32())),
            D::I32 => Data::Ints(quads().map(|bits| i64::from(bits as i32)).collect()),
            D::I64 => {
                let whole = |b: &[u8]| b.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte)) as i64;
                Data::Ints(bytes.chunks_exact(8).map(whole).collect())
            }
            D::Bool => Data::Bools(bytes.iter().map(|b| *b != 0).collect()),
            _ => Data::Other,
        };
        Ok(Tensor { dtype: info.dtype, shape: info.shape.clone(), data })
    }
}

/// Elements of a shape that something is made in, or a skip where that is too many.
pub fn room(shape: &[usize]) -> Step<usize> {
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
    count.ok_or_else(|| Stop::Skip(format!("shape {shape:?} has more than the {MAX_ELEMENTS} elements of one buffer")))
}

/// The shape that two are broadcast to, as numpy does.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], i: usize| (i + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let one = |i| match (dim(a, i), dim(b, i)) {
        (1, n) | (n, 1) => Some(n),
        (n, m) if n == m => Some(n),
        _ => None,
    };
    (0..rank).map(one).collect()
}

/// Strides of a shape's elements where they are broadcast to `to`; `None` where they cannot be.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Option<Vec<usize>> {
    let lead = to.len().checked_sub(from.len())?;
    let own = strides(from);
    let one = |i: usize| match i.checked_sub(lead) {
        None => Some(0),
        Some(j) if from[j] == to[i] => Some(own[j]),
        Some(j) => (from[j] == 1).then_some(0),
    };
    (0..to.len()).map(one).collect()
}

/// Elements between neighbours along each axis.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The elements of a view, one behind another. The shape is one that has [`room`].
pub fn gather<T: Copy>(values: &[T], shape: &[usize], strides: &[usize]) -> Vec<T> {
    let count = shape.iter().product();
    let mut out = Vec::with_capacity(count);
    let (mut index, mut at) = (vec![0; shape.len()], 0);
    for _ in 0..count {
        out.push(values[at]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    out
}

/// The elements with their axes in another order: axis `axes[i]` becomes the i-th.
pub fn permute<T: Copy>(values: &[T], shape: &[usize], axes: &[usize]) -> Vec<T> {
    let own = strides(shape);
    let to: Vec<usize> = axes.iter().map(|&a| shape[a]).collect();
    gather(values, &to, &axes.iter().map(|&a| own[a]).collect::<Vec<_>>())
}

/// Rows of `from` elements lengthened by zeros, or shortened, to `to`.
pub fn resize_rows(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    let keep = from.min(to);
    let row = |row: &[f32]| row[..keep].iter().copied().chain(std::iter::repeat_n(0.0, to - keep)).collect::<Vec<_>>();
    values.chunks_exact(from).flat_map(row).collect()
}
