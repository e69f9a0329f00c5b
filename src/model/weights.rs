//! Weights on their way to the GPU: read by position, converted and uploaded piece by piece.

use super::layout::{Change, Layout, Parameter, Part};
use crate::error::Result;
use crate::files::{Element, GgmlType, Source};
use crate::gpu::Gpu;
use crate::kernels::WeightType;
use crate::task::Task;

/// How weights are stored on the GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// As in the file; blocks that no kernel reads become half floats.
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
    /// How a matrix whose elements are stored so is stored on the GPU. Blocks that kernels cannot read become half floats.
    pub(super) fn of(self, stored: Element) -> WeightType {
        match (self, stored) {
            (Dtype::F32, _) => WeightType::F32,
            (Dtype::F16, _) => WeightType::F16,
            (Dtype::Auto, Element::F16) => WeightType::F16,
            (Dtype::Auto, Element::Bf16) => WeightType::Bf16,
            (Dtype::Auto, Element::Blocks(blocks)) => as_stored(blocks).unwrap_or(WeightType::F16),
            (Dtype::Auto, _) => WeightType::F32,
        }
    }
}

/// The blocks that kernels read.
fn as_stored(blocks: GgmlType) -> Option<WeightType> {
    match blocks {
        GgmlType::Q8_0 => Some(WeightType::Q8_0),
        GgmlType::Q4_0 => Some(WeightType::Q4_0),
        GgmlType::Q4K => Some(WeightType::Q4K),
        GgmlType::Q5K => Some(WeightType::Q5K),
        GgmlType::Q6K => Some(WeightType::Q6K),
        _ => None,
    }
}

/// Where the f16 scales of a block are.
fn scales(weight_type: WeightType) -> &'static [usize] {
    match weight_type {
        WeightType::Q8_0 | WeightType::Q4_0 => &[0],
        WeightType::Q4K | WeightType::Q5K => &[0, 2],
        WeightType::Q6K => &[208],
        _ => &[],
    }
}

/// Elements that are read, converted and uploaded at a time: 4 MiB as f32.
const PIECE: usize = 1 << 20;

/// Allocates every buffer of a layout and fills it. Progress is in bytes.
///
/// # Errors
/// [`Error::File`] for a value that is not finite or does not fit the type asked for, [`Error::OutOfMemory`],
/// [`Error::DeviceLost`], [`Error::Cancelled`].
pub async fn upload(gpu: &Gpu, layout: &Layout, sources: &[Source], task: &Task) -> Result<Vec<wgpu::Buffer>> {
    use wgpu::BufferUsages as U;
    let total = layout.bytes();
    let mut done = 0;
    let mut buffers = Vec::with_capacity(layout.parameters.len());
    for parameter in &layout.parameters {
        let buffer = gpu.buffer(&parameter.label, parameter.bytes(), U::STORAGE | U::COPY_DST | U::COPY_SRC)?;
        let source = &sources[parameter.source];
        if parameter.change == Change::Transpose {
            task.check()?;
            let bytes = transposed(parameter, source)?;
            let mut offset = 0;
            for piece in bytes.chunks(4 * PIECE) {
                gpu.upload(&buffer, offset, piece).await?;
                offset += piece.len() as u64;
            }
            done += bytes.len() as u64;
        } else {
            let before = done;
            let progress = |bytes: u64| task.report((before + bytes).min(total), total);
            done += rows(gpu, &buffer, parameter, source, task, progress).await?;
        }
        task.report(done.min(total), total);
        buffers.push(buffer);
    }
    Ok(buffers)
}

/// Fills a buffer with the rows of its parts, and says how many bytes they were. Uploads are whole groups of 4 bytes,
/// and a row of blocks need not be: what is left over waits for the next rows.
async fn rows(
    gpu: &Gpu,
    buffer: &wgpu::Buffer,
    parameter: &Parameter,
    source: &Source,
    task: &Task,
    progress: impl Fn(u64),
) -> Result<u64> {
    let mut pending = Vec::new();
    let (mut offset, mut bytes) = (0, 0);
    for part in &parameter.parts {
        let step = (PIECE / parameter.columns.max(1) / part.step).max(1);
        for first in (0..part.rows).step_by(step) {
            task.check()?;
            let piece = piece(parameter, part, source, first, step.min(part.rows - first))?;
            bytes += piece.len() as u64;
            pending.extend(piece);
            if pending.len() >= 4 * PIECE {
                let rest = pending.split_off(pending.len() / 4 * 4);
                gpu.upload(buffer, offset, &pending).await?;
                offset += pending.len() as u64;
                pending = rest;
                progress(bytes);
            }
        }
    }
    pending.resize(pending.len().next_multiple_of(4), 0);
    if !pending.is_empty() {
        gpu.upload(buffer, offset, &pending).await?;
    }
    Ok(bytes)
}

/// Some rows of a part as they lie on the GPU.
fn piece(parameter: &Parameter, part: &Part, source: &Source, first: usize, rows: usize) -> Result<Vec<u8>> {
    let Some(stored) = source.get(&part.tensor) else { return Err(source.missing(&part.tensor)) };
    let first = part.first_row + first * part.step;
    // rows between those that are wanted are read and dropped
    let span = (rows - 1) * part.step + 1;
    if let WeightType::F32 | WeightType::F16 | WeightType::Bf16 = parameter.weight_type {
        let mut values = vec![0.0f32; span * parameter.columns];
        stored.read_f32_rows(first, span, &mut values)?;
        if let Change::Spread(buckets, heads, reach) = parameter.change {
            return Ok(bytemuck::cast_slice(&buckets.table(&values, heads, reach)).to_vec());
        }
        let rows = values.chunks_exact(parameter.columns).step_by(part.step);
        return narrowed(parameter, rows).map_err(|what| stored.error(what));
    }
    let row_bytes = parameter.weight_type.row_bytes(parameter.columns);
    let mut bytes = vec![0; span * row_bytes];
    stored.read(first as u64 * row_bytes as u64, &mut bytes)?;
    check_scales(parameter.weight_type, &bytes).map_err(|what| stored.error(what))?;
    Ok(match part.step {
        1 => bytes,
        step => bytes.chunks_exact(row_bytes).step_by(step).flatten().copied().collect(),
    })
}

/// A block whose scale is not finite makes no numbers.
fn check_scales(weight_type: WeightType, bytes: &[u8]) -> Result<(), String> {
    for block in bytes.chunks_exact(weight_type.block().bytes) {
        for &at in scales(weight_type) {
            let scale = half::f16::from_le_bytes([block[at], block[at + 1]]);
            if !scale.is_finite() {
                return Err(format!("expected finite numbers, found a block with the scale {scale}"));
            }
        }
    }
    Ok(())
}

/// All rows of a buffer whose tensors are stored `[columns, rows]`. The host holds one buffer and one piece of a tensor.
fn transposed(parameter: &Parameter, source: &Source) -> Result<Vec<u8>> {
    let Parameter { columns, stride, weight_type, .. } = *parameter;
    let size = weight_type.block().bytes;
    let mut bytes = vec![0u8; parameter.rows() * weight_type.row_bytes(stride)];
    let mut above = 0;
    for part in &parameter.parts {
        let Some(stored) = source.get(&part.tensor) else { return Err(source.missing(&part.tensor)) };
        let width = stored.row_len();
        let step = (PIECE / width.max(1)).max(1);
        for first in (0..columns).step_by(step) {
            let rows = step.min(columns - first);
            let mut values = vec![0.0f32; rows * width];
            stored.read_f32_rows(first, rows, &mut values)?;
            for (i, row) in values.chunks_exact(width).enumerate() {
                for (j, value) in row[part.first_row..part.first_row + part.rows].iter().enumerate() {
                    let at = ((above + j) * stride + first + i) * size;
                    narrow(weight_type, *value, &mut bytes[at..at + size]).map_err(|w| stored.error(w))?;
                }
            }
        }
        above += part.rows;
    }
    Ok(bytes)
}

/// Rows of values as they lie on the GPU.
fn narrowed<'a>(parameter: &Parameter, rows: impl ExactSizeIterator<Item = &'a [f32]>) -> Result<Vec<u8>, String> {
    let Parameter { stride, weight_type, .. } = *parameter;
    let size = weight_type.block().bytes;
    let row_bytes = weight_type.row_bytes(stride);
    let mut bytes = vec![0u8; rows.len() * row_bytes];
    for (row, out) in rows.zip(bytes.chunks_exact_mut(row_bytes)) {
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
