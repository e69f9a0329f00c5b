//! Weights on their way to the GPU: read by position, converted and uploaded piece by piece.

use super::layout::{Layout, Parameter, Part};
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
    let (columns, stride) = (parameter.columns, parameter.stride);
    let mut values = vec![0.0f32; rows * columns];
    checkpoint.read_f32_rows(info, part.first_row + first, rows, &mut values)?;
    if let Some((buckets, heads, reach)) = parameter.spread {
        return Ok(bytemuck::cast_slice(&buckets.table(&values, heads, reach)).to_vec());
    }
    let size = parameter.weight_type.size();
    let mut bytes = vec![0u8; rows * stride * size];
    for (row, out) in values.chunks_exact(columns).zip(bytes.chunks_exact_mut(stride * size)) {
        for (value, out) in row.iter().zip(out.chunks_exact_mut(size)) {
            match parameter.weight_type {
                WeightType::F32 => out.copy_from_slice(&value.to_le_bytes()),
                WeightType::Bf16 => out.copy_from_slice(&half::bf16::from_f32(*value).to_le_bytes()),
                WeightType::F16 => {
                    let narrow = half::f16::from_f32(*value);
                    if narrow.is_infinite() {
                        let what = format!("the value {value} is beyond f16, use --dtype f32 or auto");
                        return Err(checkpoint.error(info, what));
                    }
                    out.copy_from_slice(&narrow.to_le_bytes());
                }
            }
        }
    }
    Ok(bytes)
}
