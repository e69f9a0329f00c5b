//! A small writer of safetensors files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::quote;
use super::safetensors::Dtype;
use crate::{Error, Result};

/// The elements of a tensor to be written.
#[derive(Clone, Copy, Debug)]
pub enum TensorData<'a> {
    /// Written as `F32`.
    F32(&'a [f32]),
    /// Written as `I32`.
    I32(&'a [i32]),
}

/// A tensor to be written.
#[derive(Clone, Copy, Debug)]
pub struct TensorOut<'a> {
    /// Its name, unlike any other in the file.
    pub name: &'a str,
    /// Its dimensions, outermost first; their product is the number of elements.
    pub shape: &'a [usize],
    /// Its elements, row by row.
    pub data: TensorData<'a>,
}

/// Writes a safetensors file, through a temporary file beside it that takes its name at the end, so that a reader
/// sees the old file or the whole new one. A `path` that is not a regular file (such as `/dev/null`) is written to.
///
/// # Errors
/// [`Error::Input`] for two equal names or a shape that does not fit its data, [`Error::Io`] where writing fails.
pub fn write(path: &Path, tensors: &[TensorOut<'_>], metadata: &BTreeMap<String, String>) -> Result<()> {
    let header = header_json(tensors, metadata)?;
    let target = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if std::fs::metadata(&target).is_ok_and(|m| !m.is_file()) {
        let file = File::options().write(true).open(&target).map_err(|e| Error::io(path, e))?;
        return write_to(file, &header, tensors).map_err(|e| Error::io(path, e));
    }
    let temporary = temporary_beside(&target);
    let written = File::create_new(&temporary)
        .and_then(|file| write_to(file, &header, tensors))
        .and_then(|()| std::fs::rename(&temporary, &target));
    written.map_err(|e| {
        // nothing can be done about a failure here, and the first error is the one that matters
        let _ = std::fs::remove_file(&temporary);
        Error::io(path, e)
    })
}

/// A name in the target's folder that no file has.
pub(super) fn temporary_beside(target: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}.{}.tmp", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    target.with_file_name(name)
}

fn header_json(tensors: &[TensorOut<'_>], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut object = serde_json::Map::new();
    if !metadata.is_empty() {
        object.insert("__metadata__".into(), serde_json::json!(metadata));
    }
    let mut offset = 0u64;
    for tensor in tensors {
        let (dtype, len) = match tensor.data {
            TensorData::F32(data) => (Dtype::F32, data.len()),
            TensorData::I32(data) => (Dtype::I32, data.len()),
        };
        let name = quote(tensor.name);
        if tensor.name == "__metadata__" || object.contains_key(tensor.name) {
            return Err(Error::Input(format!("cannot write tensor {name}: the name is taken")));
        }
        if tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(len) {
            let shape = tensor.shape;
            return Err(Error::Input(format!("cannot write tensor {name}: shape {shape:?} for {len} elements")));
        }
        let end = offset + len as u64 * dtype.size();
        let entry = serde_json::json!({"dtype": dtype.name(), "shape": tensor.shape, "data_offsets": [offset, end]});
        object.insert(tensor.name.into(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::Object(object).to_string().into_bytes();
    // readers that map the file want aligned data
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

fn write_to(file: File, header: &[u8], tensors: &[TensorOut<'_>]) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header)?;
    for tensor in tensors {
        match tensor.data {
            TensorData::F32(data) => data.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?,
            TensorData::I32(data) => data.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))?,
        }
    }
    out.flush()
}
