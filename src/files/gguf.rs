//! The GGUF format, versions 2 and 3, little endian: a header parser that distrusts every byte, and reading by position.
//!
//! A file is the magic, the version, two counts, the keys with their values, the tensors' descriptions, and from the
//! next multiple of `general.alignment` on their data. Dimensions are stored innermost first, and the elements of most
//! types come in blocks along the innermost one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::gguf_read::Reader;
pub use super::gguf_read::{MAX_DEPTH, MAX_HEADER_BYTES};
pub use super::gguf_value::{Array, Metadata, Strings, Value};
use super::{checkpoint, quote};
use crate::{Error, Result};

/// The most tensors that one file may hold.
pub const MAX_TENSORS: u64 = 1 << 17;
/// The most keys that one file may hold; real ones have fewer than a hundred.
pub const MAX_KEYS: u64 = 1 << 16;
/// The longest key, in bytes; the format's own limit.
pub const MAX_KEY_BYTES: u64 = 65535;
/// The longest name of a tensor, in bytes. The format says 64, but some writers do not heed it.
pub const MAX_NAME_BYTES: u64 = 256;
/// The most dimensions that a tensor may have.
pub const MAX_RANK: u32 = 4;

const ALIGNMENT: &str = "general.alignment";

macro_rules! types {
    ($($variant:ident $number:literal $name:literal $elements:literal $bytes:literal,)*) => {
        /// How a tensor's elements are stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum GgmlType {
            $(#[doc = concat!("Blocks of ", $elements, " elements in ", $bytes, " bytes.")] $variant,)*
            /// A type that is not known here, by its number: the tensor cannot be read.
            Other(u32),
        }

        impl GgmlType {
            /// Every type that is known.
            pub const ALL: &'static [GgmlType] = &[$(GgmlType::$variant,)*];

            /// The type of a number in a file.
            pub fn from_number(number: u32) -> GgmlType {
                match number {
                    $($number => GgmlType::$variant,)*
                    other => GgmlType::Other(other),
                }
            }

            /// The type's number in a file.
            pub fn number(self) -> u32 {
                match self {
                    $(GgmlType::$variant => $number,)*
                    GgmlType::Other(number) => number,
                }
            }

            /// Elements and bytes of one block, where the type is known.
            pub fn block(self) -> Option<(u64, u64)> {
                match self {
                    $(GgmlType::$variant => Some(($elements, $bytes)),)*
                    GgmlType::Other(_) => None,
                }
            }
        }

        impl fmt::Display for GgmlType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(GgmlType::$variant => f.write_str($name),)*
                    GgmlType::Other(number) => write!(f, "ggml type {number}"),
                }
            }
        }
    };
}

types! {
    F32 0 "F32" 1 4,
    F16 1 "F16" 1 2,
    Q4_0 2 "Q4_0" 32 18,
    Q4_1 3 "Q4_1" 32 20,
    Q5_0 6 "Q5_0" 32 22,
    Q5_1 7 "Q5_1" 32 24,
    Q8_0 8 "Q8_0" 32 34,
    Q8_1 9 "Q8_1" 32 40,
    Q2K 10 "Q2_K" 256 84,
    Q3K 11 "Q3_K" 256 110,
    Q4K 12 "Q4_K" 256 144,
    Q5K 13 "Q5_K" 256 176,
    Q6K 14 "Q6_K" 256 210,
    Q8K 15 "Q8_K" 256 292,
    Iq2Xxs 16 "IQ2_XXS" 256 66,
    Iq2Xs 17 "IQ2_XS" 256 74,
    Iq3Xxs 18 "IQ3_XXS" 256 98,
    Iq1S 19 "IQ1_S" 256 50,
    Iq4Nl 20 "IQ4_NL" 32 18,
    Iq3S 21 "IQ3_S" 256 110,
    Iq2S 22 "IQ2_S" 256 82,
    Iq4Xs 23 "IQ4_XS" 256 136,
    I8 24 "I8" 1 1,
    I16 25 "I16" 1 2,
    I32 26 "I32" 1 4,
    I64 27 "I64" 1 8,
    F64 28 "F64" 1 8,
    Iq1M 29 "IQ1_M" 256 56,
    Bf16 30 "BF16" 1 2,
    Tq1_0 34 "TQ1_0" 256 54,
    Tq2_0 35 "TQ2_0" 256 66,
    Mxfp4 39 "MXFP4" 32 17,
    Nvfp4 40 "NVFP4" 64 36,
    Q1_0 41 "Q1_0" 128 18,
}

/// Where a tensor lies. Made only by the parser: where the type is known, the byte range is inside the file, fits shape
/// and type, and is no other tensor's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// The tensor's name in the file.
    pub name: String,
    /// How its elements are stored.
    pub ggml_type: GgmlType,
    /// Its 1 to 4 dimensions, outermost first, none of them 0.
    pub shape: Vec<usize>,
    /// Its first byte, from the beginning of the file.
    pub offset: u64,
    /// Its length in bytes; 0 where the type is not known.
    pub bytes: u64,
}

impl GgufTensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What a file says about its content.
#[derive(Clone, Debug)]
pub struct Header {
    /// The format's version, 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors, in alphabetical order.
    pub tensors: Vec<GgufTensor>,
}

/// A model in one GGUF file: what its header says, and the open file. Reading takes `&self` from any thread.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    data: Data,
    header: Header,
}

/// Where a file's bytes are.
#[derive(Debug)]
enum Data {
    File(File),
    Memory(&'static [u8]),
}

impl Gguf {
    /// Opens the file `path` and reads its header.
    ///
    /// # Errors
    /// [`Error::File`] that names the key or tensor for whatever does not add up, [`Error::Unsupported`] for another
    /// version or byte order, [`Error::Io`] where the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, size) = super::open_regular(path)?;
        let header = read_header(path, BufReader::new(&file), size)?;
        Ok(Gguf { path: path.into(), data: Data::File(file), header })
    }

    /// Reads the header of a file that is part of the program; `path` is what errors name.
    ///
    /// # Errors
    /// As for [`Gguf::open`].
    pub fn from_static(path: &Path, bytes: &'static [u8]) -> Result<Self> {
        let header = read_header(path, bytes, bytes.len() as u64)?;
        Ok(Gguf { path: path.into(), data: Data::Memory(bytes), header })
    }

    /// The file that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Keys and values.
    pub fn metadata(&self) -> &Metadata {
        &self.header.metadata
    }

    /// All tensors, in alphabetical order.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.header.tensors
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&GgufTensor> {
        let tensors = self.tensors();
        tensors.binary_search_by(|t| t.name.as_str().cmp(name)).ok().map(|i| &tensors[i])
    }

    /// An [`Error::File`] about a tensor: the file, its name, and `what`.
    pub fn error(&self, info: &GgufTensor, what: impl fmt::Display) -> Error {
        Error::file(&self.path, format!("tensor {}: {what}", quote(&info.name)))
    }

    /// Reads the tensor's bytes from `byte_offset` on, as they are stored, until `out` is full.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the type is not known; [`Error::File`] that names the tensor where the range leaves
    /// it or the file has become shorter, or where the operating system cannot read it.
    pub fn read(&self, info: &GgufTensor, byte_offset: u64, out: &mut [u8]) -> Result<()> {
        if let GgmlType::Other(number) = info.ggml_type {
            return Err(Error::unsupported(&self.path, format!("tensor {} has ggml type {number}", quote(&info.name))));
        }
        let inside = byte_offset.checked_add(out.len() as u64).is_some_and(|end| end <= info.bytes);
        let (Some(start), true) = (info.offset.checked_add(byte_offset), inside) else {
            return Err(self.error(
                info,
                format_args!("{} bytes from {byte_offset} on are not within its {}", out.len(), info.bytes),
            ));
        };
        let read = match &self.data {
            Data::File(file) => checkpoint::read_at(file, start, out),
            Data::Memory(bytes) => read_memory(bytes, start, out),
        };
        read.map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => self.error(info, "the file ends before the tensor does"),
            _ => self.error(info, format_args!("cannot be read: {e}")),
        })
    }
}

fn read_memory(bytes: &[u8], start: u64, out: &mut [u8]) -> std::io::Result<()> {
    let rest = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
    rest.ok_or(std::io::ErrorKind::UnexpectedEof)?.read_exact(out)
}

/// Reads and checks the header of a GGUF file of `size` bytes from anything that yields them from the first on; `path`
/// is what errors name. Reads nothing behind the header.
///
/// # Errors
/// As for [`Gguf::open`].
pub fn read_header(path: &Path, from: impl Read, size: u64) -> Result<Header> {
    let mut reader = Reader::new(path, from, size);
    let version = read_version(&mut reader)?;
    let (tensor_count, key_count) = (reader.u64()?, reader.u64()?);
    // the length of a key, one byte of it, the type of its value and a byte of that
    reader.expect(key_count, 14, "keys")?;
    // the length of a name, one byte of it, the rank, a dimension, the type and the offset
    reader.expect(tensor_count, 33, "tensors")?;
    if key_count > MAX_KEYS {
        return Err(reader.error(format!("expected at most {MAX_KEYS} keys, found {key_count}")));
    }
    if tensor_count > MAX_TENSORS {
        return Err(reader.error(format!("expected at most {MAX_TENSORS} tensors, found {tensor_count}")));
    }

    let mut map = BTreeMap::new();
    for i in 0..key_count {
        reader.at = format!("key {} of {key_count}", i + 1);
        let key = reader.name(MAX_KEY_BYTES)?;
        reader.at = format!("key {}", quote(&key));
        let value = reader.value()?;
        match map.entry(key) {
            Entry::Occupied(_) => return Err(reader.error("is given twice")),
            Entry::Vacant(entry) => entry.insert(value),
        };
    }
    let metadata = Metadata { path: path.into(), map };
    let alignment = u64::from(metadata.opt_u32(ALIGNMENT)?.unwrap_or(32));
    if !alignment.is_power_of_two() || !(8..=65536).contains(&alignment) {
        return Err(metadata.error(ALIGNMENT, format!("expected a power of two from 8 to 65536, found {alignment}")));
    }

    let mut tensors = Vec::with_capacity(tensor_count as usize);
    for i in 0..tensor_count {
        reader.at = format!("tensor {} of {tensor_count}", i + 1);
        tensors.push(read_tensor(&mut reader, alignment)?);
    }
    let data_start = reader.position.next_multiple_of(alignment);
    place(&mut tensors, data_start, size).map_err(|what| Error::file(path, what))?;
    Ok(Header { version, metadata, tensors })
}

fn read_version<R: Read>(reader: &mut Reader<'_, R>) -> Result<u32> {
    let magic: [u8; 4] = reader.bytes()?;
    if &magic != b"GGUF" {
        return Err(reader.error(format!("expected the magic bytes `GGUF`, found {}", magic.escape_ascii())));
    }
    match reader.u32()? {
        version @ (2 | 3) => Ok(version),
        1 => Err(Error::unsupported(reader.path, "GGUF version 1, expected 2 or 3; write the file anew")),
        // a small number with its bytes in the other order
        swapped if swapped != 0 && swapped & 0xffff == 0 => {
            let version = swapped.swap_bytes();
            Err(Error::unsupported(reader.path, format!("GGUF version {version} in big-endian byte order")))
        }
        other => Err(Error::unsupported(reader.path, format!("GGUF version {other}, expected 2 or 3"))),
    }
}

/// One tensor's description by itself; its offset is still that in the data.
fn read_tensor<R: Read>(reader: &mut Reader<'_, R>, alignment: u64) -> Result<GgufTensor> {
    let name = reader.name(MAX_NAME_BYTES)?;
    reader.at = format!("tensor {}", quote(&name));
    let rank = reader.u32()?;
    if !(1..=MAX_RANK).contains(&rank) {
        return Err(reader.error(format!("expected 1 to {MAX_RANK} dimensions, found {rank}")));
    }
    let mut dims = (0..rank).map(|_| reader.u64()).collect::<Result<Vec<_>>>()?;
    dims.reverse();
    let ggml_type = GgmlType::from_number(reader.u32()?);
    let offset = reader.u64()?;
    if dims.contains(&0) {
        return Err(reader.error(format!("shape {dims:?} has a dimension of 0")));
    }
    let overflow = || reader.error(format!("the size of shape {dims:?} in {ggml_type} overflows"));
    let elements = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d)).ok_or_else(overflow)?;
    let (block, block_bytes) = ggml_type.block().unwrap_or((1, 0));
    let inner = dims.last().copied().unwrap_or(1);
    if inner % block != 0 {
        return Err(reader.error(format!(
            "the last dimension of shape {dims:?} is not a multiple of {block}, the elements of a block of {ggml_type}"
        )));
    }
    // a multiple of the block, since the last dimension is one
    let bytes = (elements / block).checked_mul(block_bytes).ok_or_else(overflow)?;
    // the host must be able to hold it
    if usize::try_from(elements).is_err() || usize::try_from(bytes).is_err() {
        return Err(overflow());
    }
    let shape = dims.iter().map(|&d| d as usize).collect();
    if offset % alignment != 0 {
        return Err(reader.error(format!("is misaligned: data offset {offset} is not a multiple of {alignment}")));
    }
    Ok(GgufTensor { name, ggml_type, shape, offset, bytes })
}

/// All tensors together: sorts them by name, makes their offsets those in the file, and refuses a name that is given
/// twice, bytes past the end, and bytes of two tensors. Holes are left by alignment, so they are no damage.
fn place(tensors: &mut [GgufTensor], data_start: u64, size: u64) -> Result<(), String> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(pair) = tensors.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(format!("two tensors have the name {}", quote(&pair[0].name)));
    }
    let available = size.saturating_sub(data_start);
    for tensor in &mut *tensors {
        let GgufTensor { offset, bytes, .. } = *tensor;
        // a tensor of an unknown type has at least one byte
        if offset.checked_add(bytes.max(1)).is_none_or(|end| end > available) {
            let name = quote(&tensor.name);
            let least = if bytes == 0 { "some" } else { &format!("{bytes}") };
            return Err(format!(
                "tensor {name} takes {least} bytes from data offset {offset} on, but the file holds {available} bytes \
                 of data"
            ));
        }
        tensor.offset += data_start;
    }
    let mut order: Vec<&GgufTensor> = tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    let overlap = order.windows(2).find(|pair| pair[1].offset < pair[0].offset + pair[0].bytes.max(1));
    match overlap {
        Some(pair) => Err(format!("tensor {} overlaps tensor {}", quote(&pair[1].name), quote(&pair[0].name))),
        None => Ok(()),
    }
}
