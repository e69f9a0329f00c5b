//! The metadata of a GGUF file: typed values, and getters whose errors name the file, the key, what was expected and
//! what was found.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::config::MAX_NUMBER;
use super::quote;
use crate::{Error, Result};

/// A value of a key. Strings are bytes: the format calls them UTF-8, but files need not obey.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// IEEE single precision.
    F32(f32),
    /// IEEE double precision.
    F64(f64),
    /// True or false.
    Bool(bool),
    /// Bytes that should be UTF-8.
    String(Vec<u8>),
    /// Values of one type.
    Array(Array),
}

/// Values of one type, as compact as the file has them.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Unsigned, 8 bits.
    U8(Vec<u8>),
    /// Signed, 8 bits.
    I8(Vec<i8>),
    /// Unsigned, 16 bits.
    U16(Vec<u16>),
    /// Signed, 16 bits.
    I16(Vec<i16>),
    /// Unsigned, 32 bits.
    U32(Vec<u32>),
    /// Signed, 32 bits.
    I32(Vec<i32>),
    /// Unsigned, 64 bits.
    U64(Vec<u64>),
    /// Signed, 64 bits.
    I64(Vec<i64>),
    /// IEEE single precision.
    F32(Vec<f32>),
    /// IEEE double precision.
    F64(Vec<f64>),
    /// True or false.
    Bool(Vec<bool>),
    /// Strings of bytes.
    Strings(Strings),
    /// Arrays, each with a type of its own.
    Arrays(Vec<Array>),
}

/// A list of strings of any bytes, stored end to end: a vocabulary is hundreds of thousands of short ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    pub(super) bytes: Vec<u8>,
    /// Where each string ends in `bytes`; the header's cap keeps them in 32 bits.
    pub(super) ends: Vec<u32>,
}

impl Strings {
    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string number `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)? as usize;
        let begin = i.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(begin..end)
    }

    /// All strings in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

/// Runs `$body` with `$list` being the vector of any array of whole numbers, else `$other`.
macro_rules! with_integers {
    ($array:expr, $list:ident => $body:expr, $other:expr) => {
        match $array {
            Array::U8($list) => $body,
            Array::I8($list) => $body,
            Array::U16($list) => $body,
            Array::I16($list) => $body,
            Array::U32($list) => $body,
            Array::I32($list) => $body,
            Array::U64($list) => $body,
            Array::I64($list) => $body,
            _ => $other,
        }
    };
}

impl Array {
    /// How many elements there are.
    pub fn len(&self) -> usize {
        with_integers!(self, list => list.len(), match self {
            Array::F32(list) => list.len(),
            Array::F64(list) => list.len(),
            Array::Bool(list) => list.len(),
            Array::Strings(list) => list.len(),
            Array::Arrays(list) => list.len(),
            _ => 0,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the elements are, in a message.
    fn elements(&self) -> &'static str {
        match self {
            Array::F32(_) | Array::F64(_) => "numbers",
            Array::Bool(_) => "truth values",
            Array::Strings(_) => "strings",
            Array::Arrays(_) => "lists",
            _ => "whole numbers",
        }
    }
}

impl Value {
    /// Any whole number, whatever its width.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(n) => n.into(),
            Value::I8(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U64(n) => n.into(),
            Value::I64(n) => n.into(),
            _ => return None,
        })
    }

    /// Any number, whatever its type.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::F32(x) => Some(x.into()),
            Value::F64(x) => Some(x),
            _ => self.as_integer().map(|n| n as f64),
        }
    }

    /// The value as it may stand in a message.
    fn found(&self) -> String {
        match self {
            Value::F32(x) => format!("{x}"),
            Value::F64(x) => format!("{x}"),
            Value::Bool(b) => format!("{b}"),
            // enough of it for what `quote` shows
            Value::String(s) => quote(&String::from_utf8_lossy(&s[..s.len().min(1000)])),
            Value::Array(a) => format!("a list of {} {}", a.len(), a.elements()),
            _ => self.as_integer().map_or_else(String::new, |n| format!("{n}")),
        }
    }
}

/// A file's keys and values. The getters take a number of any width, as long as the value fits: writers do not agree
/// on the types of keys.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) path: PathBuf,
    pub(super) map: BTreeMap<String, Value>,
}

const WHOLE_NUMBER: &str = "a whole number from 0 to 2147483648";
const U32: &str = "a whole number from 0 to 4294967295";

impl Metadata {
    /// The keys, in alphabetical order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Whether `key` is there.
    pub fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key)
    }

    /// An [`Error::File`] about `key`, for checks that a getter cannot make.
    pub fn error(&self, key: &str, what: impl AsRef<str>) -> Error {
        Error::file(&self.path, format!("key {}: {}", quote(key), what.as_ref()))
    }

    /// An [`Error::Unsupported`] about the value of `key`.
    pub fn unsupported(&self, key: &str) -> Error {
        let value = self.value(key).map_or_else(|| "nothing".into(), Value::found);
        Error::unsupported(&self.path, format!("{} {value}", quote(key)))
    }

    fn get<'a, T>(&'a self, key: &str, expected: &str, take: impl FnOnce(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let taken = take(value).map(Some);
        taken.ok_or_else(|| self.error(key, format!("expected {expected}, found {}", value.found())))
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, format!("expected {expected}, found nothing")))
    }

    /// The whole number of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a whole number from 0 to [`MAX_NUMBER`].
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        let usize = |n: i128| u64::try_from(n).ok().filter(|&n| n <= MAX_NUMBER).and_then(|n| n.try_into().ok());
        self.get(key, WHOLE_NUMBER, |v| v.as_integer().and_then(usize))
    }

    /// The whole number of `key`; errors as for [`Metadata::opt_usize`], and where it is absent.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required(key, WHOLE_NUMBER, self.opt_usize(key)?)
    }

    /// The whole number of `key`, or `default`; errors as for [`Metadata::opt_usize`].
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.opt_usize(key)?.unwrap_or(default))
    }

    /// The 32-bit number of `key` (such as a token's id), where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a whole number that fits.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>> {
        self.get(key, U32, |v| v.as_integer().and_then(|n| n.try_into().ok()))
    }

    /// The 32-bit number of `key`; errors as for [`Metadata::opt_u32`], and where it is absent.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.required(key, U32, self.opt_u32(key)?)
    }

    /// The number of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a number that is finite as an f32.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.get(key, "a number", |v| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite()))
    }

    /// The number of `key`; errors as for [`Metadata::opt_f32`], and where it is absent.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, "a number", self.opt_f32(key)?)
    }

    /// The number of `key`, or `default`; errors as for [`Metadata::opt_f32`].
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.opt_f32(key)?.unwrap_or(default))
    }

    /// The truth value of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but `true` or `false`.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.get(key, "true or false", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// The truth value of `key`, or `default`; errors as for [`Metadata::opt_bool`].
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.opt_bool(key)?.unwrap_or(default))
    }

    /// The string of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a string, and for one that is not UTF-8.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        let bytes = self.get(key, "a string", |v| if let Value::String(s) = v { Some(s) } else { None })?;
        let text = bytes.map(|s| std::str::from_utf8(s)).transpose();
        text.map_err(|e| self.error(key, format!("is not UTF-8 text (byte {})", e.valid_up_to())))
    }

    /// The string of `key`; errors as for [`Metadata::opt_str`], and where it is absent.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", self.opt_str(key)?)
    }

    /// The list of strings of `key` (such as the tokens), where there is one. They may be any bytes.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a list of strings.
    pub fn opt_strings(&self, key: &str) -> Result<Option<&Strings>> {
        self.get(key, "a list of strings", |v| if let Value::Array(Array::Strings(s)) = v { Some(s) } else { None })
    }

    /// The list of strings of `key`; errors as for [`Metadata::opt_strings`], and where it is absent.
    pub fn strings(&self, key: &str) -> Result<&Strings> {
        self.required(key, "a list of strings", self.opt_strings(key)?)
    }

    fn opt_integers<T>(&self, key: &str, expected: &str) -> Result<Option<Vec<T>>>
    where
        T: TryFrom<u8> + TryFrom<i8> + TryFrom<u16> + TryFrom<i16>,
        T: TryFrom<u32> + TryFrom<i32> + TryFrom<u64> + TryFrom<i64>,
    {
        let Some(array) = self.get(key, expected, |v| if let Value::Array(a) = v { Some(a) } else { None })? else {
            return Ok(None);
        };
        with_integers!(
            array,
            list => list.iter().enumerate().map(|(i, &n)| {
                n.try_into().map_err(|_| self.error(key, format!("expected {expected}, found {n} at index {i}")))
            }).collect::<Result<_>>().map(Some),
            Err(self.error(key, format!("expected {expected}, found a list of {} {}", array.len(), array.elements())))
        )
    }

    /// The list of whole numbers of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a list of whole numbers of which each fits in 32 bits.
    pub fn opt_u32s(&self, key: &str) -> Result<Option<Vec<u32>>> {
        self.opt_integers(key, "a list of whole numbers from 0 to 4294967295")
    }

    /// The list of whole numbers of `key` (such as the tokens' types); errors as for [`Metadata::opt_u32s`].
    pub fn opt_i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        self.opt_integers(key, "a list of whole numbers from -2147483648 to 2147483647")
    }

    /// The list of numbers of `key` (such as the tokens' scores), where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a list of numbers, and for the first that is not finite as an f32.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let numbers = self.get(key, "a list of numbers", |v| {
            let Value::Array(array) = v else { return None };
            with_integers!(array, list => Some(list.iter().map(|&n| n as f32).collect()), match array {
                Array::F32(list) => Some(list.clone()),
                Array::F64(list) => Some(list.iter().map(|&x| x as f32).collect::<Vec<_>>()),
                _ => None,
            })
        })?;
        match numbers.as_ref().and_then(|list| list.iter().enumerate().find(|(_, x)| !x.is_finite())) {
            Some((i, x)) => Err(self.error(key, format!("expected finite numbers, found {x} at index {i}"))),
            None => Ok(numbers),
        }
    }
}
