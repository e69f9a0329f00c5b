//! All tensors of a Hugging Face folder, one file or sharded, read by position and never as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::safetensors::{Dtype, TensorInfo, read_header};
use super::{first_not_finite, quote};
use crate::{Error, Result};

/// The name of a checkpoint in one file.
const SINGLE: &str = "model.safetensors";
/// The name of a sharded checkpoint's table.
const INDEX: &str = "model.safetensors.index.json";
/// The largest such table that is read, in bytes; real ones stay below 20 MB.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// The most shards; each is an open file.
const MAX_SHARDS: usize = 4096;
/// Bytes that are read at a time where a conversion follows.
const CHUNK: usize = 1 << 16;

/// The tensors of a model's folder: where each one lies, and the open files. Reading takes `&self` from any thread.
#[derive(Debug)]
pub struct Checkpoint {
    dir: PathBuf,
    files: Vec<(PathBuf, File)>,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens `model.safetensors`, or else the shards of `model.safetensors.index.json`, in the folder `dir`, and reads
    /// the headers. As in transformers, the single file wins where both are there, and a tensor that a shard holds but
    /// the index does not mention is loaded with the others.
    ///
    /// # Errors
    /// [`Error::File`] that names the file and tensor for anything damaged or contradictory, [`Error::Unsupported`]
    /// where the weights are there only in another format, [`Error::Io`] where a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut checkpoint =
            Checkpoint { dir: dir.into(), files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        let exists = |name: &str| dir.join(name).exists();
        if exists(SINGLE) {
            checkpoint.add_file(dir.join(SINGLE))?;
        } else if exists(INDEX) {
            checkpoint.add_shards(&dir.join(INDEX))?;
        } else {
            return Err(nothing_to_open(dir));
        }
        Ok(checkpoint)
    }

    /// Opens one safetensors file, whatever its name.
    ///
    /// # Errors
    /// As for [`Checkpoint::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("")).into();
        let mut checkpoint = Checkpoint { dir, files: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() };
        checkpoint.add_file(path.into())?;
        Ok(checkpoint)
    }

    fn add_shards(&mut self, index_path: &Path) -> Result<()> {
        let text = super::read_text(index_path, MAX_INDEX_BYTES)?;
        let index: Index = serde_json::from_str(&text)
            .map_err(|e| Error::file(index_path, format!("is not a valid index of shards: {e}")))?;
        let WeightMap { shards, tensors } = index.weight_map;
        for shard in &shards {
            check_shard_name(shard).map_err(|what| Error::file(index_path, what))?;
        }
        for shard in &shards {
            let path = self.dir.join(shard);
            if !path.exists() {
                return Err(Error::file(index_path, format!("names the shard {}, which is missing", quote(shard))));
            }
            self.add_file(path)?;
        }
        for (name, shard) in tensors {
            if self.tensors.get(&name).is_none_or(|t| t.file != shard) {
                let shard = shards.get(shard).map_or_else(String::new, |s| quote(s));
                return Err(Error::file(
                    index_path,
                    format!("expected tensor {} in the shard {shard}, which lacks it", quote(&name)),
                ));
            }
        }
        Ok(())
    }

    fn add_file(&mut self, path: PathBuf) -> Result<()> {
        let (file, header) = read_header(&path, self.files.len())?;
        for tensor in header.tensors {
            if let Some(other) = self.tensors.get(&tensor.name) {
                let other = self.path_of(other).display().to_string();
                return Err(Error::file(&path, format!("tensor {} is also in {other}", quote(&tensor.name))));
            }
            self.tensors.insert(tensor.name.clone(), tensor);
        }
        self.metadata.extend(header.metadata);
        self.files.push((path, file));
        Ok(())
    }

    /// The folder that was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// The names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors.values()
    }

    /// The files' `__metadata__`; where two shards disagree, the later one's.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The file that holds a tensor; the folder, for a tensor that is not this checkpoint's.
    pub fn path_of(&self, info: &TensorInfo) -> &Path {
        self.files.get(info.file).map_or(&self.dir, |(path, _)| path)
    }

    /// An [`Error::File`] about a tensor: its file, its name, and `what`.
    pub fn error(&self, info: &TensorInfo, what: impl fmt::Display) -> Error {
        Error::file(self.path_of(info), format!("tensor {}: {what}", quote(&info.name)))
    }

    /// Reads the tensor's bytes from `byte_offset` on, as they are stored (little endian), until `out` is full.
    ///
    /// # Errors
    /// [`Error::File`] that names the tensor where the range leaves it or the file has become shorter, or where the
    /// operating system cannot read it.
    pub fn read(&self, info: &TensorInfo, byte_offset: u64, out: &mut [u8]) -> Result<()> {
        let end = byte_offset.checked_add(out.len() as u64);
        let start = info.offset.checked_add(byte_offset);
        let (Some((_, file)), Some(start), true) =
            (self.files.get(info.file), start, end.is_some_and(|end| end <= info.bytes))
        else {
            return Err(self.error(
                info,
                format_args!("{} bytes from {byte_offset} on are not within its {}", out.len(), info.bytes),
            ));
        };
        read_at(file, start, out).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.error(info, "the file ends before the tensor does"),
            _ => self.error(info, format_args!("cannot be read: {e}")),
        })
    }

    /// Reads `rows` rows from `first_row` on into `out` (rows × [`TensorInfo::row_len`] elements), widened to f32.
    /// The caller chooses ranges of a few MiB; a buffer of 64 KiB is all that this takes besides.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the tensor is not F32, F16 or BF16; [`Error::File`] for a range outside the tensor
    /// and for the first element that is NaN or infinite, by its flat index; else as for [`Checkpoint::read`].
    pub fn read_f32_rows(&self, info: &TensorInfo, first_row: usize, rows: usize, out: &mut [f32]) -> Result<()> {
        let first = self.check_rows(info, first_row, rows, out.len())?;
        match info.dtype {
            Dtype::F32 => {
                self.read(info, first.saturating_mul(4), bytemuck::cast_slice_mut(out))?;
                if cfg!(target_endian = "big") {
                    out.iter_mut().for_each(|x| *x = f32::from_bits(x.to_bits().swap_bytes()));
                }
            }
            Dtype::F16 => self.read_halves(info, first, out, |bits, out| {
                bits.reinterpret_cast::<half::f16>().convert_to_f32_slice(out);
            })?,
            Dtype::Bf16 => self.read_halves(info, first, out, |bits, out| {
                bits.reinterpret_cast::<half::bf16>().convert_to_f32_slice(out);
            })?,
            _ => return Err(self.not_weights(info)),
        }
        match first_not_finite(out) {
            Some(i) => Err(self.not_finite(info, first + i as u64, out[i])),
            None => Ok(()),
        }
    }

    fn read_halves(&self, info: &TensorInfo, first: u64, out: &mut [f32], widen: fn(&[u16], &mut [f32])) -> Result<()> {
        let mut halves = vec![0; (CHUNK / 2).min(out.len())];
        let mut position = first.saturating_mul(2);
        for chunk in out.chunks_mut(CHUNK / 2) {
            let halves = &mut halves[..chunk.len()];
            self.read(info, position, bytemuck::cast_slice_mut(halves))?;
            halves.iter_mut().for_each(|bits| *bits = u16::from_le(*bits));
            widen(halves, chunk);
            position += 2 * halves.len() as u64;
        }
        Ok(())
    }

    /// The flat index of a range's first element, once the range is known to be the tensor's and to fill `len`.
    fn check_rows(&self, info: &TensorInfo, first_row: usize, rows: usize, len: usize) -> Result<u64> {
        let inside = first_row.checked_add(rows).is_some_and(|end| end <= info.rows());
        if !inside || rows.checked_mul(info.row_len()) != Some(len) {
            return Err(self.error(
                info,
                format_args!("{rows} rows from {first_row} on in {len} elements do not fit shape {:?}", info.shape),
            ));
        }
        // it fits for every tensor that the parser made; for another one, reading past its end is the error
        Ok((first_row as u64).saturating_mul(info.row_len() as u64))
    }

    fn not_weights(&self, info: &TensorInfo) -> Error {
        let what = format!("tensor {} has dtype {}, expected F32, F16 or BF16", quote(&info.name), info.dtype);
        Error::unsupported(self.path_of(info), what)
    }

    fn not_finite(&self, info: &TensorInfo, index: u64, value: f32) -> Error {
        self.error(info, format_args!("expected finite numbers, found {value} at index {index}"))
    }
}

/// Fills `out` from `offset` on without moving the file's own position, so that threads may share it.
#[cfg(unix)]
pub(super) fn read_at(file: &File, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

/// Fills `out` from `offset` on; each call states its position, so that threads may share the file.
#[cfg(windows)]
pub(super) fn read_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> std::io::Result<()> {
    use std::io::ErrorKind;
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                out = &mut out[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Platforms without positioned reads have no files to speak of.
#[cfg(not(any(unix, windows)))]
pub(super) fn read_at(_: &File, _: u64, _: &mut [u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

fn nothing_to_open(dir: &Path) -> Error {
    if !dir.is_dir() {
        return Error::file(dir, "expected a model's folder, found none");
    }
    let others = ["pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"];
    match others.iter().find(|name| dir.join(name).exists()) {
        Some(name) => Error::unsupported(
            dir.join(name),
            format!("weights in this format; convert them to {SINGLE} (transformers' save_pretrained writes it)"),
        ),
        None => Error::file(dir, format!("expected {SINGLE} or {INDEX} in this folder, found neither")),
    }
}

/// A shard's name must be that of a file in the same folder.
fn check_shard_name(name: &str) -> Result<(), String> {
    let plain = !name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.');
    if plain && name.len() > ".safetensors".len() && name.ends_with(".safetensors") {
        return Ok(());
    }
    Err(format!("expected a shard name that is a plain file name and ends in .safetensors, found {}", quote(name)))
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: WeightMap,
}

/// The table of an index, each shard's name kept once.
struct WeightMap {
    shards: Vec<String>,
    tensors: BTreeMap<String, usize>,
}

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor names to shard names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        use serde::de::Error as _;
        let mut numbers = std::collections::HashMap::new();
        let mut table = WeightMap { shards: Vec::new(), tensors: BTreeMap::new() };
        while let Some((name, shard)) = map.next_entry::<String, String>()? {
            let next = table.shards.len();
            let number = *numbers.entry(shard.clone()).or_insert(next);
            if number == next {
                if next == MAX_SHARDS {
                    return Err(A::Error::custom(format!("more than {MAX_SHARDS} shards")));
                }
                table.shards.push(shard);
            }
            if let Some(other) = table.tensors.insert(name.clone(), number) {
                let (name, a, b) = (quote(&name), quote(&table.shards[other]), quote(&table.shards[number]));
                return Err(A::Error::custom(format!("tensor {name} is given twice, in {a} and in {b}")));
            }
        }
        Ok(table)
    }
}
