//! The GGUF writer: the bytes of the `gguf` package for the same content, what it refuses, and what it leaves behind.

use std::path::Path;

use thalweg::files::gguf::{Array, Strings, Value};
use thalweg::files::{GgmlType, Gguf, GgufTensorOut, GgufWriter};

use crate::gguf::fixture;
use crate::refused;

/// The keys of model.gguf in the file's order, which the parser does not keep.
const KEYS: [&str; 23] = [
    "general.architecture",
    "general.alignment",
    "u8",
    "i8",
    "u16",
    "i16",
    "u32",
    "i32",
    "f32",
    "u64",
    "i64",
    "f64",
    "yes",
    "no",
    "string",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.token_type",
    "bools",
    "doubles",
    "u16s",
    "i64s",
    "nested",
];

fn tensor(name: &str, ggml_type: GgmlType, shape: &[usize]) -> GgufTensorOut {
    GgufTensorOut { name: name.into(), ggml_type, shape: shape.into() }
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn writes_the_bytes_of_the_gguf_package() {
    let expected = std::fs::read(fixture("model.gguf")).unwrap();
    let gguf = Gguf::open(&fixture("model.gguf")).unwrap();
    let metadata = KEYS.map(|key| (key.to_string(), gguf.metadata().value(key).unwrap().clone()));
    assert_eq!(gguf.metadata().keys().count(), metadata.len());
    let mut tensors = gguf.tensors().to_vec();
    tensors.sort_by_key(|t| t.offset);
    let described: Vec<_> = tensors.iter().map(|t| tensor(&t.name, t.ggml_type, &t.shape)).collect();

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("copy.gguf");
    std::fs::write(&path, "what was there").unwrap();
    let mut writer = GgufWriter::create(&path, &metadata, &described).unwrap();
    for info in &tensors {
        let mut bytes = vec![0; info.bytes as usize];
        gguf.read(info, 0, &mut bytes).unwrap();
        let (first, rest) = bytes.split_at(bytes.len() / 3);
        writer.write(first).unwrap();
        writer.write(&[]).unwrap();
        writer.write(rest).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    writer.finish().unwrap();
    assert!(std::fs::read(&path).unwrap() == expected);
    assert_eq!(names(dir.path()), ["copy.gguf"]);
}

#[test]
fn an_error_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    std::fs::write(&path, "what was there").unwrap();
    let tensors = [tensor("a", GgmlType::F32, &[3]), tensor("b", GgmlType::Q8_0, &[2, 32])];

    let mut writer = GgufWriter::create(&path, &[], &tensors).unwrap();
    writer.write(&[0; 12]).unwrap();
    refused("too many bytes", writer.write(&[0; 69]), &["`b`", "69 bytes where 68 are left"]);
    writer.write(&[0; 40]).unwrap();
    refused("too few bytes", writer.finish(), &["`b`", "40 bytes of 68"]);

    let mut writer = GgufWriter::create(&path, &[], &tensors[..1]).unwrap();
    writer.write(&[0; 12]).unwrap();
    refused("after the last", writer.write(&[0]), &["all tensors are complete"]);
    drop(writer);

    assert_eq!(std::fs::read(&path).unwrap(), b"what was there");
    assert_eq!(names(dir.path()), ["m.gguf"]);
    let error = GgufWriter::create(&dir.path().join("no/such/folder.gguf"), &[], &[]).unwrap_err();
    assert_eq!(error.exit_code(), 4);
}

#[test]
fn what_the_format_does_not_take_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let one = |key: &str| (key.to_string(), Value::U32(1));
    let keys = |case: &str, metadata: &[(String, Value)], words: &[&str]| {
        refused(case, GgufWriter::create(&path, metadata, &[]), words);
    };
    keys("twice", &[one("a"), one("a")], &["key `a`", "given once"]);
    keys("empty", &[one("")], &["key ``"]);
    keys("alignment", &[("general.alignment".into(), Value::U32(48))], &["power of two"]);
    keys("alignment's type", &[("general.alignment".into(), Value::U64(64))], &["in 32 bits"]);
    let tensors = |case: &str, tensors: &[GgufTensorOut], words: &[&str]| {
        refused(case, GgufWriter::create(&path, &[], tensors), words);
    };
    let f32s = |name: &str, shape: &[usize]| tensor(name, GgmlType::F32, shape);
    tensors("twice", &[f32s("a", &[1]), f32s("a", &[2])], &["tensor `a`", "given once"]);
    tensors("long name", &[f32s(&"n".repeat(64), &[1])], &["1 to 63 bytes"]);
    tensors("no dimension", &[f32s("a", &[])], &["1 to 4 dimensions"]);
    tensors("five dimensions", &[f32s("a", &[1; 5])], &["1 to 4 dimensions"]);
    tensors("zero", &[f32s("a", &[2, 0])], &["above 0"]);
    tensors("overflow", &[f32s("a", &[1 << 40, 1 << 40])], &["overflows"]);
    tensors("half a block", &[tensor("a", GgmlType::Q4_0, &[32, 48])], &["not a multiple of 32"]);
    tensors("unknown", &[tensor("a", GgmlType::Other(77), &[32])], &["ggml type 77"]);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_empty_file_and_lists_of_strings_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let strings = Strings::gather(["", "größe", "\n"]).unwrap();
    let metadata = [("s".to_string(), Value::Array(Array::Strings(strings.clone())))];
    GgufWriter::create(&path, &metadata, &[]).unwrap().finish().unwrap();
    let gguf = Gguf::open(&path).unwrap();
    assert_eq!(gguf.metadata().strings("s").unwrap(), &strings);
    assert_eq!(strings.get(1), Some("größe".as_bytes()));
    assert!(gguf.tensors().is_empty());
    if cfg!(unix) {
        GgufWriter::create("/dev/null".as_ref(), &metadata, &[]).unwrap().finish().unwrap();
    }
}
