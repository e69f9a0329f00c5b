//! Texts from files and from standard input, line by line: memory is bounded by the longest line that is allowed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use thalweg::{Error, Result};

/// The longest line, in bytes; a tokenizer may take two hundred times as much memory.
const MAX_LINE: usize = 4 << 20;
/// A chunk has at most so many texts, and ends with the text that makes it so many bytes.
const CHUNK_TEXTS: usize = 1024;
const CHUNK_BYTES: u64 = 4 << 20;

/// A text and where it comes from.
pub struct Line {
    /// Counted from 1.
    pub number: u64,
    pub text: String,
    /// What it takes in the file, with its end.
    pub bytes: u64,
}

/// The lines of a file. A line ends with LF or CRLF, the last one need not; a byte order mark is left out.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    /// Whether each line is a JSON object whose `text` is wanted.
    json: bool,
    number: u64,
    /// Size of the file, where it has one.
    pub size: Option<u64>,
}

impl Lines {
    /// Opens a file; `-` is standard input.
    pub fn open(path: &Path, json: bool) -> Result<Self> {
        if path == Path::new("-") {
            let reader = Box::new(BufReader::new(io::stdin()));
            return Ok(Lines { path: "standard input".into(), reader, json, number: 0, size: None });
        }
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        let size = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        let reader = Box::new(BufReader::with_capacity(1 << 16, file));
        Ok(Lines { path: path.into(), reader, json, number: 0, size })
    }

    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("line {}: {what}", self.number))
    }

    fn read(&mut self) -> Result<Option<Line>> {
        let mut line = Vec::new();
        let reader = self.reader.by_ref().take(MAX_LINE as u64 + 2);
        let bytes = { reader }.read_until(b'\n', &mut line).map_err(|e| Error::io(&self.path, e))? as u64;
        if bytes == 0 {
            return Ok(None);
        }
        self.number += 1;
        if line.pop_if(|&mut last| last == b'\n').is_some() {
            line.pop_if(|&mut last| last == b'\r');
        }
        if line.len() > MAX_LINE {
            return Err(self.error(format_args!("is longer than {} MiB", MAX_LINE >> 20)));
        }
        if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        let text = String::from_utf8(line).map_err(|e| {
            self.error(format_args!("is not UTF-8 text (byte {} of it)", e.utf8_error().valid_up_to() + 1))
        })?;
        let text = if self.json { self.text_of(&text)? } else { text };
        Ok(Some(Line { number: self.number, text, bytes }))
    }

    /// The `text` of a line of a .jsonl file.
    fn text_of(&self, line: &str) -> Result<String> {
        #[derive(serde::Deserialize)]
        struct Object {
            text: String,
        }
        // derived structs also take arrays
        if !line.trim_start().starts_with('{') {
            return Err(self.error("expected a JSON object with a \"text\""));
        }
        let object: Object = serde_json::from_str(line)
            .map_err(|e| self.error(format_args!("expected a JSON object with a \"text\" that is a string: {e}")))?;
        Ok(object.text)
    }
}

impl Iterator for Lines {
    type Item = Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

/// The next texts that are embedded together; none at the end.
pub fn chunk<T>(source: &mut impl Iterator<Item = Result<T>>, bytes_of: impl Fn(&T) -> u64) -> Result<(Vec<T>, u64)> {
    let (mut texts, mut bytes) = (Vec::new(), 0);
    while texts.len() < CHUNK_TEXTS && bytes < CHUNK_BYTES {
        let Some(text) = source.next() else { break };
        let text = text?;
        bytes += bytes_of(&text);
        texts.push(text);
    }
    Ok((texts, bytes))
}
