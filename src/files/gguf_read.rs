//! The bytes of a GGUF header, one after another: every length is held against the rest of the file before it counts.

use std::io::{ErrorKind, Read};
use std::path::Path;

use super::gguf_value::{Array, Strings, Value};
use crate::{Error, Result};

/// The longest header that is read, in bytes; the largest vocabularies of today take a tenth of it.
pub const MAX_HEADER_BYTES: u64 = 1 << 28;
/// How deep arrays may be nested; files of today do not nest them at all.
pub const MAX_DEPTH: usize = 4;
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 13;
/// The number that stands for an array among the types of values.
const ARRAY: u32 = 9;

/// A header as it is read.
pub(super) struct Reader<'a, R> {
    pub path: &'a Path,
    from: R,
    size: u64,
    /// How many bytes have been read.
    pub position: u64,
    /// What is being read, as errors name it.
    pub at: String,
}

impl<'a, R: Read> Reader<'a, R> {
    /// Reads from the beginning of a file of `size` bytes.
    pub fn new(path: &'a Path, from: R, size: u64) -> Self {
        Self { path, from, size, position: 0, at: "the header".into() }
    }

    /// An [`Error::File`] about what is being read.
    pub fn error(&self, what: impl AsRef<str>) -> Error {
        Error::file(self.path, format!("{}: {}", self.at, what.as_ref()))
    }

    /// Refuses `count` things of at least `each` bytes where the rest of the file cannot hold them.
    pub fn expect(&self, count: u64, each: u64, things: &str) -> Result<()> {
        // `position` never exceeds `size`: only what was expected is read
        let left = self.size - self.position;
        let bytes = count.checked_mul(each).filter(|&bytes| bytes <= left);
        let Some(bytes) = bytes else {
            let least = if each > 1 { format!(" of at least {each} bytes") } else { String::new() };
            return Err(self.error(format!("is truncated: expected {count} {things}{least}, but {left} bytes follow")));
        };
        if bytes > MAX_HEADER_BYTES.saturating_sub(self.position) {
            return Err(
                self.error(format!("expected a header of at most {MAX_HEADER_BYTES} bytes, found a longer one"))
            );
        }
        Ok(())
    }

    /// Fills `out`, which was expected.
    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self.from.read_exact(out).map_err(|e| match e.kind() {
            ErrorKind::UnexpectedEof => self.error("is truncated: the file ends before the header does"),
            _ => Error::io(self.path, e),
        })?;
        self.position += out.len() as u64;
        Ok(())
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.expect(N as u64, 1, "bytes")?;
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Appends a string to `out`: its length and its bytes.
    fn append_string(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let mut left = self.u64()?;
        self.expect(left, 1, "bytes of a string")?;
        while left > 0 {
            let begin = out.len();
            let part = left.min(CHUNK as u64);
            out.resize(begin + part as usize, 0);
            self.fill(&mut out[begin..])?;
            left -= part;
        }
        Ok(())
    }

    /// The name of a key or tensor, of 1 to `cap` bytes.
    pub fn name(&mut self, cap: u64) -> Result<String> {
        let length = self.u64()?;
        self.expect(length, 1, "bytes of a name")?;
        if !(1..=cap).contains(&length) {
            return Err(self.error(format!("expected a name of 1 to {cap} bytes, found {length}")));
        }
        let mut name = vec![0; length as usize];
        self.fill(&mut name)?;
        String::from_utf8(name)
            .map_err(|e| self.error(format!("the name is not UTF-8 (byte {})", e.utf8_error().valid_up_to())))
    }

    fn bool(&self, byte: u8) -> Result<bool> {
        match byte {
            0 | 1 => Ok(byte == 1),
            _ => Err(self.error(format!("expected a truth value of 0 or 1, found {byte}"))),
        }
    }

    /// A value behind its type.
    pub fn value(&mut self) -> Result<Value> {
        Ok(match self.u32()? {
            0 => Value::U8(u8::from_le_bytes(self.bytes()?)),
            1 => Value::I8(i8::from_le_bytes(self.bytes()?)),
            2 => Value::U16(u16::from_le_bytes(self.bytes()?)),
            3 => Value::I16(i16::from_le_bytes(self.bytes()?)),
            4 => Value::U32(u32::from_le_bytes(self.bytes()?)),
            5 => Value::I32(i32::from_le_bytes(self.bytes()?)),
            6 => Value::F32(f32::from_le_bytes(self.bytes()?)),
            7 => {
                let [byte] = self.bytes()?;
                Value::Bool(self.bool(byte)?)
            }
            8 => {
                let mut string = Vec::new();
                self.append_string(&mut string)?;
                Value::String(string)
            }
            ARRAY => Value::Array(self.array(1)?),
            10 => Value::U64(u64::from_le_bytes(self.bytes()?)),
            11 => Value::I64(i64::from_le_bytes(self.bytes()?)),
            12 => Value::F64(f64::from_le_bytes(self.bytes()?)),
            other => return Err(self.error(format!("expected a value type from 0 to 12, found {other}"))),
        })
    }

    /// An array, the `depth`th around its elements.
    fn array(&mut self, depth: usize) -> Result<Array> {
        let kind = self.u32()?;
        let count = self.u64()?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(count, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, f32::from_le_bytes)?),
            7 => {
                let bytes = self.numbers(count, u8::from_le_bytes)?;
                Array::Bool(bytes.into_iter().map(|byte| self.bool(byte)).collect::<Result<_>>()?)
            }
            8 => {
                self.expect(count, 8, "strings")?;
                let mut strings = Strings { bytes: Vec::new(), ends: Vec::with_capacity(count as usize) };
                for _ in 0..count {
                    self.append_string(&mut strings.bytes)?;
                    strings.ends.push(strings.bytes.len() as u32);
                }
                Array::Strings(strings)
            }
            ARRAY if depth == MAX_DEPTH => {
                return Err(self.error(format!("arrays are nested more than {MAX_DEPTH} deep")));
            }
            ARRAY => {
                self.expect(count, 12, "arrays")?;
                Array::Arrays((0..count).map(|_| self.array(depth + 1)).collect::<Result<_>>()?)
            }
            10 => Array::U64(self.numbers(count, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, f64::from_le_bytes)?),
            other => return Err(self.error(format!("expected an element type from 0 to 12, found {other}"))),
        })
    }

    fn numbers<T, const N: usize>(&mut self, count: u64, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
        self.expect(count, N as u64, "elements")?;
        let mut left = count as usize;
        let mut numbers = Vec::with_capacity(left);
        let mut chunk = [0; CHUNK];
        while left > 0 {
            let part = left.min(CHUNK / N);
            let bytes = &mut chunk[..part * N];
            self.fill(bytes)?;
            numbers.extend(bytes.as_chunks::<N>().0.iter().map(|&element| from(element)));
            left -= part;
        }
        Ok(numbers)
    }
}
