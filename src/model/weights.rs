//! Weights on their way to the GPU: read by position, converted and uploaded piece by piece.

use std::future::poll_fn;
use std::sync::Arc;
use std::thread;

use futures_channel::mpsc;
use half::slice::HalfFloatSliceExt as _;

use super::layout::{Change, Parameter, Part};
use crate::error::{Error, Result};
use crate::files::{Element, GgmlType, Source};
use crate::gpu::Gpu;
use crate::kernels::WeightType;
use crate::task::{CancelToken, Task};

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

/// Elements that are read, converted and uploaded at a time: 2 MiB as f32.
const PIECE: usize = 1 << 19;

/// Bytes on their way from the thread that reads to the one that uploads.
struct Piece {
    /// Which buffer.
    parameter: usize,
    /// Where in it.
    offset: u64,
    /// A multiple of 4.
    bytes: Vec<u8>,
}

/// Allocates every buffer and fills it. A thread reads and converts the next pieces while the GPU copies the one before.
/// Progress is in bytes.
///
/// # Errors
/// [`Error::File`] for a value that is not finite or does not fit the type asked for, [`Error::OutOfMemory`],
/// [`Error::DeviceLost`], [`Error::Cancelled`].
pub async fn upload(
    gpu: &Gpu,
    parameters: Arc<[Parameter]>,
    sources: Arc<[Source]>,
    task: &Task,
) -> Result<Vec<wgpu::Buffer>> {
    use wgpu::BufferUsages as U;
    let (sender, mut pieces) = mpsc::channel(1);
    let (used, spare) = std::sync::mpsc::channel();
    let total = parameters.iter().map(Parameter::bytes).sum();
    let (all, cancel) = (Arc::clone(&parameters), task.cancel.clone());
    let reader = thread::Builder::new().name("thalweg-reader".into()).spawn(move || {
        let mut reader = Reader { pieces: sender, spare, values: Vec::new(), cancel };
        if let Err(error) = reader.all(&all, &sources) {
            reader.send(Err(error));
        }
    });
    let failed = |message| Error::Internal { during: "reading of weights".into(), message };
    let reader = reader.map_err(|error| failed(error.to_string()))?;
    let allocated = |p: &Parameter| gpu.buffer(&p.label, p.bytes(), U::STORAGE | U::COPY_DST | U::COPY_SRC);
    let buffers = parameters.iter().map(allocated).collect::<Result<Vec<_>>>()?;
    let (mut done, mut staged, mut before) = (0, 0, None);
    while let Ok(piece) = pieces.recv().await {
        let Piece { parameter, offset, bytes } = piece?;
        gpu.scoped("upload", || gpu.queue().write_buffer(&buffers[parameter], offset, &bytes))?;
        (done, staged) = (done + bytes.len() as u64, staged + bytes.len());
        let _ = used.send(bytes);
        // staging memory piles up until a submission has taken it: two of these are under way at most
        if staged >= 4 * PIECE {
            staged = 0;
            let submission = gpu.scoped("upload", || gpu.queue().submit([]))?;
            if let Some(before) = before.replace(gpu.finished(submission)) {
                before.await?;
            }
        }
        task.report(done.min(total), total);
    }
    reader.join().map_err(|_| failed("its thread panicked".into()))?;
    let submission = gpu.scoped("upload", || gpu.queue().submit([]))?;
    gpu.finished(submission).await?;
    task.report(total, total);
    Ok(buffers)
}

/// Reads and converts what the buffers are filled with, in their order.
struct Reader {
    pieces: mpsc::Sender<Result<Piece>>,
    /// Buffers that come back once they are uploaded: fresh memory costs more than what is done with it.
    spare: std::sync::mpsc::Receiver<Vec<u8>>,
    /// What was read last, as f32.
    values: Vec<f32>,
    cancel: CancelToken,
}

impl Reader {
    fn all(&mut self, parameters: &[Parameter], sources: &[Source]) -> Result<()> {
        for (i, parameter) in parameters.iter().enumerate() {
            match parameter.change {
                Change::Transpose => self.columns(i, parameter, &sources[parameter.source])?,
                _ => self.rows(i, parameter, &sources[parameter.source])?,
            }
        }
        Ok(())
    }

    /// Hands over, as soon as there is room; false where nobody listens any more.
    fn send(&mut self, piece: Result<Piece>) -> bool {
        let room = pollster::block_on(poll_fn(|context| self.pieces.poll_ready(context)));
        room.and_then(|()| self.pieces.start_send(piece)).is_ok()
    }

    /// Hands a buffer's next bytes over.
    fn give(&mut self, parameter: usize, offset: &mut u64, bytes: Vec<u8>) -> Result<()> {
        let at = *offset;
        *offset += bytes.len() as u64;
        let heard = self.send(Ok(Piece { parameter, offset: at, bytes }));
        if heard && !self.cancel.is_cancelled() { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// An empty buffer.
    fn buffer(&self) -> Vec<u8> {
        let mut bytes = self.spare.try_recv().unwrap_or_default();
        bytes.clear();
        bytes
    }

    /// The rows of a buffer's parts. Uploads are whole groups of 4 bytes, and a row of blocks need not be: what is left over
    /// goes with the next rows.
    fn rows(&mut self, i: usize, parameter: &Parameter, source: &Source) -> Result<()> {
        let (mut offset, mut rest) = (0, Vec::new());
        for part in &parameter.parts {
            let step = (PIECE / parameter.columns.max(1) / part.step).max(1);
            for first in (0..part.rows).step_by(step) {
                let mut bytes = self.buffer();
                bytes.append(&mut rest);
                self.append(parameter, part, source, first, step.min(part.rows - first), &mut bytes)?;
                rest = bytes.split_off(bytes.len() / 4 * 4);
                self.give(i, &mut offset, bytes)?;
            }
        }
        if rest.is_empty() {
            return Ok(());
        }
        rest.resize(4, 0);
        self.give(i, &mut offset, rest)
    }

    /// Some rows of a part as they lie on the GPU.
    fn append(
        &mut self,
        parameter: &Parameter,
        part: &Part,
        source: &Source,
        first: usize,
        rows: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(stored) = source.get(&part.tensor) else { return Err(source.missing(&part.tensor)) };
        let first = part.first_row + first * part.step;
        // rows between those that are wanted are read and dropped
        let span = (rows - 1) * part.step + 1;
        if let WeightType::F32 | WeightType::F16 | WeightType::Bf16 = parameter.weight_type {
            self.values.resize(span * parameter.columns, 0.0);
            stored.read_f32_rows(first, span, &mut self.values)?;
            if let Change::Spread(buckets, heads, reach) = parameter.change {
                out.extend_from_slice(bytemuck::cast_slice(&buckets.table(&self.values, heads, reach)));
                return Ok(());
            }
            let mut rows = self.values.chunks_exact(parameter.columns).step_by(part.step);
            return rows.try_for_each(|row| append_row(parameter, row, out)).map_err(|what| stored.error(what));
        }
        let row_bytes = parameter.weight_type.row_bytes(parameter.columns);
        let begin = out.len();
        out.resize(begin + span * row_bytes, 0);
        stored.read(first as u64 * row_bytes as u64, &mut out[begin..])?;
        check_scales(parameter.weight_type, &out[begin..]).map_err(|what| stored.error(what))?;
        if part.step > 1 {
            for row in 1..rows {
                let from = begin + row * part.step * row_bytes;
                out.copy_within(from..from + row_bytes, begin + row * row_bytes);
            }
            out.truncate(begin + rows * row_bytes);
        }
        Ok(())
    }

    /// All rows of a buffer whose tensors are stored `[columns, rows]`.
    fn columns(&mut self, i: usize, parameter: &Parameter, source: &Source) -> Result<()> {
        let all = transposed(parameter, source)?;
        let mut offset = 0;
        for piece in all.chunks(4 * PIECE) {
            let mut bytes = self.buffer();
            bytes.extend_from_slice(piece);
            self.give(i, &mut offset, bytes)?;
        }
        Ok(())
    }
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

/// A row of values as it lies on the GPU.
fn append_row(parameter: &Parameter, row: &[f32], out: &mut Vec<u8>) -> Result<(), String> {
    let Parameter { columns, stride, weight_type, .. } = *parameter;
    match weight_type {
        WeightType::F32 => out.extend_from_slice(bytemuck::cast_slice(row)),
        WeightType::F16 => {
            for values in row.chunks(64) {
                let mut halves = [half::f16::ZERO; 64];
                let halves = &mut halves[..values.len()];
                halves.convert_from_f32_slice(values);
                if let Some(at) = halves.iter().position(|half| half.is_infinite()) {
                    return Err(beyond_f16(values[at]));
                }
                out.extend_from_slice(bytemuck::cast_slice(halves));
            }
        }
        other => {
            let (begin, size) = (out.len(), other.block().bytes);
            out.resize(begin + row.len() * size, 0);
            let narrowed = row.iter().zip(out[begin..].chunks_exact_mut(size));
            narrowed.into_iter().try_for_each(|(value, out)| narrow(other, *value, out))?;
        }
    }
    out.resize(out.len() + (stride - columns) * weight_type.block().bytes, 0);
    Ok(())
}

fn beyond_f16(value: f32) -> String {
    format!("the value {value} is beyond f16, use --dtype f32 or auto")
}

fn narrow(weight_type: WeightType, value: f32, out: &mut [u8]) -> Result<(), String> {
    match weight_type {
        WeightType::F32 => out.copy_from_slice(&value.to_le_bytes()),
        WeightType::Bf16 => out.copy_from_slice(&half::bf16::from_f32(value).to_le_bytes()),
        WeightType::F16 => {
            let narrow = half::f16::from_f32(value);
            if narrow.is_infinite() {
                return Err(beyond_f16(value));
            }
            out.copy_from_slice(&narrow.to_le_bytes());
        }
        quantised => return Err(format!("{} is uploaded as stored, and not made of floats", quantised.name())),
    }
    Ok(())
}
