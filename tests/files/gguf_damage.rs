//! Damaged GGUF files: each kind of damage by name, and damage everywhere.

use thalweg::Error;
use thalweg::files::Gguf;
use thalweg::files::gguf::{Header, MAX_HEADER_BYTES, MAX_KEYS, MAX_TENSORS, read_header};

use crate::gguf::{F32, Q8_0, array, file, fixture, head, key, nested, parse, small, string, tensor, u32_key};
use crate::{Random, peak_mib, put, refused};

#[test]
fn damaged_files_are_refused_by_name() {
    let one = |dims: &[u64], kind, offset, data| file(&[], &[tensor("w", dims, kind, offset)], data);
    let two = |a: Vec<u8>, b: Vec<u8>, data| file(&[], &[a, b], data);
    let keyed = |key: Vec<u8>| file(&[key], &[], 0);
    let aligned = |n: u32| keyed(u32_key("general.alignment", n));
    let big = 1u64 << 60;
    let with = |at: usize, byte: u8| {
        let mut bytes = small();
        bytes[at] = byte;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>, &[&str])> = vec![
        ("empty", vec![], &["the header", "truncated", "0 bytes follow"]),
        ("half a magic", b"GG".to_vec(), &["truncated", "2 bytes follow"]),
        ("another magic", b"PK\x03\x04\0\0\0\0".to_vec(), &["magic", "`GGUF`", "PK\\x03\\x04"]),
        ("magic in small letters", with(0, b'g'), &["magic", "gGUF"]),
        ("no version", b"GGUF".to_vec(), &["truncated"]),
        ("version 0", with(4, 0), &["unsupported", "version 0"]),
        ("version 1", with(4, 1), &["unsupported", "version 1"]),
        ("version 4", with(4, 4), &["unsupported", "version 4"]),
        ("big-endian", std::fs::read(fixture("big_endian.gguf")).unwrap(), &["unsupported", "version 3", "big-endian"]),
        ("no counts", head(3, 0, 0)[..12].to_vec(), &["truncated", "4 bytes follow"]),
        ("2^60 tensors", [head(3, big, 0), vec![0; 76]].concat(), &["1152921504606846976 tensors", "76 bytes follow"]),
        ("2^60 keys", [head(3, 0, big), vec![0; 76]].concat(), &["1152921504606846976 keys", "76 bytes follow"]),
        ("2^64-1 tensors", head(3, u64::MAX, 0), &["18446744073709551615 tensors"]),
        ("2^64-1 keys", head(3, 0, u64::MAX), &["18446744073709551615 keys"]),
        (
            "too many keys",
            [head(3, 0, MAX_KEYS + 1), vec![0; 14 * (MAX_KEYS as usize + 1)]].concat(),
            &["at most 65536 keys", "65537"],
        ),
        (
            "too many tensors",
            [head(3, MAX_TENSORS + 1, 0), vec![0; 33 * (MAX_TENSORS as usize + 1)]].concat(),
            &["at most 131072 tensors", "131073"],
        ),
        ("one key too few", [head(3, 0, 2), u32_key("a.long.enough.key", 1)].concat(), &["key 2 of 2", "truncated"]),
        ("key of 2^60 bytes", [&head(3, 0, 1)[..], &big.to_le_bytes(), &[0; 68]].concat(), &["key 1 of 1", "name"]),
        ("key without a name", keyed(key("", 4, &[0; 5])), &["key 1 of 1", "found 0"]),
        ("endless key", keyed(key("n".repeat(65536), 0, &[0])), &["key 1 of 1", "1 to 65535", "found 65536"]),
        ("key is not UTF-8", keyed(key(b"ab\xff", 0, &[0])), &["key 1 of 1", "not UTF-8 (byte 2)"]),
        ("key twice", file(&[u32_key("k", 1), u32_key("k", 1)], &[], 0), &["key `k`", "given twice"]),
        ("key with a line break", keyed(key("a\nb", 13, &[0])), &["key `a\\nb`"]),
        ("value type 13", keyed(key("k", 13, &[0])), &["key `k`", "type from 0 to 12", "found 13"]),
        ("value type 2^32-1", keyed(key("k", u32::MAX, &[0])), &["key `k`", "found 4294967295"]),
        ("value cut", keyed(key("k", 12, &[0; 7])), &["key `k`", "truncated", "expected 8 bytes", "7 bytes follow"]),
        ("truth value of 2", keyed(key("k", 7, &[2])), &["key `k`", "0 or 1", "found 2"]),
        ("truth values of 3", keyed(array("k", 7, 2, &[1, 3])), &["key `k`", "0 or 1", "found 3"]),
        ("string past the end", keyed(key("k", 8, &6u64.to_le_bytes())), &["key `k`", "6 bytes of a string"]),
        ("string of 2^64-1", keyed(key("k", 8, &[255; 8])), &["key `k`", "18446744073709551615"]),
        ("element type 13", keyed(array("k", 13, 0, &[])), &["key `k`", "element type", "found 13"]),
        ("string past the end in a list", keyed(array("k", 8, 1, &[9; 8])), &["key `k`", "bytes of a string"]),
        ("numbers past the end", keyed(array("k", 5, 3, &[0; 11])), &["key `k`", "3 elements of at least 4 bytes"]),
        ("strings past the end", keyed(array("k", 8, 2, &[0; 15])), &["key `k`", "2 strings"]),
        ("arrays past the end", keyed(array("k", 9, 2, &[0; 23])), &["key `k`", "2 arrays"]),
        ("nested too deep", keyed(nested(5)), &["key `k`", "more than 4 deep"]),
        ("nested without end", keyed(nested(100_000)), &["key `k`", "more than 4 deep"]),
        ("alignment 0", aligned(0), &["`general.alignment`", "found 0"]),
        ("alignment 4", aligned(4), &["`general.alignment`", "found 4"]),
        ("alignment 48", aligned(48), &["`general.alignment`", "power of two", "found 48"]),
        ("alignment 2^17", aligned(1 << 17), &["`general.alignment`", "found 131072"]),
        ("alignment 2^31", aligned(1 << 31), &["`general.alignment`", "found 2147483648"]),
        ("alignment is text", keyed(key("general.alignment", 8, &string("32"))), &["`general.alignment`", "`32`"]),
        ("negative", keyed(key("general.alignment", 5, &(-32i32).to_le_bytes())), &["`general.alignment`", "-32"]),
        ("one tensor too few", [head(3, 1, 0), vec![0; 33]].concat(), &["tensor 1 of 1", "found 0"]),
        ("tensor without a name", file(&[], &[tensor("", &[1], F32, 0)], 4), &["tensor 1 of 1", "1 to 256", "found 0"]),
        ("endless name", file(&[], &[tensor("n".repeat(257), &[1], F32, 0)], 4), &["tensor 1 of 1", "found 257"]),
        ("name is not UTF-8", file(&[], &[tensor(b"\xc3", &[1], F32, 0)], 4), &["tensor 1 of 1", "not UTF-8"]),
        ("name of 2^60", [&head(3, 1, 0)[..], &big.to_le_bytes(), &[0; 68]].concat(), &["tensor 1 of 1", "of a name"]),
        ("name with a line break", file(&[], &[tensor("a\nb", &[], F32, 0)], 64), &["tensor `a\\nb`"]),
        ("no dimensions", one(&[], F32, 0, 64), &["`w`", "1 to 4 dimensions", "found 0"]),
        ("five dimensions", one(&[1; 5], F32, 0, 4), &["`w`", "1 to 4 dimensions", "found 5"]),
        ("2^32-1 dimensions", file(&[], &[[string("w"), vec![255; 40]].concat()], 0), &["`w`", "found 4294967295"]),
        ("dimension of 0", one(&[4, 0], F32, 0, 4), &["`w`", "[0, 4]", "dimension of 0"]),
        ("overflowing shape", one(&[1 << 32, 1 << 32], F32, 0, 4), &["`w`", "overflows"]),
        ("overflowing bytes", one(&[1 << 62], F32, 0, 4), &["`w`", "F32 overflows"]),
        ("overflowing unknown type", one(&[1 << 33, 1 << 33], 99, 0, 4), &["`w`", "ggml type 99 overflows"]),
        ("half a block", one(&[48, 2], Q8_0, 0, 102), &["`w`", "[2, 48]", "multiple of 32", "Q8_0"]),
        ("half a block, whole in all", one(&[16, 2], Q8_0, 0, 34), &["`w`", "[2, 16]", "multiple of 32"]),
        ("half a K block", one(&[128], 12, 0, 144), &["`w`", "multiple of 256", "Q4_K"]),
        ("misaligned", one(&[1], F32, 4, 36), &["`w`", "misaligned", "offset 4", "multiple of 32"]),
        ("misaligned unknown type", one(&[1], 99, 4, 36), &["`w`", "misaligned"]),
        ("no data", one(&[1], F32, 0, 0), &["`w`", "takes 4 bytes", "holds 0 bytes"]),
        ("past the end", one(&[2], F32, 0, 7), &["`w`", "takes 8 bytes", "holds 7 bytes"]),
        ("block past the end", one(&[32], Q8_0, 0, 33), &["`w`", "takes 34 bytes", "holds 33 bytes"]),
        ("begins past the end", one(&[1], F32, 32, 32), &["`w`", "offset 32", "holds 32 bytes"]),
        ("offset near 2^64", one(&[8], F32, u64::MAX - 31, 32), &["`w`", "18446744073709551584"]),
        ("unknown type past the end", one(&[8], 99, 32, 32), &["`w`", "offset 32", "holds 32 bytes"]),
        ("more than there is", one(&[1 << 40, 1 << 10], F32, 0, 4), &["`w`", "takes 4503599627370496 bytes"]),
        ("overlap", two(tensor("a", &[9], F32, 0), tensor("b", &[1], F32, 32), 64), &["`b` overlaps tensor `a`"]),
        (
            "overlap backwards",
            two(tensor("a", &[1], F32, 32), tensor("b", &[9], F32, 0), 64),
            &["`a` overlaps tensor `b`"],
        ),
        ("the same bytes", two(tensor("a", &[1], F32, 0), tensor("b", &[1], F32, 0), 4), &["`b` overlaps tensor `a`"]),
        ("unknown inside", two(tensor("a", &[9], F32, 0), tensor("b", &[1], 99, 32), 64), &["`b` overlaps tensor `a`"]),
        ("unknown beside", two(tensor("a", &[1], 99, 0), tensor("b", &[1], F32, 0), 64), &["`b` overlaps tensor `a`"]),
        ("one name twice", two(tensor("w", &[1], F32, 0), tensor("w", &[1], F32, 32), 64), &["two tensors", "`w`"]),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes, words) in cases {
        let error = refused(case, parse(&bytes), words);
        assert!(matches!(error, Error::File { .. } | Error::Unsupported { .. }), "{case}: {error:?}");
        assert_eq!(words.contains(&"unsupported"), matches!(error, Error::Unsupported { .. }), "{case}: {error:?}");
        let message = error.to_string();
        assert!(message.contains("m.gguf") && message.len() < 500, "{case}: {message}");
        let path = put(dir.path(), "m.gguf", &bytes);
        refused(case, Gguf::open(&path), words);
    }
    refused("no file", Gguf::open("/nonexistent/m.gguf".as_ref()), &["/nonexistent/m.gguf"]);
    refused("a folder", Gguf::open(dir.path()), &["regular file"]);
}

/// What holds of every header that is not refused, whatever the file.
pub fn sound(header: &Header, size: usize) {
    let mut ends = 0;
    let mut order: Vec<_> = header.tensors.iter().collect();
    order.sort_by_key(|t| t.offset);
    for info in order {
        assert!(info.offset >= ends && info.offset % 8 == 0, "{info:?}");
        ends = info.offset + info.bytes;
        assert!(ends <= size as u64 && (1..=4).contains(&info.shape.len()) && info.elements() > 0, "{info:?}");
        if let Some((elements, bytes)) = info.ggml_type.block() {
            assert_eq!(info.elements() as u64 * bytes, info.bytes * elements, "{info:?}");
        }
    }
    let m = &header.metadata;
    for key in m.keys() {
        let _ = (m.opt_usize(key), m.opt_u32(key), m.opt_f32(key), m.opt_bool(key), m.opt_str(key), m.unsupported(key));
        let _ = (m.opt_u32s(key), m.opt_i32s(key), m.opt_f32s(key));
        if let Ok(Some(strings)) = m.opt_strings(key) {
            assert_eq!(strings.iter().count(), strings.len());
        }
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    let whole = small();
    sound(&parse(&whole).unwrap(), whole.len());
    let dir = tempfile::tempdir().unwrap();
    for end in 0..whole.len() {
        let case = format!("cut to {end} bytes");
        refused(&case, parse(&whole[..end]), &["m.gguf"]);
        refused(&case, Gguf::open(&put(dir.path(), "m.gguf", &whole[..end])), &["m.gguf"]);
        // the file is cut while it is read: the header's 66 bytes of data are never looked at
        let header = read_header("m.gguf".as_ref(), &whole[..end], whole.len() as u64);
        if let Err(error) = header {
            refused(&case, Err::<(), _>(error), &["truncated", "the file ends before the header does"]);
        } else {
            assert!(end >= whole.len() - 66 - 32, "{case}");
        }
    }
    // padding behind the last tensor is no loss
    let model = std::fs::read(fixture("model.gguf")).unwrap();
    let end = parse(&model).unwrap().tensors.iter().map(|t| t.offset + t.bytes).max().unwrap() as usize;
    (0..end).for_each(|end| drop(refused(&format!("cut to {end} bytes"), parse(&model[..end]), &["m.gguf"])));
    parse(&model[..end]).unwrap();
}

#[test]
fn flipped_bytes_never_panic() {
    let flip = |whole: &[u8], at: usize, by: u8| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= by;
        check(&format!("byte {at} by {by}"), &bytes);
    };
    let small = small();
    (0..small.len()).for_each(|at| [1, 2, 4, 8, 16, 32, 64, 128, 255].into_iter().for_each(|by| flip(&small, at, by)));
    let model = std::fs::read(fixture("model.gguf")).unwrap();
    (0..model.len()).for_each(|at| [1 << (at % 8), 255].into_iter().for_each(|by| flip(&model, at, by)));
}

fn check(case: &str, bytes: &[u8]) -> bool {
    match parse(bytes) {
        Ok(header) => {
            sound(&header, bytes.len());
            true
        }
        Err(error) => {
            refused(case, Err::<(), _>(error), &["m.gguf"]);
            false
        }
    }
}

#[test]
fn numbers_in_a_file_do_not_decide_how_much_memory_is_taken() {
    let before = peak_mib();
    for count in [1u64 << 31, 1 << 33, 1 << 40, 1 << 60, u64::MAX] {
        let claim = |parts: &[&[u8]]| [&parts.concat()[..], &[0; 40]].concat();
        let number = &count.to_le_bytes()[..];
        let mut files = vec![
            claim(&[&head(3, count, 0)]),
            claim(&[&head(3, 0, count)]),
            claim(&[&head(3, 0, 1), number]),
            claim(&[&head(3, 1, 0), number]),
            claim(&[&head(3, 0, 1), &key("k", 8, number)]),
            claim(&[&head(3, 0, 1), &array("k", 8, 1, number)]),
            claim(&[&head(3, 0, 1), &array("k", 9, 1, &[&[0; 4], number].concat())]),
        ];
        files.extend((0..=12).map(|kind| claim(&[&head(3, 0, 1), &array("k", kind, count, &[])])));
        for (i, bytes) in files.iter().enumerate() {
            assert!(bytes.len() <= 110);
            refused(&format!("{count} in file {i}"), parse(bytes), &["m.gguf", "truncated", &count.to_string()]);
        }
        // a large file may hold it, but its header may not
        let large = claim(&[&head(3, 0, 1), &array("k", 0, count, &[])]);
        let error = read_header("m.gguf".as_ref(), &large[..], u64::MAX);
        refused(
            "a large file",
            error,
            &["m.gguf", if count < u64::MAX { "at most 268435456 bytes" } else { "truncated" }],
        );
    }
    const { assert!(MAX_HEADER_BYTES == 268_435_456) };
    assert!(peak_mib() - before < 1024, "memory grew by {} MiB", peak_mib() - before);
}

/// Random damage to whole files; `rounds` is how much of it.
fn damage(seed: u64, mut more: impl FnMut(usize) -> bool) -> (usize, usize) {
    let wholes =
        [small(), std::fs::read(fixture("model.gguf")).unwrap(), std::fs::read(fixture("types.gguf")).unwrap()];
    let mut random = Random(seed);
    let (mut rounds, mut valid) = (0, 0);
    while more(rounds) {
        let mut bytes = wholes[random.below(3)].clone();
        // the header is where the numbers are
        let header = bytes.len().min(2000);
        for _ in 0..=random.below(4) {
            let range = [24, header, bytes.len()][random.below(3)].min(bytes.len());
            let at = random.below(range);
            match random.below(7) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes[at] = random.below(14) as u8,
                3 => bytes.insert(at, random.next() as u8),
                4 => drop(bytes.remove(at)),
                5 => {
                    let number = (random.next() >> random.below(64)).to_le_bytes();
                    let end = bytes.len().min(at + 8);
                    bytes[at..end].copy_from_slice(&number[..end - at]);
                }
                _ => bytes.truncate(at.max(1)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        valid += usize::from(check(&format!("round {rounds}"), &bytes));
        rounds += 1;
    }
    (rounds, valid)
}

#[test]
fn random_damage_never_panics() {
    let before = peak_mib();
    let (rounds, valid) = damage(20_240_607, |round| round < 6000);
    assert!(valid > rounds / 50, "only {valid} rounds left a valid file: the damage is too coarse to test anything");
    assert!(peak_mib() - before < 1024, "memory grew by {} MiB", peak_mib() - before);
}

/// The same for as long as `THALWEG_SECONDS` says, from another seed each time.
#[test]
#[ignore = "takes five minutes"]
fn random_damage_never_panics_for_minutes() {
    let seconds = std::env::var("THALWEG_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(300);
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let start = std::time::Instant::now();
    let (rounds, valid) = damage(seed, |_| start.elapsed().as_secs() < seconds);
    println!("{rounds} rounds, of which {valid} left a valid file");
}
