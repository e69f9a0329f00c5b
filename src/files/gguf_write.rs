//! A writer of GGUF files, version 3: the header first, then the tensors' bytes as they come.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::gguf::{MAX_KEYS, MAX_RANK, MAX_TENSORS};
use super::gguf_read::MAX_HEADER_BYTES;
use super::gguf_value::{Array, Strings, Value};
use super::safetensors_write::temporary_beside;
use super::{GgmlType, quote};
use crate::{Error, Result};

/// The longest name of a tensor that other readers take, in bytes.
const MAX_NAME_BYTES: usize = 63;
const ALIGNMENT: &str = "general.alignment";

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensorOut {
    /// Its name, unlike any other in the file.
    pub name: String,
    /// How its elements are stored.
    pub ggml_type: GgmlType,
    /// Its 1 to 4 dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl GgufTensorOut {
    /// Its length in bytes.
    ///
    /// # Errors
    /// [`Error::Input`] for a type whose size is not known, and for a shape that the format or the type does not take.
    pub fn bytes(&self) -> Result<u64> {
        let GgufTensorOut { name, ggml_type, shape } = self;
        let error = |what: String| Error::Input(format!("cannot write tensor {}: {what}", quote(name)));
        let Some((elements, bytes)) = ggml_type.block() else {
            return Err(error(format!("the size of {ggml_type} is not known")));
        };
        if shape.is_empty() || shape.len() > MAX_RANK as usize || shape.contains(&0) {
            return Err(error(format!("expected 1 to {MAX_RANK} dimensions above 0, found {shape:?}")));
        }
        let inner = shape[shape.len() - 1] as u64;
        if !inner.is_multiple_of(elements) {
            return Err(error(format!("the last dimension of {shape:?} is not a multiple of {elements}")));
        }
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
        count
            .and_then(|count| (count / elements).checked_mul(bytes))
            .ok_or_else(|| error(format!("the size of shape {shape:?} overflows")))
    }
}

/// Writes a GGUF file whose tensors' bytes come one after another, so that none of them need be in memory as a whole.
///
/// The bytes go to a temporary file beside `path`, which takes its name in [`GgufWriter::finish`]: until then, and for
/// ever after an error, what was at `path` stays as it was. A writer that is dropped before takes its file with it. A
/// `path` that is not a regular file (such as `/dev/null`) is written to.
#[derive(Debug)]
pub struct GgufWriter {
    path: PathBuf,
    target: PathBuf,
    temporary: Option<PathBuf>,
    out: BufWriter<File>,
    /// Name and length of each tensor.
    tensors: Vec<(String, u64)>,
    /// Which of them is being written, and how much of it has been.
    next: usize,
    written: u64,
    alignment: u64,
}

impl GgufWriter {
    /// Begins a file with these keys and tensors, in this order. Data is aligned to `general.alignment` where it is
    /// among the keys, else to 32 bytes.
    ///
    /// # Errors
    /// [`Error::Input`] for keys and tensors that the format does not take, or not twice; [`Error::Io`] where the file
    /// cannot be made.
    pub fn create(path: &Path, metadata: &[(String, Value)], tensors: &[GgufTensorOut]) -> Result<Self> {
        let alignment = alignment(metadata)?;
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            sizes.push((tensor.name.clone(), tensor.bytes()?));
        }
        let header = header(metadata, tensors, &sizes, alignment)?;
        let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let (temporary, file) = if std::fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
            (None, File::options().write(true).open(&target))
        } else {
            let temporary = temporary_beside(&target);
            let file = File::create_new(&temporary);
            (Some(temporary), file)
        };
        let file = file.map_err(|e| Error::io(path, e))?;
        let mut writer = GgufWriter {
            path: path.into(),
            target,
            temporary,
            out: BufWriter::with_capacity(1 << 16, file),
            tensors: sizes,
            next: 0,
            written: 0,
            alignment,
        };
        writer.put(&header)?;
        Ok(writer)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| Error::io(&self.path, e))
    }

    /// Appends bytes of the tensor that is next; the tensors come in the order in which they were described.
    ///
    /// # Errors
    /// [`Error::Input`] for more bytes than the tensor has left, [`Error::Io`] where writing fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some((name, size)) = self.tensors.get(self.next) else {
            return Err(Error::Input(format!("cannot write {} bytes: all tensors are complete", bytes.len())));
        };
        let left = size - self.written;
        if bytes.len() as u64 > left {
            let what = format!("cannot write tensor {}: {} bytes where {left} are left", quote(name), bytes.len());
            return Err(Error::Input(what));
        }
        self.written += bytes.len() as u64;
        let complete = self.written == *size;
        let padding = (size.next_multiple_of(self.alignment) - size) as usize;
        self.put(bytes)?;
        if complete {
            (self.next, self.written) = (self.next + 1, 0);
            self.put(&vec![0; padding])?;
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    ///
    /// # Errors
    /// [`Error::Input`] where bytes are missing, [`Error::Io`] where writing fails.
    pub fn finish(mut self) -> Result<()> {
        if let Some((name, size)) = self.tensors.get(self.next) {
            let (name, written) = (quote(name), self.written);
            return Err(Error::Input(format!("cannot write tensor {name}: {written} bytes of {size} were given")));
        }
        self.out.flush().map_err(|e| Error::io(&self.path, e))?;
        if let Some(temporary) = &self.temporary {
            std::fs::rename(temporary, &self.target).map_err(|e| Error::io(&self.path, e))?;
            self.temporary = None;
        }
        Ok(())
    }
}

impl Drop for GgufWriter {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // nothing can be done about a failure here
            let _ = std::fs::remove_file(temporary);
        }
    }
}

fn key_error(key: &str, what: impl AsRef<str>) -> Error {
    Error::Input(format!("cannot write key {}: {}", quote(key), what.as_ref()))
}

fn alignment(metadata: &[(String, Value)]) -> Result<u64> {
    let Some((_, value)) = metadata.iter().find(|(key, _)| key == ALIGNMENT) else { return Ok(32) };
    match value {
        // the type is the format's
        Value::U32(n) if n.is_power_of_two() && (8..=65536).contains(n) => Ok((*n).into()),
        _ => Err(key_error(ALIGNMENT, "expected a power of two from 8 to 65536 in 32 bits")),
    }
}

/// Everything in front of the data, with the padding behind it.
fn header(
    metadata: &[(String, Value)],
    tensors: &[GgufTensorOut],
    sizes: &[(String, u64)],
    alignment: u64,
) -> Result<Vec<u8>> {
    if metadata.len() as u64 > MAX_KEYS || tensors.len() as u64 > MAX_TENSORS {
        let (keys, tensors) = (metadata.len(), tensors.len());
        return Err(Error::Input(format!("cannot write a file of {keys} keys and {tensors} tensors")));
    }
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    let mut seen = BTreeSet::new();
    for (key, value) in metadata {
        if key.is_empty() || key.len() > u16::MAX.into() || !seen.insert(key) {
            return Err(key_error(key, "expected a name of 1 to 65535 bytes that is given once"));
        }
        string(&mut out, key.as_bytes());
        put_value(&mut out, value);
    }
    seen.clear();
    let mut offset = 0u64;
    for (tensor, (name, bytes)) in tensors.iter().zip(sizes) {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !seen.insert(name) {
            let what = format!("expected a name of 1 to {MAX_NAME_BYTES} bytes that is given once");
            return Err(Error::Input(format!("cannot write tensor {}: {what}", quote(name))));
        }
        string(&mut out, name.as_bytes());
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        out.extend(tensor.shape.iter().rev().flat_map(|&d| (d as u64).to_le_bytes()));
        out.extend(tensor.ggml_type.number().to_le_bytes());
        out.extend(offset.to_le_bytes());
        let end = offset.checked_add(*bytes).and_then(|end| end.checked_next_multiple_of(alignment));
        offset = end.ok_or_else(|| Error::Input("cannot write a file of more than 2^64 bytes".into()))?;
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    if out.len() as u64 > MAX_HEADER_BYTES {
        return Err(Error::Input(format!("cannot write a header of {} bytes, above {MAX_HEADER_BYTES}", out.len())));
    }
    Ok(out)
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// A value behind its type.
fn put_value(out: &mut Vec<u8>, value: &Value) {
    macro_rules! number {
        ($kind:literal, $n:expr) => {{
            out.extend(u32::to_le_bytes($kind));
            out.extend($n.to_le_bytes());
        }};
    }
    match value {
        Value::U8(n) => number!(0, n),
        Value::I8(n) => number!(1, n),
        Value::U16(n) => number!(2, n),
        Value::I16(n) => number!(3, n),
        Value::U32(n) => number!(4, n),
        Value::I32(n) => number!(5, n),
        Value::F32(x) => number!(6, x),
        Value::Bool(b) => number!(7, u8::from(*b)),
        Value::String(s) => {
            out.extend(8u32.to_le_bytes());
            string(out, s);
        }
        Value::Array(array) => {
            out.extend(9u32.to_le_bytes());
            put_array(out, array);
        }
        Value::U64(n) => number!(10, n),
        Value::I64(n) => number!(11, n),
        Value::F64(x) => number!(12, x),
    }
}

/// The type of an array's elements, their number, and they themselves.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    let head = |kind: u32, out: &mut Vec<u8>| {
        out.extend(kind.to_le_bytes());
        out.extend((array.len() as u64).to_le_bytes());
    };
    macro_rules! numbers {
        ($kind:literal, $list:expr) => {{
            head($kind, out);
            out.extend($list.iter().flat_map(|n| n.to_le_bytes()));
        }};
    }
    match array {
        Array::U8(list) => numbers!(0, list),
        Array::I8(list) => numbers!(1, list),
        Array::U16(list) => numbers!(2, list),
        Array::I16(list) => numbers!(3, list),
        Array::U32(list) => numbers!(4, list),
        Array::I32(list) => numbers!(5, list),
        Array::F32(list) => numbers!(6, list),
        Array::Bool(list) => {
            head(7, out);
            out.extend(list.iter().map(|&b| u8::from(b)));
        }
        Array::Strings(list) => {
            head(8, out);
            list.iter().for_each(|s| string(out, s));
        }
        Array::Arrays(list) => {
            head(9, out);
            list.iter().for_each(|array| put_array(out, array));
        }
        Array::U64(list) => numbers!(10, list),
        Array::I64(list) => numbers!(11, list),
        Array::F64(list) => numbers!(12, list),
    }
}

impl Strings {
    /// A list of these strings.
    ///
    /// # Errors
    /// [`Error::Input`] where they are longer than a header may be.
    pub fn gather<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut list = Strings::default();
        for s in strings {
            list.bytes.extend(s.as_ref());
            if list.bytes.len() as u64 > MAX_HEADER_BYTES {
                let what = format!("expected strings of at most {MAX_HEADER_BYTES} bytes together, found longer ones");
                return Err(Error::Input(what));
            }
            list.ends.push(list.bytes.len() as u32);
        }
        Ok(list)
    }
}
