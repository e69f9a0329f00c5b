//! The GGUF format, against files of the `gguf` package (tests/fixtures/make_gguf.py) and of a tiny writer.

use std::io::{Error as IoError, Read};
use std::path::{Path, PathBuf};

use half::f16;
use thalweg::files::gguf::{Array, Header, Value, read_header};
use thalweg::files::{GgmlType, Gguf};
use thalweg::{Error, Result};

use crate::gguf_damage::sound;
use crate::{folder, refused};

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

pub fn parse(bytes: &[u8]) -> Result<Header> {
    read_header("m.gguf".as_ref(), bytes, bytes.len() as u64)
}

fn content(gguf: &Gguf, name: &str) -> Vec<u8> {
    let info = gguf.get(name).unwrap();
    let mut bytes = vec![0; info.bytes as usize];
    gguf.read(info, 0, &mut bytes).unwrap();
    bytes
}

/// The bytes of a string: its length and itself.
pub fn string(s: impl AsRef<[u8]>) -> Vec<u8> {
    [&(s.as_ref().len() as u64).to_le_bytes()[..], s.as_ref()].concat()
}

/// A key and its value.
pub fn key(name: impl AsRef<[u8]>, kind: u32, value: &[u8]) -> Vec<u8> {
    [&string(name)[..], &kind.to_le_bytes(), value].concat()
}

/// A key whose value is an array that claims `count` elements.
pub fn array(name: &str, kind: u32, count: u64, elements: &[u8]) -> Vec<u8> {
    key(name, 9, &[&kind.to_le_bytes()[..], &count.to_le_bytes(), elements].concat())
}

pub fn u32_key(name: &str, value: u32) -> Vec<u8> {
    key(name, 4, &value.to_le_bytes())
}

/// A tensor's description; `dims` innermost first, as they are stored.
pub fn tensor(name: impl AsRef<[u8]>, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

pub fn head(version: u32, tensors: u64, keys: u64) -> Vec<u8> {
    [b"GGUF", &version.to_le_bytes()[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
}

/// A file with these keys and tensors and so many bytes of data.
pub fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = head(3, tensors.len() as u64, keys.len() as u64);
    bytes.extend(keys.concat());
    bytes.extend(tensors.concat());
    if data > 0 {
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend((0..data).map(|i| i as u8));
    }
    bytes
}

pub const F32: u32 = 0;
pub const Q8_0: u32 = 8;

pub fn small() -> Vec<u8> {
    let keys = [
        key("general.architecture", 8, &string("llama")),
        u32_key("general.alignment", 32),
        array("tokens", 8, 2, &[string("a"), string(b"\xff")].concat()),
        array("nested", 9, 1, &[&5u32.to_le_bytes()[..], &1u64.to_le_bytes(), &[1, 0, 0, 0]].concat()),
        key("yes", 7, &[1]),
    ];
    file(&keys, &[tensor("a", &[3, 2], F32, 0), tensor("q", &[32], Q8_0, 32)], 66)
}

/// A key around `depth` arrays.
pub fn nested(depth: usize) -> Vec<u8> {
    let around = [&9u32.to_le_bytes()[..], &1u64.to_le_bytes()].concat().repeat(depth - 1);
    key("k", 9, &[&around[..], &0u32.to_le_bytes(), &1u64.to_le_bytes(), &[7]].concat())
}

#[test]
fn values_of_every_type_are_read() {
    let gguf = Gguf::open(&fixture("model.gguf")).unwrap();
    assert_eq!(gguf.version(), 3);
    let m = gguf.metadata();
    assert_eq!(m.keys().count(), 23);
    let values = [
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-100)),
        ("u16", Value::U16(60_000)),
        ("i16", Value::I16(-30_000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("f32", Value::F32(0.1)),
        ("u64", Value::U64((1 << 63) + 1)),
        ("i64", Value::I64(-(1 << 62))),
        ("f64", Value::F64(0.1)),
        ("yes", Value::Bool(true)),
        ("no", Value::Bool(false)),
        ("string", Value::String("größe\n".into())),
        ("bools", Value::Array(Array::Bool(vec![true, false, true]))),
        ("u16s", Value::Array(Array::U16(vec![1, 65535]))),
        ("i64s", Value::Array(Array::I64(vec![-1, 1 << 40]))),
        (
            "nested",
            Value::Array(Array::Arrays([vec![1, 2, 3], vec![4], vec![5, 6]].into_iter().map(Array::I32).collect())),
        ),
    ];
    for (key, value) in values {
        assert_eq!(m.value(key), Some(&value), "{key}");
    }
    assert_eq!((m.str("general.architecture").unwrap(), m.usize("general.alignment").unwrap()), ("llama", 64));
    assert_eq!(
        (m.u32("u32").unwrap(), m.usize("u8").unwrap(), m.usize_or("none", 7).unwrap()),
        (4_000_000_000, 200, 7)
    );
    assert_eq!((m.f32("f64").unwrap(), m.f32("i8").unwrap(), m.f32_or("none", 0.5).unwrap()), (0.1, -100.0, 0.5));
    assert_eq!((m.opt_bool("yes").unwrap(), m.bool_or("no", true).unwrap()), (Some(true), false));
    let tokens = m.strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.iter().collect::<Vec<_>>(), [b"<s>", &b"\xff\xfe"[..], "é".as_bytes(), b"", b"end"]);
    assert_eq!((tokens.len(), tokens.get(3), tokens.get(5)), (5, Some(&b""[..]), None));
    assert_eq!(m.opt_f32s("tokenizer.ggml.scores").unwrap().unwrap(), [0.5, -1.0, -1e6, 0.0, 2.5]);
    assert_eq!(m.opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap(), [3, 1, 1, 6, 1]);
    assert_eq!(m.opt_u32s("u16s").unwrap().unwrap(), [1, 65535]);
    assert_eq!(m.opt_f32s("doubles").unwrap().unwrap(), [1.5, -2.5]);
    assert!(!m.has("none") && m.opt_str("none").unwrap().is_none() && m.opt_u32s("none").unwrap().is_none());
    for (error, words) in [
        (m.usize("none").err(), ["`none`", "found nothing"]),
        (m.usize("i8").err(), ["`i8`", "found -100"]),
        (m.usize("u64").err(), ["`u64`", "found 9223372036854775809"]),
        (m.usize("f32").err(), ["`f32`", "found 0.1"]),
        (m.u32("i32").err(), ["`i32`", "found -2000000000"]),
        (m.f32("string").err(), ["expected a number", "found `größe\\n`"]),
        (m.opt_bool("u8").err(), ["expected true or false", "found 200"]),
        (m.str("yes").err(), ["expected a string", "found true"]),
        (m.strings("u16s").err(), ["`u16s`", "a list of 2 whole numbers"]),
        (m.strings("string").err(), ["`string`", "expected a list of strings"]),
        (m.opt_u32s("nested").err(), ["`nested`", "a list of 3 lists"]),
        (m.opt_u32s("i64s").err(), ["`i64s`", "found -1 at index 0"]),
        (m.opt_i32s("i64s").err(), ["`i64s`", "found 1099511627776 at index 1"]),
        (m.opt_f32s("bools").err(), ["`bools`", "a list of 3 truth values"]),
        (Some(m.unsupported("string")), ["unsupported", "`string` `größe\\n`"]),
    ] {
        let error = refused("getter", error.map_or(Ok(()), Err), &words);
        assert!(error.to_string().contains("model.gguf"), "{error}");
    }
}

#[test]
fn tensors_are_read_by_position() {
    let gguf = Gguf::open(&fixture("model.gguf")).unwrap();
    assert_eq!(gguf.tensors().len(), 9);
    assert!(gguf.get("none").is_none());
    let rank4 = gguf.get("rank4").unwrap();
    assert_eq!((rank4.ggml_type, &rank4.shape[..], rank4.bytes), (GgmlType::I16, &[2, 3, 4, 5][..], 240));
    assert_eq!(content(&gguf, "rank4"), (0..120i16).flat_map(i16::to_le_bytes).collect::<Vec<_>>());
    let near = |a: f32, i: usize, by: f32| assert!((a - (i as f32).sin()).abs() <= by, "{a} at {i}");
    let norm = content(&gguf, "output_norm.weight");
    norm.as_chunks().0.iter().enumerate().for_each(|(i, &x)| near(f32::from_le_bytes(x), i, 1e-6));
    let table = gguf.get("token_embd.weight").unwrap();
    assert_eq!((table.ggml_type, &table.shape[..], table.elements()), (GgmlType::F16, &[5, 96][..], 480));
    let mut row = [0; 192];
    gguf.read(table, 4 * 192, &mut row).unwrap();
    row.as_chunks().0.iter().enumerate().for_each(|(i, &x)| near(f16::from_le_bytes(x).to_f32(), 384 + i, 1e-3));
    let quantized = gguf.get("blk.0.q8_0.weight").unwrap();
    assert_eq!((quantized.ggml_type, &quantized.shape[..], quantized.bytes), (GgmlType::Q8_0, &[3, 64][..], 6 * 34));
    for (i, block) in content(&gguf, "blk.0.q8_0.weight").as_chunks::<34>().0.iter().enumerate() {
        let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
        block[2..].iter().enumerate().for_each(|(k, &q)| near(scale * f32::from(q as i8), 32 * i + k, 0.01));
    }
    assert!(gguf.tensors().iter().all(|t| t.offset % 64 == 0));

    for (offset, length) in [(0, 241), (240, 1), (241, 0), (u64::MAX, 1), (u64::MAX - 239, 240)] {
        let out = gguf.read(rank4, offset, &mut vec![0; length]);
        refused("range", out, &["model.gguf", "tensor `rank4`", &format!("{length} bytes from {offset} on")]);
    }
    gguf.read(rank4, 240, &mut []).unwrap();
}

/// One block in every type of the package, which says how large they are.
#[test]
fn blocks_of_every_type_have_the_package_s_sizes() {
    let gguf = Gguf::open(&fixture("types.gguf")).unwrap();
    let list = |key: &str| gguf.metadata().opt_u32s(key).unwrap().unwrap();
    let (numbers, elements, bytes) = (list("numbers"), list("elements"), list("bytes"));
    let names = gguf.metadata().strings("names").unwrap();
    assert_eq!((GgmlType::ALL.len(), gguf.tensors().len()), (names.len(), names.len()));
    for (i, name) in names.iter().enumerate() {
        let name = std::str::from_utf8(name).unwrap();
        let info = gguf.get(name).unwrap();
        assert_eq!((info.ggml_type.to_string().as_str(), info.ggml_type.number()), (name, numbers[i]));
        assert_eq!(info.ggml_type.block(), Some((elements[i].into(), bytes[i].into())), "{name}");
        assert_eq!((&info.shape[..], info.bytes), (&[2, elements[i] as usize][..], u64::from(2 * bytes[i])), "{name}");
        assert_eq!(content(&gguf, name), vec![numbers[i] as u8; 2 * bytes[i] as usize], "{name}");
    }
}

#[test]
fn odd_but_valid_files_are_read() {
    let version2 = [&small()[..4], &2u32.to_le_bytes(), &small()[8..]].concat();
    assert_eq!(parse(&version2).unwrap().version, 2);
    for (case, bytes) in [
        ("nothing", file(&[], &[], 0)),
        ("nothing but data", file(&[], &[], 5)),
        ("nested to the limit", file(&[nested(4)], &[], 0)),
        ("empty arrays", file(&[array("a", 8, 0, &[]), array("b", 9, 0, &[]), array("c", 0, 0, &[])], &[], 0)),
        ("long names", file(&[key("k".repeat(65535), 0, &[0])], &[tensor("n".repeat(256), &[1], F32, 0)], 4)),
        ("in another order, with a hole", file(&[], &[tensor("b", &[1], F32, 64), tensor("a", &[1], F32, 0)], 68)),
        ("alignment of another type", file(&[key("general.alignment", 10, &8u64.to_le_bytes())], &[], 0)),
    ] {
        sound(&parse(&bytes).unwrap_or_else(|e| panic!("{case}: {e}")), bytes.len());
    }
    // an alignment of 8 puts the data elsewhere
    let eight = [
        &file(
            &[u32_key("general.alignment", 8)],
            &[tensor("a_longer_name", &[1], F32, 0), tensor("b", &[2], F32, 8)],
            0,
        )[..],
        &[0; 24],
    ]
    .concat();
    let header = parse(&eight).unwrap();
    assert_eq!(header.tensors.iter().map(|t| t.offset).collect::<Vec<_>>(), [136, 144]);
    // text is only asked for where it is text
    let bytes = file(&[key("k", 8, &string(b"ab\xff")), array("x", 6, 1, &f32::NAN.to_le_bytes())], &[], 0);
    let metadata = parse(&bytes).unwrap().metadata;
    assert_eq!(metadata.value("k"), Some(&Value::String(b"ab\xff".into())));
    refused("text", metadata.str("k"), &["`k`", "not UTF-8 text (byte 2)"]);
    refused("NaN", metadata.opt_f32s("x"), &["`x`", "found NaN at index 0"]);
}

#[test]
fn a_tensor_of_an_unknown_type_is_refused_when_it_is_read() {
    let bytes = file(&[], &[tensor("w", &[5, 3], 99, 0), tensor("x", &[1], F32, 32)], 36);
    let dir = folder(&[("m.gguf", &bytes)]);
    let gguf = Gguf::open(&dir.path().join("m.gguf")).unwrap();
    let info = gguf.get("w").unwrap();
    assert_eq!((info.ggml_type, &info.shape[..], info.bytes), (GgmlType::Other(99), &[3, 5][..], 0));
    refused("read", gguf.read(info, 0, &mut []), &["m.gguf", "unsupported", "`w`", "ggml type 99"]);
    assert_eq!(content(&gguf, "x"), [32, 33, 34, 35]);
    // the file becomes shorter behind our back
    std::fs::write(dir.path().join("m.gguf"), &bytes[..bytes.len() - 1]).unwrap();
    refused("shorter", gguf.read(gguf.get("x").unwrap(), 0, &mut [0; 4]), &["`x`", "the file ends before"]);
}

#[test]
fn a_large_vocabulary_is_read() {
    let token = |i: u32| format!("token {i}").into_bytes();
    let count = 1u32 << 18;
    let tokens: Vec<u8> = (0..count).flat_map(|i| string(token(i))).collect();
    let scores: Vec<u8> = (0..count).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let bytes = file(&[array("tokens", 8, count.into(), &tokens), array("scores", 6, count.into(), &scores)], &[], 0);
    let metadata = parse(&bytes).unwrap().metadata;
    let list = metadata.strings("tokens").unwrap();
    assert_eq!(list.len(), count as usize);
    assert!(list.iter().enumerate().all(|(i, t)| t == token(i as u32)));
    assert_eq!(metadata.opt_f32s("scores").unwrap().unwrap()[77_777], 77_777.0);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(IoError::other("the disk is on fire"))
        }
    }
    let error = refused("broken", read_header("m.gguf".as_ref(), Broken, 100), &["m.gguf", "on fire"]);
    assert!(matches!(error, Error::Io { .. }));
}
