//! The safetensors format: a header parser that distrusts every byte. (The writer is in `safetensors_write`.)
//!
//! A file is eight bytes (the header's length, little endian), a JSON header, and the tensors' data, which must be
//! covered by the tensors exactly: no overlap, no hole, nothing left over.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::quote;
pub use super::safetensors_write::{TensorData, TensorOut, write};
use crate::{Error, Result};

/// The longest header that is read, in bytes; the same limit as the `safetensors` crate's.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;
/// The most tensors that one file may hold. The largest sharded models of today stay below a tenth of it a file.
pub const MAX_TENSORS: usize = 1 << 17;
/// The most dimensions that a tensor may have.
pub const MAX_RANK: usize = 32;

macro_rules! dtypes {
    ($($variant:ident $name:literal $size:literal $doc:literal,)*) => {
        /// Element type of a stored tensor. Only `F32`, `F16` and `BF16` can be read as weights.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Dtype {
            $(#[doc = $doc] $variant,)*
        }

        impl Dtype {
            /// Every element type that the parser knows.
            pub const ALL: &'static [Dtype] = &[$(Dtype::$variant,)*];

            /// The type's name in a safetensors header, such as `BF16`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Dtype::$variant => $name,)*
                }
            }

            /// Bytes of one element.
            pub fn size(self) -> u64 {
                match self {
                    $(Dtype::$variant => $size,)*
                }
            }
        }
    };
}

dtypes! {
    F32 "F32" 4 "IEEE single precision.",
    F16 "F16" 2 "IEEE half precision.",
    Bf16 "BF16" 2 "The upper half of an IEEE single.",
    F64 "F64" 8 "IEEE double precision.",
    Bool "BOOL" 1 "A byte, 0 or 1.",
    U8 "U8" 1 "Unsigned, 8 bits.",
    I8 "I8" 1 "Signed, 8 bits.",
    U16 "U16" 2 "Unsigned, 16 bits.",
    I16 "I16" 2 "Signed, 16 bits.",
    U32 "U32" 4 "Unsigned, 32 bits.",
    I32 "I32" 4 "Signed, 32 bits.",
    U64 "U64" 8 "Unsigned, 64 bits.",
    I64 "I64" 8 "Signed, 64 bits.",
    C64 "C64" 8 "Complex of two singles.",
    F8E4M3 "F8_E4M3" 1 "8 bits, 4 of exponent.",
    F8E5M2 "F8_E5M2" 1 "8 bits, 5 of exponent.",
    F8E8M0 "F8_E8M0" 1 "8 bits of exponent: a scale.",
    F8E4M3Fnuz "F8_E4M3FNUZ" 1 "8 bits, 4 of exponent, no infinities and no negative zero.",
    F8E5M2Fnuz "F8_E5M2FNUZ" 1 "8 bits, 5 of exponent, no infinities and no negative zero.",
}

impl Dtype {
    /// The type of a header's name, or `None` where the name is unknown.
    pub fn parse(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|d| d.name() == name)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a tensor lies. Made only by the parser, so the byte range is inside the file and fits shape and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name in the file.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Which of the checkpoint's files it is in (0 for a single file).
    pub file: usize,
    /// Its first byte, from the beginning of the file.
    pub offset: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.bytes / self.dtype.size()
    }

    /// Number of rows: the first dimension, and 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row: the product of all dimensions but the first.
    pub fn row_len(&self) -> usize {
        // the product with the first dimension is known to fit, but that one may be 0
        self.shape.iter().skip(1).fold(1, |n, &d| n.saturating_mul(d))
    }
}

/// What a file's header says.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// The tensors in the order of their data.
    pub tensors: Vec<TensorInfo>,
    /// The header's `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of the safetensors file at `path`; `index` becomes [`TensorInfo::file`].
///
/// # Errors
/// [`Error::File`] that names the tensor for whatever does not add up, [`Error::Io`] where reading fails.
pub fn read_header(path: &Path, index: usize) -> Result<(File, Header)> {
    let (file, size) = super::open_regular(path)?;
    let bad = |what: String| Error::file(path, what);
    if size < 8 {
        return Err(bad(format!("is truncated: expected the header's length in 8 bytes, found {size} bytes in all")));
    }
    let io = |e| Error::io(path, e);
    let mut length = [0; 8];
    (&file).read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(bad(format!("expected a header of at most {MAX_HEADER_BYTES} bytes, found a length of {length}")));
    }
    if length > size - 8 {
        return Err(bad(format!("is truncated: the header should take {length} bytes, but {} follow", size - 8)));
    }
    let mut header = Vec::new();
    (&file).take(length).read_to_end(&mut header).map_err(io)?;
    if header.len() as u64 != length {
        return Err(bad(format!("is truncated: the header should take {length} bytes, found {}", header.len())));
    }
    let header = parse_header(&header, size, index).map_err(bad)?;
    Ok((file, header))
}

/// Checks a header against the size of its file, both in bytes; the error is what is wrong, without the file's name.
fn parse_header(header: &[u8], file_size: u64, index: usize) -> Result<Header, String> {
    let text =
        std::str::from_utf8(header).map_err(|e| format!("the header is not UTF-8 (byte {})", e.valid_up_to()))?;
    if !text.starts_with('{') {
        return Err("expected a header that begins with `{`".into());
    }
    let parsed = RefCell::new(Parsed::default());
    let mut json = serde_json::Deserializer::from_str(text);
    let result = TopLevel(&parsed).deserialize(&mut json).and_then(|()| json.end());
    let Parsed { current, tensors, metadata, .. } = parsed.into_inner();
    result.map_err(|e| match current {
        Some(name) => format!("header entry {}: {e}", quote(&name)),
        None => format!("the header is not valid: {e}"),
    })?;
    // header.len() ≤ file_size - 8, checked by the caller
    let data_start = 8 + header.len() as u64;
    let mut tensors = tensors
        .into_iter()
        .map(|raw| check_tensor(raw, data_start, file_size, index))
        .collect::<Result<Vec<_>, String>>()?;
    tensors.sort_by_key(|t| (t.offset, t.bytes));
    check_cover(&tensors, data_start, file_size)?;
    Ok(Header { tensors, metadata: metadata.unwrap_or_default() })
}

/// One tensor by itself: its type, size, range and alignment.
fn check_tensor(raw: RawTensor, data_start: u64, file_size: u64, index: usize) -> Result<TensorInfo, String> {
    let RawTensor { name, dtype, shape, begin, end } = raw;
    let at = || format!("tensor {}", quote(&name));
    let dtype = Dtype::parse(&dtype).ok_or_else(|| format!("{} has the unknown dtype {}", at(), quote(&dtype)))?;
    let overflow = || format!("{}: the size of shape {shape:?} in {dtype} overflows", at());
    let mut bytes = dtype.size();
    for &dim in &shape {
        bytes = bytes.checked_mul(dim).ok_or_else(overflow)?;
    }
    // a dimension behind a zero may be anything; the host's sizes must hold all of them
    let shape: Vec<usize> =
        shape.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>().map_err(|_| overflow())?;
    if usize::try_from(bytes).is_err() || shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1))).is_none() {
        return Err(format!("{}: the size of shape {shape:?} in {dtype} overflows", at()));
    }
    if end < begin {
        return Err(format!("{} ends at data offset {end}, before its beginning {begin}", at()));
    }
    if end - begin != bytes {
        return Err(format!("{}: shape {shape:?} in {dtype} takes {bytes} bytes, found {}", at(), end - begin));
    }
    if begin % dtype.size() != 0 {
        return Err(format!("{} is misaligned: data offset {begin} is not a multiple of {dtype}'s size", at()));
    }
    let available = file_size - data_start;
    if end > available {
        return Err(format!("{} ends at data offset {end}, but the file holds {available} bytes of data", at()));
    }
    Ok(TensorInfo { dtype, shape, file: index, offset: data_start + begin, bytes, name })
}

/// All tensors together: they follow one another from the first byte of data to the last.
fn check_cover(tensors: &[TensorInfo], data_start: u64, file_size: u64) -> Result<(), String> {
    let mut position = data_start;
    let mut previous: Option<&TensorInfo> = None;
    for tensor in tensors {
        let name = quote(&tensor.name);
        if tensor.offset < position {
            let before = previous.map_or_else(String::new, |t| quote(&t.name));
            return Err(format!("tensor {name} overlaps tensor {before}"));
        }
        if tensor.offset > position {
            let hole = tensor.offset - position;
            return Err(format!("there is a hole of {hole} bytes in the data before tensor {name}"));
        }
        position += tensor.bytes;
        previous = Some(tensor);
    }
    if position != file_size {
        let after = previous.map_or_else(|| "the header".into(), |t| format!("tensor {}", quote(&t.name)));
        return Err(format!("{} bytes are left over after {after}, the last one", file_size - position));
    }
    Ok(())
}

/// A tensor as the header spells it, nothing checked.
struct RawTensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

/// What the visitors have gathered; `current` is the entry they are in, for the error message.
#[derive(Default)]
struct Parsed {
    current: Option<String>,
    tensors: Vec<RawTensor>,
    names: HashSet<String>,
    metadata: Option<BTreeMap<String, String>>,
}

/// The header's outermost object. serde's maps would let the last of two equal names win silently.
struct TopLevel<'a>(&'a RefCell<Parsed>);

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let mut parsed = self.0.borrow_mut();
            parsed.current = Some(name.clone());
            if name == "__metadata__" {
                if parsed.metadata.is_some() {
                    return Err(serde::de::Error::custom("there is more than one such entry"));
                }
                parsed.metadata = Some(map.next_value()?);
            } else {
                if !parsed.names.insert(name.clone()) {
                    return Err(serde::de::Error::custom("two tensors have this name"));
                }
                if parsed.tensors.len() == MAX_TENSORS {
                    return Err(serde::de::Error::custom(format!("more than {MAX_TENSORS} tensors in one file")));
                }
                let tensor = map.next_value_seed(Entry(name))?;
                parsed.tensors.push(tensor);
            }
            parsed.current = None;
        }
        Ok(())
    }
}

/// One tensor's object.
struct Entry(String);

impl<'de> DeserializeSeed<'de> for Entry {
    type Value = RawTensor;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTensor, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry {
    type Value = RawTensor;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
        use serde::de::Error as _;
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = match key.as_str() {
                "dtype" => dtype.replace(map.next_value::<String>()?).is_some(),
                "shape" => shape.replace(map.next_value_seed(Shape)?).is_some(),
                "data_offsets" => offsets.replace(map.next_value::<(u64, u64)>()?).is_some(),
                _ => map.next_value::<IgnoredAny>().map(|_| false)?,
            };
            if twice {
                return Err(A::Error::custom(format!("`{key}` is given twice")));
            }
        }
        let dtype = dtype.ok_or_else(|| A::Error::missing_field("dtype"))?;
        let shape = shape.ok_or_else(|| A::Error::missing_field("shape"))?;
        let (begin, end) = offsets.ok_or_else(|| A::Error::missing_field("data_offsets"))?;
        Ok(RawTensor { name: self.0, dtype, shape, begin, end })
    }
}

/// A list of at most [`MAX_RANK`] dimensions.
struct Shape;

impl<'de> DeserializeSeed<'de> for Shape {
    type Value = Vec<u64>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<u64>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Shape {
    type Value = Vec<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of whole numbers, the shape")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u64>, A::Error> {
        let mut shape = Vec::new();
        while let Some(dim) = seq.next_element()? {
            if shape.len() == MAX_RANK {
                return Err(serde::de::Error::custom(format!("a shape of more than {MAX_RANK} dimensions")));
            }
            shape.push(dim);
        }
        Ok(shape)
    }
}
