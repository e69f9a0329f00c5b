//! A model's tensors wherever they are stored: in a Hugging Face folder or in a GGUF file.

use std::fmt;
use std::path::Path;

use super::dequantise::{can_dequantise, dequantise};
use super::{Checkpoint, Dtype, GgmlType, Gguf, GgufTensor, TensorInfo, first_not_finite};
use crate::{Error, Result};

/// Bytes that are read at a time where a conversion follows.
const CHUNK: usize = 1 << 16;

/// Where a model's tensors are stored. Reading takes `&self` from any thread.
#[derive(Debug)]
pub enum Source {
    /// Safetensors.
    Folder(Checkpoint),
    /// GGUF.
    Gguf(Gguf),
}

/// How a stored tensor's elements can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Single precision.
    F32,
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of a type that [`Source::read_f32_rows`] widens.
    Blocks(GgmlType),
    /// Not as numbers.
    Other,
}

/// A tensor of a source.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its dimensions, outermost first.
    pub shape: &'a [usize],
    /// How its elements are stored.
    pub element: Element,
    /// Its size.
    pub bytes: u64,
    at: At<'a>,
}

#[derive(Clone, Copy, Debug)]
enum At<'a> {
    Safetensors(&'a Checkpoint, &'a TensorInfo),
    Gguf(&'a Gguf, &'a GgufTensor),
}

impl Source {
    /// The folder or the file.
    pub fn path(&self) -> &Path {
        match self {
            Source::Folder(checkpoint) => checkpoint.dir(),
            Source::Gguf(gguf) => gguf.path(),
        }
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<Stored<'_>> {
        match self {
            Source::Folder(checkpoint) => checkpoint.get(name).map(|info| Stored {
                name: &info.name,
                shape: &info.shape,
                element: match info.dtype {
                    Dtype::F32 => Element::F32,
                    Dtype::F16 => Element::F16,
                    Dtype::Bf16 => Element::Bf16,
                    _ => Element::Other,
                },
                bytes: info.bytes,
                at: At::Safetensors(checkpoint, info),
            }),
            Source::Gguf(gguf) => gguf.get(name).map(|info| Stored {
                name: &info.name,
                shape: &info.shape,
                element: match info.ggml_type {
                    GgmlType::F32 => Element::F32,
                    GgmlType::F16 => Element::F16,
                    GgmlType::Bf16 => Element::Bf16,
                    blocks if can_dequantise(blocks) => Element::Blocks(blocks),
                    _ => Element::Other,
                },
                bytes: info.bytes,
                at: At::Gguf(gguf, info),
            }),
        }
    }

    /// An [`Error::File`] about a tensor that is not there.
    pub fn missing(&self, name: &str) -> Error {
        Error::file(self.path(), format!("tensor {name} is missing"))
    }
}

impl Stored<'_> {
    /// The number of rows, which are what the outermost dimension counts.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements in a row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// An [`Error::File`] about the tensor: the file, its name, and `what`.
    pub fn error(&self, what: impl fmt::Display) -> Error {
        match self.at {
            At::Safetensors(checkpoint, info) => checkpoint.error(info, what),
            At::Gguf(gguf, info) => gguf.error(info, what),
        }
    }

    /// An [`Error::Unsupported`] about a tensor that is no weight.
    pub fn not_weights(&self) -> Error {
        match self.at {
            At::Safetensors(checkpoint, info) => Error::unsupported(
                checkpoint.path_of(info),
                format!("tensor {} of type {}; weights are F32, F16 or BF16", info.name, info.dtype.name()),
            ),
            At::Gguf(gguf, info) => {
                Error::unsupported(gguf.path(), format!("tensor {} of type {}", info.name, info.ggml_type))
            }
        }
    }

    /// Reads the tensor's bytes from `byte_offset` on, as they are stored (little endian), until `out` is full.
    ///
    /// # Errors
    /// [`Error::File`] that names the tensor where the range leaves it or the file cannot be read so far.
    pub fn read(&self, byte_offset: u64, out: &mut [u8]) -> Result<()> {
        match self.at {
            At::Safetensors(checkpoint, info) => checkpoint.read(info, byte_offset, out),
            At::Gguf(gguf, info) => gguf.read(info, byte_offset, out),
        }
    }

    /// Reads `rows` rows from `first_row` on into `out` (rows × [`Stored::row_len`] elements), widened to f32.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the elements are no numbers; [`Error::File`] for a range outside the tensor and for
    /// the first element that is NaN or infinite, by its flat index; else as for [`Stored::read`].
    pub fn read_f32_rows(&self, first_row: usize, rows: usize, out: &mut [f32]) -> Result<()> {
        let (gguf, info) = match self.at {
            At::Safetensors(checkpoint, info) => return checkpoint.read_f32_rows(info, first_row, rows, out),
            At::Gguf(gguf, info) => (gguf, info),
        };
        let Some((block, block_bytes)) = info.ggml_type.block().filter(|_| self.element != Element::Other) else {
            return Err(self.not_weights());
        };
        let inside = first_row.checked_add(rows).is_some_and(|end| end <= self.rows());
        if !inside || rows.checked_mul(self.row_len()) != Some(out.len()) {
            let (length, shape) = (out.len(), self.shape);
            return Err(
                self.error(format_args!("{rows} rows from {first_row} on in {length} elements do not fit {shape:?}"))
            );
        }
        // rows are whole blocks, or the tensor is one row
        let first = first_row as u64 * self.row_len() as u64;
        let mut offset = first / block * block_bytes;
        let step = CHUNK / block_bytes as usize;
        let mut bytes = vec![0; step * block_bytes as usize];
        for values in out.chunks_mut(step * block as usize) {
            let bytes = &mut bytes[..values.len() / block as usize * block_bytes as usize];
            gguf.read(info, offset, bytes)?;
            dequantise(info.ggml_type, bytes, values).map_err(|what| self.error(what))?;
            offset += bytes.len() as u64;
        }
        match first_not_finite(out) {
            Some(i) => {
                let (value, index) = (out[i], first + i as u64);
                Err(self.error(format_args!("expected finite numbers, found {value} at index {index}")))
            }
            None => Ok(()),
        }
    }
}
