//! Tests of `src/files`: what comes from outside is read exactly, or refused with an error that names the damage.

mod checkpoint;
mod config;
mod decoders;
mod dequantise;
mod gguf;
mod gguf_damage;
mod gguf_tokenizer;
mod gguf_write;
mod quantise;
mod safetensors_format;
mod sentence_transformers;
mod tokenizer;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use thalweg::{Error, Result};

/// A folder with these files; names may hold folders.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        put(dir.path(), name, content);
    }
    dir
}

fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path
}

/// Asserts that this is an error of exit code 4, in one line, with all of these words in it.
#[track_caller]
fn refused<T: Debug>(case: &str, result: Result<T>, words: &[&str]) -> Error {
    let error = match result {
        Ok(value) => panic!("{case}: expected an error, found {value:?}"),
        Err(error) => error,
    };
    // paths are spelled with `/` in the words
    let slashes = |text: &str| if cfg!(windows) { text.replace('\\', "/") } else { text.to_string() };
    let message = slashes(&error.to_string());
    assert_eq!(error.exit_code(), 4, "{case}: {message}");
    assert!(!message.contains('\n'), "{case}: more than one line: {message}");
    for word in words {
        assert!(message.contains(&slashes(word)), "{case}: expected {word:?} in: {message}");
    }
    error
}

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// The most address space that this process has had so far, in MiB; 0 where the platform does not say.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    line.and_then(|line| line.trim().strip_suffix("kB")).map_or(0, |kb| kb.trim().parse::<u64>().unwrap() / 1024)
}
