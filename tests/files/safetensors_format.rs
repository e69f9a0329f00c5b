//! The safetensors format, against the `safetensors` crate and against damage.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as OracleDtype, TensorView};
use thalweg::Result;
use thalweg::files::safetensors::{Header, MAX_HEADER_BYTES, MAX_RANK, read_header, write};
use thalweg::files::{Checkpoint, Dtype, TensorData, TensorOut};

use crate::{Random, folder, peak_mib, put, refused};

fn metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("op".into(), "MatMul".into()), ("quo\"ted".into(), "größe\n".into())])
}

#[test]
fn the_safetensors_crate_reads_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..35).map(|i| (i as f32).sin()).collect();
    let ids: Vec<i32> = (0..7).map(|i| i * 1000 - 3).collect();
    let tensors = [
        TensorOut { name: "blocks.0.hook_resid_pre", shape: &[7, 5], data: TensorData::F32(&values) },
        TensorOut { name: "ids", shape: &[7], data: TensorData::I32(&ids) },
        TensorOut { name: "scalar", shape: &[], data: TensorData::F32(&values[..1]) },
        TensorOut { name: "empty \"é\"", shape: &[3, 0], data: TensorData::F32(&[]) },
    ];
    // headers of every length modulo 8
    for extra in 0..9 {
        let mut metadata = metadata();
        metadata.insert("padding".into(), "x".repeat(extra));
        let path = dir.path().join("out.safetensors");
        write(&path, &tensors, &metadata).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        assert_eq!(length % 8, 0, "aligned data");
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let found: BTreeMap<String, String> = header.metadata().clone().unwrap().into_iter().collect();
        assert_eq!(found, metadata);
        let oracle = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(oracle.len(), tensors.len());
        for tensor in &tensors {
            let view = oracle.tensor(tensor.name).unwrap();
            assert_eq!(view.shape(), tensor.shape);
            let (dtype, data) = match tensor.data {
                TensorData::F32(data) => (OracleDtype::F32, bytemuck::cast_slice(data)),
                TensorData::I32(data) => (OracleDtype::I32, bytemuck::cast_slice(data)),
            };
            assert_eq!((view.dtype(), view.data()), (dtype, data));
        }
        // and so do we
        let checkpoint = Checkpoint::open_file(&path).unwrap();
        assert_eq!(*checkpoint.metadata(), metadata);
        let info = checkpoint.get("blocks.0.hook_resid_pre").unwrap();
        let mut read = vec![0.0; 35];
        checkpoint.read_f32_rows(info, 0, 7, &mut read).unwrap();
        assert_eq!(read, values);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn an_empty_file_can_be_written_and_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("empty.safetensors");
    write(&path, &[], &BTreeMap::new()).unwrap();
    SafeTensors::deserialize(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(Checkpoint::open_file(&path).unwrap().names().count(), 0);
}

#[test]
fn the_writer_refuses_what_it_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.safetensors");
    let tensor = |name, shape| TensorOut { name, shape, data: TensorData::F32(&[1.0, 2.0]) };
    let none = BTreeMap::new();
    refused("twice", write(&path, &[tensor("a", &[2]), tensor("a", &[2])], &none), &["`a`", "taken"]);
    refused("reserved", write(&path, &[tensor("__metadata__", &[2])], &none), &["`__metadata__`"]);
    refused("shape", write(&path, &[tensor("a", &[3])], &none), &["`a`", "[3]", "2 elements"]);
    refused("overflow", write(&path, &[tensor("a", &[usize::MAX, 2])], &none), &["`a`"]);
    assert!(!path.exists());
    let nowhere = dir.path().join("missing/out.safetensors");
    refused("no folder", write(&nowhere, &[tensor("a", &[2])], &none), &["out.safetensors"]);
}

#[cfg(unix)]
#[test]
fn the_writer_writes_through_devices_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let tensor = TensorOut { name: "a", shape: &[1], data: TensorData::F32(&[1.0]) };
    write("/dev/null".as_ref(), &[tensor], &BTreeMap::new()).unwrap();
    assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    let (link, target) = (dir.path().join("link"), put(dir.path(), "target", "old"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    write(&link, &[tensor], &BTreeMap::new()).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
    Checkpoint::open_file(&target).unwrap();
}

#[test]
fn we_read_what_the_safetensors_crate_writes() {
    let pairs = [
        (OracleDtype::BOOL, Dtype::Bool),
        (OracleDtype::U8, Dtype::U8),
        (OracleDtype::I8, Dtype::I8),
        (OracleDtype::F8_E5M2, Dtype::F8E5M2),
        (OracleDtype::F8_E4M3, Dtype::F8E4M3),
        (OracleDtype::F8_E8M0, Dtype::F8E8M0),
        (OracleDtype::F8_E4M3FNUZ, Dtype::F8E4M3Fnuz),
        (OracleDtype::F8_E5M2FNUZ, Dtype::F8E5M2Fnuz),
        (OracleDtype::I16, Dtype::I16),
        (OracleDtype::U16, Dtype::U16),
        (OracleDtype::F16, Dtype::F16),
        (OracleDtype::BF16, Dtype::Bf16),
        (OracleDtype::I32, Dtype::I32),
        (OracleDtype::U32, Dtype::U32),
        (OracleDtype::F32, Dtype::F32),
        (OracleDtype::C64, Dtype::C64),
        (OracleDtype::F64, Dtype::F64),
        (OracleDtype::I64, Dtype::I64),
        (OracleDtype::U64, Dtype::U64),
    ];
    assert_eq!(pairs.len(), Dtype::ALL.len());
    let mut random = Random(7);
    let shapes: [&[usize]; 4] = [&[3, 5], &[1], &[], &[4, 0, 2]];
    let mut expected = Vec::new();
    for (oracle, dtype) in pairs {
        assert_eq!(Dtype::parse(dtype.name()), Some(dtype));
        assert_eq!(oracle.to_string(), dtype.name());
        for (i, shape) in shapes.iter().enumerate() {
            let bytes = shape.iter().product::<usize>() * dtype.size() as usize;
            let data: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
            expected.push((format!("{dtype}.{i}"), oracle, dtype, *shape, data));
        }
    }
    let views = expected
        .iter()
        .map(|(name, oracle, _, shape, data)| (name.as_str(), TensorView::new(*oracle, shape.to_vec(), data).unwrap()));
    let extra = HashMap::from([("format".to_string(), "pt".to_string())]);
    let bytes = safetensors::serialize(views, Some(extra)).unwrap();
    let dir = folder(&[("model.safetensors", &bytes)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "pt");
    assert_eq!(checkpoint.names().count(), expected.len());
    for (name, _, dtype, shape, data) in &expected {
        let info = checkpoint.get(name).unwrap();
        assert_eq!((info.dtype, info.shape.as_slice(), info.bytes), (*dtype, *shape, data.len() as u64));
        let mut read = vec![0; data.len()];
        checkpoint.read(info, 0, &mut read).unwrap();
        assert_eq!(read, *data, "{name}");
        if data.len() > 1 {
            checkpoint.read(info, 1, &mut read[..data.len() - 1]).unwrap();
            assert_eq!(read[..data.len() - 1], data[1..], "{name}");
        }
    }
}

/// A file with this header and so many bytes of data.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|i| i as u8));
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header> {
    let dir = folder(&[("model.safetensors", bytes)]);
    read_header(&dir.path().join("model.safetensors"), 0).map(|(_, header)| header)
}

/// `"name":{…}` for a header.
fn entry(name: &str, dtype: &str, shape: &str, begin: impl ToString, end: impl ToString) -> String {
    let (begin, end) = (begin.to_string(), end.to_string());
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

#[test]
fn damaged_files_are_refused_by_name() {
    let one = |dtype: &str, shape: &str, begin: u64, end: u64| format!("{{{}}}", entry("w", dtype, shape, begin, end));
    let two = |a: String, b: String| format!("{{{a},{b}}}");
    let f32 = |name: &str, elements: u64, begin: u64| {
        entry(name, "F32", &format!("[{elements}]"), begin, begin + 4 * elements)
    };
    let max = u64::MAX;
    let many = format!("[{}]", vec!["1"; MAX_RANK + 1].join(","));
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty file", vec![], &["truncated", "0 bytes"]),
        ("shorter than its length", vec![9, 0, 0], &["truncated", "3 bytes"]),
        ("header past the end", 9u64.to_le_bytes().to_vec(), &["truncated", "9 bytes"]),
        ("header of 2^64-1", max.to_le_bytes().to_vec(), &["at most 100000000", "18446744073709551615"]),
        ("header above the cap", (MAX_HEADER_BYTES + 1).to_le_bytes().to_vec(), &["at most 100000000"]),
        ("no header", file("", 0), &["begins with `{`"]),
        ("header of zeros", file("\0\0\0\0", 0), &["begins with `{`"]),
        ("a list", file("[]", 0), &["begins with `{`"]),
        ("a space before", file(" {}", 0), &["begins with `{`"]),
        ("not JSON", file("{nope}", 0), &["header is not valid"]),
        ("something after", file("{}x", 0), &["header is not valid"]),
        ("not UTF-8", [&7u64.to_le_bytes()[..], b"{\"\xff\xfe\":1"].concat(), &["not UTF-8", "byte 2"]),
        ("unclosed", file(&one("F32", "[1]", 0, 4)[..40], 4), &["`w`"]),
        ("entry is no object", file(r#"{"w":1}"#, 0), &["`w`", "expected an object"]),
        ("no dtype", file(r#"{"w":{"shape":[],"data_offsets":[0,4]}}"#, 4), &["`w`", "`dtype`"]),
        ("no shape", file(r#"{"w":{"dtype":"F32","data_offsets":[0,4]}}"#, 4), &["`w`", "`shape`"]),
        ("no offsets", file(r#"{"w":{"dtype":"F32","shape":[1]}}"#, 4), &["`w`", "`data_offsets`"]),
        ("one offset", file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4), &["`w`"]),
        ("three offsets", file(r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}}"#, 4), &["`w`"]),
        ("dtype twice", file(r#"{"w":{"dtype":"F32","dtype":"F32"}}"#, 0), &["`w`", "`dtype` is given twice"]),
        ("unknown dtype", file(&one("Q4_0", "[1]", 0, 4), 4), &["`w`", "unknown dtype `Q4_0`"]),
        ("dtype in small letters", file(&one("f32", "[1]", 0, 4), 4), &["`w`", "unknown dtype `f32`"]),
        ("dtype of 4 bits", file(&one("F4", "[2]", 0, 1), 1), &["`w`", "unknown dtype `F4`"]),
        ("negative dimension", file(&one("F32", "[-1]", 0, 4), 4), &["`w`", "-1"]),
        ("fractional dimension", file(&one("F32", "[1.5]", 0, 4), 4), &["`w`", "1.5"]),
        ("dimension of 2^64", file(&one("F32", "[18446744073709551616]", 0, 4), 4), &["`w`"]),
        ("overflowing shape", file(&one("F32", "[4294967296,4294967296]", 0, 0), 0), &["`w`", "overflows"]),
        ("overflowing bytes", file(&one("F64", "[2305843009213693952]", 0, 0), 0), &["`w`", "overflows"]),
        ("overflow behind a zero", file(&one("F32", "[0,4294967296,4294967296]", 0, 0), 0), &["`w`", "overflows"]),
        ("too many dimensions", file(&one("F32", &many, 0, 4), 4), &["`w`", "more than 32 dimensions"]),
        ("end before begin", file(&one("F32", "[1]", 8, 4), 8), &["`w`", "before its beginning 8"]),
        ("offsets near 2^64", file(&one("F32", "[1]", max - 3, max), 4), &["`w`", "found 3"]),
        ("aligned offsets near 2^64", file(&one("U8", "[1]", max - 1, max), 4), &["`w`", "holds 4 bytes"]),
        ("offset of 2^64", file(&format!("{{{}}}", entry("w", "U8", "[1]", 0, "18446744073709551616")), 4), &["`w`"]),
        ("negative offset", file(&format!("{{{}}}", entry("w", "U8", "[1]", -1, 0)), 4), &["`w`", "-1"]),
        ("too few bytes", file(&one("F32", "[2]", 0, 4), 4), &["`w`", "takes 8 bytes, found 4"]),
        ("too many bytes", file(&one("F32", "[1]", 0, 8), 8), &["`w`", "takes 4 bytes, found 8"]),
        ("past the end", file(&one("F32", "[4]", 0, 16), 15), &["`w`", "holds 15 bytes"]),
        ("left over", file(&one("F32", "[1]", 0, 4), 5), &["`w`", "1 bytes are left over"]),
        ("data without tensors", file("{}", 3), &["3 bytes are left over"]),
        ("hole at the beginning", file(&one("F32", "[1]", 4, 8), 8), &["`w`", "hole of 4 bytes"]),
        ("hole between", file(&two(f32("a", 1, 0), f32("b", 1, 8)), 12), &["`b`", "hole of 4 bytes"]),
        ("overlap", file(&two(f32("a", 2, 0), f32("b", 2, 4)), 12), &["`b` overlaps tensor `a`"]),
        ("the same bytes", file(&two(f32("a", 2, 0), f32("b", 2, 0)), 8), &["`b` overlaps tensor `a`"]),
        (
            "misaligned",
            file(&two(entry("a", "U8", "[1]", 0, 1), entry("b", "F32", "[1]", 1, 5)), 5),
            &["`b`", "misaligned", "offset 1"],
        ),
        ("one name twice", file(&two(f32("w", 1, 0), f32("w", 1, 4)), 8), &["`w`", "two tensors"]),
        ("one name twice, escaped", file(&two(f32("w", 1, 0), f32("\\u0077", 1, 4)), 8), &["`w`", "two tensors"]),
        ("metadata twice", file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), &["`__metadata__`"]),
        ("metadata is no object", file(r#"{"__metadata__":"pt"}"#, 0), &["`__metadata__`"]),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), &["`__metadata__`"]),
        ("nested without end", file(&format!(r#"{{"w":{{"x":{}"#, "[".repeat(100_000)), 0), &["`w`"]),
        ("name with a line break", file(&one("Q", "[1]", 0, 4).replace("\"w\"", "\"a\\nb\""), 4), &["`a\\nb`"]),
        (
            "endless name",
            file(&one("Q", "[1]", 0, 4).replace("\"w\"", &format!("\"{}\"", "n".repeat(9999))), 4),
            &["nn…"],
        ),
    ];
    for (case, bytes, words) in cases {
        let error = refused(case, parse(&bytes), words);
        let message = error.to_string();
        assert!(message.contains("model.safetensors"), "{case}: {message}");
        assert!(message.len() < 700, "{case}: {message}");
    }
    let missing = read_header("/nonexistent/model.safetensors".as_ref(), 0).map(|_| ());
    refused("no file", missing, &["/nonexistent/model.safetensors"]);
    let dir = folder(&[]);
    refused("a folder", read_header(dir.path(), 0).map(|_| ()), &["regular file"]);
}

#[test]
fn odd_but_valid_files_are_read() {
    for (header, data) in [
        ("{}", 0),
        ("{}    ", 0),
        (r#"{"__metadata__":{}}"#, 0),
        (r#"{"w":{"shape":[1],"data_offsets":[0,4],"dtype":"F32","more":{"x":[null]}}}"#, 4),
        (
            r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#,
            5,
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},"b":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#,
            0,
        ),
    ] {
        let bytes = file(header, data);
        SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{header}: {e}"));
        parse(&bytes).unwrap_or_else(|e| panic!("{header}: {e}"));
    }
}

/// Random damage: never a panic, never memory by the file's numbers, and never a tensor outside of the file. Whatever
/// the oracle refuses, we refuse.
#[test]
fn random_damage_never_panics() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{}}}"#,
        entry("embeddings.weight", "F32", "[3,4]", 0, 48),
        entry("a", "BF16", "[2,1,3]", 48, 60),
        entry("b", "U8", "[5]", 60, 65)
    );
    let whole = file(&header, 65);
    parse(&whole).unwrap();
    for end in 0..whole.len() {
        refused(&format!("cut to {end} bytes"), parse(&whole[..end]), &["model.safetensors"]);
    }
    let before = peak_mib();
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(20_240_607);
    let mut valid = 0;
    let digits = b"0123456789-,[]{}\":eE. \0\xff";
    for round in 0..6000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            // the length, the header, or anywhere
            let range = [8, header.len(), bytes.len()][random.below(3)].min(bytes.len()).max(1);
            let at = random.below(range);
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes[at] = digits[random.below(digits.len())],
                3 => bytes.insert(at, digits[random.below(digits.len())]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        // half of the rounds keep the header's length right, or nothing after it would ever be looked at
        if round % 2 == 0 && bytes.len() > 8 + 65 {
            let length = bytes.len() as u64 - 8 - 65;
            bytes[..8].copy_from_slice(&length.to_le_bytes());
        }
        let path = put(dir.path(), "model.safetensors", &bytes);
        match Checkpoint::open_file(&path) {
            Ok(checkpoint) => {
                valid += 1;
                let oracle = SafeTensors::deserialize(&bytes);
                assert!(oracle.is_ok(), "round {round}: the oracle says {:?}", oracle.err());
                for info in checkpoint.tensors() {
                    assert!(info.offset + info.bytes <= bytes.len() as u64);
                    let mut data = vec![0; info.bytes as usize];
                    checkpoint.read(info, 0, &mut data).unwrap();
                }
            }
            Err(error) => {
                refused(&format!("round {round}"), Err::<(), _>(error), &["model.safetensors"]);
            }
        }
    }
    assert!(valid > 50, "only {valid} rounds left a valid file: the damage is too coarse to test anything");
    assert!(peak_mib() - before < 1024, "memory grew by {} MiB", peak_mib() - before);
}
