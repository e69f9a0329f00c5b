//! Checkpoints: one file, shards, and reading rows.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype as OracleDtype, TensorView};
use thalweg::Error;
use thalweg::files::safetensors::write;
use thalweg::files::{Checkpoint, TensorData, TensorInfo, TensorOut};

use crate::{folder, put, refused};

fn shard(tensors: &[(&str, f32)]) -> Vec<u8> {
    let data: Vec<[u8; 4]> = tensors.iter().map(|(_, x)| x.to_le_bytes()).collect();
    let views = tensors
        .iter()
        .zip(&data)
        .map(|((name, _), bytes)| (name, TensorView::new(OracleDtype::F32, vec![1], bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

fn value(checkpoint: &Checkpoint, name: &str) -> f32 {
    let mut out = [0.0];
    checkpoint.read_f32_rows(checkpoint.get(name).unwrap(), 0, 1, &mut out).unwrap();
    out[0]
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn shards_are_one_checkpoint() {
    let index = br#"{"metadata":{"total_size":8},"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors"}}"#;
    // `c` is in no map: transformers loads it all the same
    let (one, two) = (shard(&[("a", 1.0)]), shard(&[("b", 2.0), ("c", 3.0)]));
    let dir = folder(&[(INDEX, index), ("m-1.safetensors", &one), ("m-2.safetensors", &two)]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(["a", "b", "c"].map(|name| value(&checkpoint, name)), [1.0, 2.0, 3.0]);
    let file = checkpoint.path_of(checkpoint.get("b").unwrap());
    assert_eq!(file.file_name().unwrap(), "m-2.safetensors");
    // a single file wins over an index
    put(dir.path(), "model.safetensors", shard(&[("d", 4.0)]));
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().collect::<Vec<_>>(), ["d"]);
}

#[test]
fn damaged_indexes_are_refused_by_name() {
    let map = |map: &str| format!(r#"{{"weight_map":{{{map}}}}}"#);
    let good = r#""a":"s.safetensors""#;
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("empty", String::new(), &["not a valid index"]),
        ("no map", "{}".into(), &["weight_map"]),
        ("a list", r#"{"weight_map":[]}"#.into(), &["from tensor names to shard names"]),
        ("a number", map(r#""a":1"#), &["not a valid index"]),
        ("byte order mark", format!("\u{feff}{}", map(good)), &["byte order mark"]),
        ("missing shard", map(r#""a":"other.safetensors""#), &["`other.safetensors`", "missing"]),
        ("missing tensor", map(r#""a":"s.safetensors","b":"s.safetensors""#), &["`b`", "`s.safetensors`", "lacks"]),
        ("wrong shard", map(r#""a":"s.safetensors","x":"s.safetensors","y":"t.safetensors""#), &["`x`", "lacks"]),
        ("twice in the map", map(&format!("{good},{good}")), &["`a`", "given twice", "`s.safetensors`"]),
        (
            "in two shards",
            map(r#""a":"s.safetensors","y":"t.safetensors","z":"u.safetensors""#),
            &["`y`", "t.safetensors", "u.safetensors"],
        ),
        ("parent folder", map(r#""a":"../s.safetensors""#), &["`../s.safetensors`"]),
        ("other folder", map(r#""a":"sub/s.safetensors""#), &["`sub/s.safetensors`"]),
        ("backslash", map(r#""a":"sub\\s.safetensors""#), &["plain file name"]),
        ("absolute", map(r#""a":"/etc/s.safetensors""#), &["`/etc/s.safetensors`"]),
        ("drive", map(r#""a":"C:s.safetensors""#), &["`C:s.safetensors`"]),
        ("zero byte", map(r#""a":"s\u0000.safetensors""#), &["plain file name"]),
        ("dots", map(r#""a":"..""#), &["`..`"]),
        ("no name", map(r#""a":"""#), &["plain file name"]),
        ("only the ending", map(r#""a":".safetensors""#), &["`.safetensors`"]),
        ("other format", map(r#""a":"s.bin""#), &["`s.bin`"]),
        ("cut off", map(good)[..20].into(), &["not a valid index"]),
        ("damaged shard", map(r#""a":"s.safetensors","v":"v.safetensors""#), &["v.safetensors", "truncated"]),
    ];
    for (case, index, words) in cases {
        let dir = folder(&[
            (INDEX, index.as_bytes()),
            ("s.safetensors", &shard(&[("a", 1.0)])),
            ("t.safetensors", &shard(&[("y", 1.0)])),
            ("u.safetensors", &shard(&[("y", 1.0), ("z", 1.0)])),
            ("v.safetensors", &[1]),
        ]);
        refused(case, Checkpoint::open(dir.path()), words);
    }
}

#[test]
fn folders_without_safetensors_say_what_to_do() {
    let dir = folder(&[]);
    refused("empty folder", Checkpoint::open(dir.path()), &["model.safetensors", INDEX]);
    refused("no folder", Checkpoint::open(&dir.path().join("x")), &["expected a model's folder"]);
    put(dir.path(), "pytorch_model.bin", "PK");
    let error = refused("pickle", Checkpoint::open(dir.path()), &["pytorch_model.bin", "unsupported", "convert"]);
    assert!(matches!(error, Error::Unsupported { .. }));
}

#[test]
fn rows_are_widened_to_f32() {
    // more than one internal chunk, and an odd row length
    let (rows, row) = (700, 97);
    let values: Vec<f32> = (0..rows * row).map(|i| ((i * 7919) % 4096) as f32 / 512.0 - 4.0).collect();
    let f16s: Vec<u8> = values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let bf16s: Vec<u8> = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let f32s: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = |dtype, data| TensorView::new(dtype, vec![rows, row], data).unwrap();
    let views = [
        ("f16", view(OracleDtype::F16, f16s.as_slice())),
        ("bf16", view(OracleDtype::BF16, bf16s.as_slice())),
        ("f32", view(OracleDtype::F32, f32s.as_slice())),
    ];
    let dir = folder(&[("model.safetensors", &safetensors::serialize(views, None).unwrap())]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let checkpoint = &checkpoint;
    let read = |name: &str, first: usize, n: usize| {
        let mut out = vec![f32::NAN; n * row];
        checkpoint.read_f32_rows(checkpoint.get(name).unwrap(), first, n, &mut out).unwrap();
        out
    };
    // from several threads at once
    std::thread::scope(|scope| {
        for (first, n) in [(0, rows), (13, 1), (rows - 1, 1), (5, 0), (1, 600)] {
            let values = &values[first * row..(first + n) * row];
            scope.spawn(move || {
                assert_eq!(read("f32", first, n), values);
                assert!(
                    read("f16", first, n).iter().eq(values
                        .iter()
                        .map(|&x| f16::from_f32(x).to_f32())
                        .collect::<Vec<_>>()
                        .iter())
                );
                assert!(
                    read("bf16", first, n).iter().eq(values
                        .iter()
                        .map(|&x| bf16::from_f32(x).to_f32())
                        .collect::<Vec<_>>()
                        .iter())
                );
                let mut bits = vec![0; n * row];
                checkpoint.read_u16_rows(checkpoint.get("bf16").unwrap(), first, n, &mut bits).unwrap();
                assert!(bits.iter().zip(values).all(|(&b, &x)| b == bf16::from_f32(x).to_bits()));
            });
        }
    });
}

#[test]
fn what_cannot_be_weights_is_refused() {
    let nan = f16::from_f32(1.0).to_le_bytes().into_iter().chain(f16::NAN.to_le_bytes()).collect::<Vec<_>>();
    let infinite = [0, 0, 0x80, 0xff];
    let f32s: Vec<u8> =
        [0.0, 1.0, 2.0, f32::NEG_INFINITY, f32::NAN, 0.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let integers = [0; 8];
    let views = [
        ("half", TensorView::new(OracleDtype::F16, vec![2], &nan).unwrap()),
        ("brain", TensorView::new(OracleDtype::BF16, vec![2], &infinite).unwrap()),
        ("single", TensorView::new(OracleDtype::F32, vec![3, 2], &f32s).unwrap()),
        ("whole", TensorView::new(OracleDtype::I64, vec![1], &integers).unwrap()),
    ];
    let dir = folder(&[("model.safetensors", &safetensors::serialize(views, None).unwrap())]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let info = |name: &str| checkpoint.get(name).unwrap();
    let f32 = |name, first, rows, len| checkpoint.read_f32_rows(info(name), first, rows, &mut vec![0.0; len]);
    let u16 = |name, first, rows, len| checkpoint.read_u16_rows(info(name), first, rows, &mut vec![0; len]);
    refused("NaN", f32("half", 0, 2, 2), &["model.safetensors", "`half`", "NaN at index 1"]);
    refused("NaN in bits", u16("half", 1, 1, 1), &["`half`", "NaN at index 1"]);
    refused("infinity", f32("brain", 0, 2, 2), &["`brain`", "-inf at index 1"]);
    refused("infinity in bits", u16("brain", 0, 2, 2), &["`brain`", "-inf at index 1"]);
    f32("single", 0, 1, 2).unwrap();
    refused("the first of two", f32("single", 1, 2, 4), &["`single`", "-inf at index 3"]);
    refused("its own index", f32("single", 2, 1, 2), &["`single`", "NaN at index 4"]);
    refused("integers", f32("whole", 0, 1, 1), &["`whole`", "I64", "unsupported"]);
    refused("f32 as bits", u16("single", 0, 1, 2), &["`single`", "F32"]);
    refused("too many rows", f32("single", 2, 2, 4), &["`single`", "[3, 2]"]);
    refused("overflowing rows", f32("single", usize::MAX, 2, 4), &["`single`"]);
    refused("wrong length", f32("single", 0, 1, 3), &["`single`"]);
    let mut byte = [0];
    refused("past the tensor", checkpoint.read(info("half"), 4, &mut byte), &["`half`", "not within"]);
    refused("far past it", checkpoint.read(info("half"), u64::MAX, &mut byte), &["`half`", "not within"]);
    let foreign = TensorInfo { file: 9, ..info("half").clone() };
    refused("not from here", checkpoint.read(&foreign, 0, &mut byte), &["`half`"]);
}

#[test]
fn a_file_that_shrinks_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let tensor = TensorOut { name: "w", shape: &[4], data: TensorData::F32(&[1.0; 4]) };
    write(&path, &[tensor], &BTreeMap::new()).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let length = std::fs::metadata(&path).unwrap().len();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(length - 1).unwrap();
    let read = checkpoint.read_f32_rows(checkpoint.get("w").unwrap(), 0, 4, &mut [0.0; 4]);
    refused("shrunk", read, &["model.safetensors", "`w`", "the file ends"]);
}
