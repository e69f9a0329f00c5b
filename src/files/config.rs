//! A model's `config.json`: typed getters whose errors name the file, the key, what was expected and what was found.
//!
//! A key that is `null` counts as absent, as it does for Hugging Face's config classes.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{found, quote};
use crate::{Error, Result};

/// The largest config that is read, in bytes. The largest real ones (tables of label names) stay below a tenth of it.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The largest whole number that any key may have: no size of a model comes near it.
pub const MAX_NUMBER: u64 = 1 << 31;

/// A JSON object from a file, read by typed getters.
#[derive(Clone, Debug)]
pub struct Config {
    path: PathBuf,
    /// Where in the file this object is: empty for the outermost one, else `rope_parameters.`.
    prefix: String,
    map: Map<String, Value>,
}

impl Config {
    /// Reads `config.json` in the folder `dir`.
    ///
    /// # Errors
    /// [`Error::Io`] where there is none, [`Error::File`] where it is too large or not a JSON object.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_file(&dir.join("config.json"))
    }

    /// Reads the JSON object in the file `path`; errors as for [`Config::open`].
    pub fn open_file(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), prefix: String::new(), map: super::read_json_object(path, MAX_CONFIG_BYTES)? })
    }

    /// A config from an object that is already in memory; `path` is what errors name.
    pub fn from_map(path: impl Into<PathBuf>, map: Map<String, Value>) -> Self {
        Self { path: path.into(), prefix: String::new(), map }
    }

    /// The file that this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Whether `key` is there and not null.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether `key` is there and null, for the few keys where that is something else than a default.
    pub fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// The value of `key`, `None` where it is absent or null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// An [`Error::File`] about `key`, for checks that a getter cannot make.
    pub fn error(&self, key: &str, what: impl AsRef<str>) -> Error {
        Error::file(&self.path, format!("key {}: {}", self.spell(key), what.as_ref()))
    }

    /// An [`Error::Unsupported`] about the value of `key`.
    pub fn unsupported(&self, key: &str) -> Error {
        let value = self.map.get(key).map_or_else(|| "nothing".into(), found);
        Error::unsupported(&self.path, format!("{} {value}", self.spell(key)))
    }

    fn spell(&self, key: &str) -> String {
        quote(&format!("{}{key}", self.prefix))
    }

    fn expected(&self, key: &str, expected: &str, value: &Value) -> Error {
        self.error(key, format!("expected {expected}, found {}", found(value)))
    }

    fn required<T>(&self, key: &str, expected: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(key, format!("expected {expected}, found nothing")))
    }

    /// The whole number of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a whole number from 0 to [`MAX_NUMBER`].
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_u64().filter(|&n| n <= MAX_NUMBER).and_then(|n| usize::try_from(n).ok());
        number.map(Some).ok_or_else(|| self.expected(key, WHOLE_NUMBER, value))
    }

    /// The whole number of `key`; errors as for [`Config::opt_usize`], and where it is absent.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.required(key, WHOLE_NUMBER, self.opt_usize(key)?)
    }

    /// The whole number of `key`, or `default`; errors as for [`Config::opt_usize`].
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.opt_usize(key)?.unwrap_or(default))
    }

    /// The number of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a number that is finite as an f32.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        Ok(self.opt_f64(key)?.map(|x| x as f32))
    }

    /// The number of `key` before it is rounded to f32; errors as for [`Config::opt_f32`].
    pub fn opt_f64(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = value.as_f64().filter(|x| (*x as f32).is_finite());
        number.map(Some).ok_or_else(|| self.expected(key, "a number", value))
    }

    /// The number of `key` before it is rounded to f32; errors as for [`Config::f32`].
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.required(key, "a number", self.opt_f64(key)?)
    }

    /// The number of `key`; errors as for [`Config::opt_f32`], and where it is absent.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.required(key, "a number", self.opt_f32(key)?)
    }

    /// The number of `key`, or `default`; errors as for [`Config::opt_f32`].
    pub fn f32_or(&self, key: &str, default: f32) -> Result<f32> {
        Ok(self.opt_f32(key)?.unwrap_or(default))
    }

    /// The truth value of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but `true` or `false`.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.expected(key, "true or false", value))
    }

    /// The truth value of `key`, or `default`; errors as for [`Config::opt_bool`].
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.opt_bool(key)?.unwrap_or(default))
    }

    /// The string of `key`, where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a string.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.expected(key, "a string", value))
    }

    /// The string of `key`; errors as for [`Config::opt_str`], and where it is absent.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.required(key, "a string", self.opt_str(key)?)
    }

    /// The string of `key`, or `default`; errors as for [`Config::opt_str`].
    pub fn str_or<'a>(&'a self, key: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.opt_str(key)?.unwrap_or(default))
    }

    /// The list of strings of `key` (such as `architectures`), where there is one.
    ///
    /// # Errors
    /// [`Error::File`] for anything but a list of strings.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let strings = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        strings.map(Some).ok_or_else(|| self.expected(key, "a list of strings", value))
    }

    /// The list of numbers of `key` (such as `long_factor`); errors as for [`Config::f32`].
    pub fn f32s(&self, key: &str) -> Result<Vec<f32>> {
        const LIST: &str = "a list of numbers";
        let value = self.required(key, LIST, self.value(key))?;
        let number = |v: &Value| v.as_f64().map(|x| x as f32).filter(|x| x.is_finite());
        let numbers = value.as_array().and_then(|list| list.iter().map(number).collect());
        numbers.ok_or_else(|| self.expected(key, LIST, value))
    }

    /// The object of `key` (such as `rope_parameters`), where there is one; its errors name `rope_parameters.key`.
    ///
    /// # Errors
    /// [`Error::File`] for anything but an object.
    pub fn opt_object(&self, key: &str) -> Result<Option<Config>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.expected(key, "an object", value))?;
        let prefix = format!("{}{key}.", self.prefix);
        Ok(Some(Config { path: self.path.clone(), prefix, map: map.clone() }))
    }
}

const WHOLE_NUMBER: &str = "a whole number from 0 to 2147483648";
