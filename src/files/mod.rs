//! Bytes from outside, every one of them distrusted: safetensors, GGUF, configs, tokenizers.
//!
//! Everything here returns an [`Error`] that names the file and the tensor or key; nothing panics on a file's content,
//! and no number in a file decides how much memory is allocated.

pub mod checkpoint;
pub mod config;
mod dequantise;
mod generation;
pub mod gguf;
mod gguf_read;
mod gguf_tokenizer;
mod gguf_tokenizer_ends;
mod gguf_tokenizer_merges;
mod gguf_tokenizer_models;
mod gguf_tokenizer_pre;
mod gguf_tokenizer_vocab;
mod gguf_value;
mod gguf_write;
mod quantise;
pub mod safetensors;
mod safetensors_write;
pub mod sentence_transformers;
pub mod source;
pub mod tokenizer;
mod tokenizer_build;

pub use checkpoint::Checkpoint;
pub use config::Config;
pub use dequantise::{DequantiseError, can_dequantise, dequantise};
pub use generation::eos_ids;
pub use gguf::{GgmlType, Gguf, GgufTensor};
pub use gguf_tokenizer_ends::{gguf_chat_templates, gguf_eos_ids};
pub use gguf_write::{GgufTensorOut, GgufWriter};
pub use quantise::{QuantiseError, can_quantise, quantise};
pub use safetensors::{Dtype, TensorData, TensorInfo, TensorOut};
pub use sentence_transformers::{Activation, DenseConfig, Pooling, SentenceConfig};
pub use source::{Element, Source, Stored};
pub use tokenizer::{Encoded, Tokenizer};
pub(crate) use tokenizer_build::TokenizerFiles;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::{Error, Result};

/// The place of the first value that is NaN or infinite. Blocks are looked at as a whole, which compilers make fast.
fn first_not_finite(values: &[f32]) -> Option<usize> {
    const BLOCK: usize = 256;
    let bad = |block: &[f32]| block.iter().fold(false, |bad, x| bad | !x.is_finite());
    let block = values.chunks(BLOCK).position(bad)? * BLOCK;
    values[block..].iter().position(|x| !x.is_finite()).map(|place| block + place)
}

/// Opens a regular file; anything else (a folder, a pipe that would block for ever, a device) is an error.
pub(crate) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let metadata = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if !metadata.is_file() {
        return Err(Error::file(path, "expected a regular file, found something else"));
    }
    let file = File::open(path).map_err(|e| Error::io(path, e))?;
    let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
    Ok((file, size))
}

/// Reads a whole small file, and refuses one of more than `cap` bytes.
pub(crate) fn read_capped(path: &Path, cap: u64) -> Result<Vec<u8>> {
    let (file, size) = open_regular(path)?;
    let too_large = |size: u64| Error::file(path, format!("expected at most {cap} bytes, found {size}"));
    if size > cap {
        return Err(too_large(size));
    }
    let mut bytes = Vec::new();
    // the file may have grown since
    file.take(cap + 1).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > cap {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

/// Reads a file of at most `cap` bytes as text.
pub(crate) fn read_text(path: &Path, cap: u64) -> Result<String> {
    let text = String::from_utf8(read_capped(path, cap)?)
        .map_err(|e| Error::file(path, format!("is not UTF-8 text (byte {})", e.utf8_error().valid_up_to())))?;
    if text.starts_with('\u{feff}') {
        return Err(Error::file(path, "begins with a byte order mark (U+FEFF); save it as UTF-8 without one"));
    }
    Ok(text)
}

/// Reads a file of at most `cap` bytes as JSON.
pub(crate) fn read_json(path: &Path, cap: u64) -> Result<Value> {
    let text = read_text(path, cap)?;
    serde_json::from_str(&text).map_err(|e| Error::file(path, format!("is not valid JSON: {e}")))
}

/// Reads a file of at most `cap` bytes as a JSON object.
pub(crate) fn read_json_object(path: &Path, cap: u64) -> Result<Map<String, Value>> {
    match read_json(path, cap)? {
        Value::Object(map) => Ok(map),
        other => Err(Error::file(path, format!("expected a JSON object, found {}", found(&other)))),
    }
}

/// A name from a file as it may stand in a message: quoted, control characters escaped, not endless.
pub(crate) fn quote(name: &str) -> String {
    const LONGEST: usize = 200;
    let mut chars = name.chars();
    let head: String = chars.by_ref().take(LONGEST).collect();
    let rest = if chars.next().is_some() { "…" } else { "" };
    let plain = |c: char| matches!(c, '\'' | '"' | '\\');
    let escape = |c: char| if plain(c) { c.to_string() } else { c.escape_debug().to_string() };
    let escaped: String = head.chars().map(escape).collect();
    format!("`{escaped}{rest}`")
}

/// A JSON value as it may stand in a message.
pub(crate) fn found(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => format!("{b}"),
        Value::Number(n) => format!("{n}"),
        Value::String(s) => quote(s),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}
