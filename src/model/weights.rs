//! Weights on their way to the GPU: read by position, converted and uploaded piece by piece.

use super::layout::{Change, Layout, Parameter, Part};
use crate::error::{Error, Result};
use crate::files::{Checkpoint, Dtype as Stored};
use crate::gpu::Gpu;
use crate::kernels::WeightType;
use crate::task::Task;

/// How weights are stored on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// As in the file.
    #[default]
    Auto,
    /// 32-bit floats.
    F32,
    /// Half floats.
    F16,
}

impl std::str::FromStr for Dtype {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Dtype::Auto),
            "f32" => Ok(Dtype::F32),
            "f16" => Ok(Dtype::F16),
            _ => Err(format!("{text:?} is none of auto, f32, f16")),
        }
    }
}

impl Dtype {
    /// How a matrix that is made of tensors of these types is stored.
    pub(super) fn of(self, stored: impl IntoIterator<Item = Stored>) -> WeightType {
        match self {
            Dtype::F32 => WeightType::F32,
            Dtype::F16 => WeightType::F16,
            Dtype::Auto => {
                let mut types = stored.into_iter();
                match types.next() {
                    Some(first) if types.all(|t| t == first) => match first {
                        Stored::F16 => WeightType::F16,
                        Stored::Bf16 => WeightType::Bf16,
                        _ => WeightType::F32,
                    },
                    _ => WeightType::F32,
                }
            }
        }
    }
}

/// Elements that are read, converted and uploaded at a time: 4 MiB as f32.
const PIECE: usize = 1 << 20;

/// Allocates every buffer of a layout and fills it. Progress is in bytes.
///
/// # Errors
/// [`Error::File`] for a value that is not finite or does not fit the type asked for, [`Error::OutOfMemory`],
/// [`Error::DeviceLost`], [`Error::Cancelled`].
pub async fn upload(gpu: &Gpu, layout: &Layout, checkpoints: &[Checkpoint], task: &Task) -> Result<Vec<wgpu::Buffer>> {
    use wgpu::BufferUsages as U;
    let total = layout.bytes();
    let mut done = 0;
    let mut buffers = Vec::with_capacity(layout.parameters.len());
    for parameter in &layout.parameters {
        let buffer = gpu.buffer(&parameter.label, parameter.bytes(), U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
        let checkpoint = &checkpoints[parameter.checkpoint];
        let mut offset = 0;
        if parameter.change == Change::Transpose {
            task.check()?;
            let bytes = transposed(parameter, checkpoint)?;
            for piece in bytes.chunks(4 * PIECE) {
                gpu.upload(&buffer, offset, piece).await?;
                offset += piece.len() as u64;
            }
            done += bytes.len() as u64;
            task.report(done.min(total), total);
            buffers.push(buffer);
            continue;
        }
        for part in &parameter.parts {
            let step = (PIECE / parameter.columns.max(1)).max(1);
            for first in (0..part.rows).step_by(step) {
                task.check()?;
                let bytes = piece(parameter, part, checkpoint, first, step.min(part.rows - first))?;
                gpu.upload(&buffer, offset, &bytes).await?;
                offset += bytes.len() as u64;
                done += bytes.len() as u64;
                task.report(done.min(total), total);
            }
        }
        buffers.push(buffer);
    }
    Ok(buffers)
}

/// Some rows of a part as they lie on the GPU, in whole groups of 4 bytes.
fn piece(parameter: &Parameter, part: &Part, checkpoint: &Checkpoint, first: usize, rows: usize) -> Result<Vec<u8>> {
    let Some(info) = checkpoint.get(&part.tensor) else {
        return Err(Error::file(checkpoint.dir(), format!("tensor {} is missing", part.tensor)));
    };
    let mut values = vec![0.0f32; rows * parameter.columns];
    checkpoint.read_f32_rows(info, part.first_row + first, rows, &mut values)?;
    if let Change::Spread(buckets, heads, reach) = parameter.change {
        return Ok(bytemuck::cast_slice(&buckets.table(&values, heads, reach)).to_vec());
    }
    narrowed(parameter, &values).map_err(|what| checkpoint.error(info, what))
}

/// All rows of a buffer whose tensors are stored `[columns, rows]`. The host holds one buffer and one piece of a tensor.
fn transposed(parameter: &Parameter, checkpoint: &Checkpoint) -> Result<Vec<u8>> {
    let Parameter { columns, stride, weight_type, .. } = *parameter;
    let size = weight_type.block().bytes;
    let mut bytes = vec![0u8; parameter.rows() * weight_type.row_bytes(stride)];
    let mut above = 0;
    for part in &parameter.parts {
        let Some(info) = checkpoint.get(&part.tensor) else {
            return Err(Error::file(checkpoint.dir(), format!("tensor {} is missing", part.tensor)));
        };
        let width = info.row_len();
        let step = (PIECE / width.max(1)).max(1);
        for first in (0..columns).step_by(step) {
            let rows = step.min(columns - first);
            let mut values = vec![0.0f32; rows * width];
            checkpoint.read_f32_rows(info, first, rows, &mut values)?;
            for (i, row) in values.chunks_exact(width).enumerate() {
                for (j, value) in row[part.first_row..part.first_row + part.rows].iter().enumerate() {
                    let at = ((above + j) * stride + first + i) * size;
                    narrow(weight_type, *value, &mut bytes[at..at + size]).map_err(|w| checkpoint.error(info, w))?;
                }
            }
        }
        above += part.rows;
    }
    Ok(bytes)
}

/// Rows of values as they lie on the GPU.
fn narrowed(parameter: &Parameter, values: &[f32]) -> Result<Vec<u8>, String> {
    let Parameter { columns, stride, weight_type, .. } = *parameter;
    let size = weight_type.block().bytes;
    let row_bytes = weight_type.row_bytes(stride);
    let mut bytes = vec![0u8; values.len() / columns * row_bytes];
    for (row, out) in values.chunks_exact(columns).zip(bytes.chunks_exact_mut(row_bytes)) {
        for (value, out) in row.iter().zip(out.chunks_exact_mut(size)) {
            narrow(weight_type, *value, out)?;
        }
    }
    Ok(bytes)
}

fn narrow(weight_type: WeightType, value: f32, out: &mut [u8]) -> Result<(), String> {
    match weight_type {
        WeightType::F32 => out.copy_from_slice(&value.to_le_bytes()),
        WeightType::Bf16 => out.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        WeightType::F16 => {
            let narrow = half::f16::from_f32(value);
            if narrow.is_infinite() {
                return Err(format!("the value {value} is beyond f16, use --dtype f32 or auto"));
            }
            out.copy_from_slice(&narrow.to_le_bytes());
        }
        quantised => return Err(format!("{} is uploaded as stored, and not made of floats", quantised.name())),
    }
    Ok(())
}
