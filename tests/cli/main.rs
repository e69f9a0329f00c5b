//! Drives the real binary on the small models of tests/fixtures: exit codes, streams, and what is printed.

mod bench;
mod chat;
mod check;
mod embed;
mod generate;
mod gguf;
mod machine;
mod quantize;
mod search;
mod stream;
mod sweeps;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The folder of a fixture's model.
fn model(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models").join(name);
    path.to_str().expect("a path that is UTF-8").into()
}

/// The folder of a fixture's language model.
fn decoder(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders").join(name);
    path.to_str().expect("a path that is UTF-8").into()
}

/// The binary, with an environment that changes nothing of what it prints.
fn thalweg(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
    // Mesa's device selection writes to stderr where there is no desktop session
    command.args(arguments).env("NODEVICE_SELECT", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8 output");
        Run { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn run(arguments: &[&str]) -> Run {
    thalweg(arguments).output().expect("the binary runs").into()
}

/// Runs with that standard input.
fn run_with(arguments: &[&str], input: &[u8]) -> Run {
    let mut command = thalweg(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // a binary that fails early closes the pipe
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the binary ends");
    writer.join().expect("the input is written");
    output.into()
}

impl Run {
    /// Of a run that went well and had nothing to say.
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "stdout: {}", self.stdout);
        self
    }

    /// One sentence on stderr that has all of `parts`, nothing on stdout, and that exit code.
    #[track_caller]
    fn fails(self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "stderr: {}", self.stderr);
        assert!(self.stderr.starts_with("error: ") && self.stderr.trim_end().lines().count() == 1, "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "expected {part:?} in: {}", self.stderr);
        }
    }

    /// The JSON of each line.
    #[track_caller]
    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

fn vector(value: &Value) -> Vec<f32> {
    let numbers = value.as_array().expect("a list").iter();
    numbers.map(|number| number.as_f64().expect("a number") as f32).collect()
}

/// ‖a − b‖ / ‖b‖
fn relative_error(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f64| x * x;
    let difference: f64 = a.iter().zip(b).map(|(&x, &y)| square(f64::from(x) - f64::from(y))).sum();
    let size: f64 = b.iter().map(|&y| square(f64::from(y))).sum();
    (difference / size).sqrt()
}

/// What the fixture expects.
fn expected(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(model(name)).join("expected.safetensors")).expect("the fixture's expected values")
}

fn texts(name: &str) -> Value {
    let path = PathBuf::from(model(name)).join("texts.json");
    serde_json::from_slice(&std::fs::read(path).expect("the fixture's texts")).expect("JSON")
}

/// The f32 elements and the shape of a tensor.
fn tensor(file: &safetensors::SafeTensors, name: &str) -> (Vec<usize>, Vec<f32>) {
    let view = file.tensor(name).expect("the tensor is there");
    assert_eq!(view.dtype(), safetensors::Dtype::F32, "{name}");
    let data = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    (view.shape().to_vec(), data)
}

fn ints(file: &safetensors::SafeTensors, name: &str) -> Vec<i32> {
    let view = file.tensor(name).expect("the tensor is there");
    assert_eq!(view.dtype(), safetensors::Dtype::I32, "{name}");
    view.data().chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}
