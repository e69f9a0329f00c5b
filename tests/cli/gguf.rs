//! GGUF files on the command line: they run as folders do, and damaged ones are exit 4 in one sentence.

use std::path::{Path, PathBuf};

use crate::{decoder, ints, model, run, thalweg};

fn gguf(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/gguf/models/{name}.gguf"))
}

#[test]
fn they_generate_and_are_tapped() {
    let path = gguf("llama_mha");
    let path = path.to_str().unwrap();
    let file = std::fs::read(Path::new(&decoder("llama_mha")).join("expected.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&file).unwrap();
    let ids: Vec<String> = ints(&file, "ids").iter().map(ToString::to_string).collect();
    let ids = ids.join(" ");
    let arguments = ["generate", "--model", path, "--ids", &ids, "--max-tokens", "64", "--temperature", "0"];
    let run_json = run(&[&arguments[..], &["--ignore-eos", "--json"]].concat()).ok();
    let greedy =
        run_json.json()[0]["ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap() as i32).collect::<Vec<_>>();
    assert_eq!(greedy, ints(&file, "greedy"));

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("stream.safetensors");
    let arguments = ["stream", "tap", "--model", path, "--ids", &ids, "--points", "resid_post", "--out"];
    let tapped = run(&[&arguments[..], &[out.to_str().unwrap()]].concat());
    assert!(tapped.code == 0 && tapped.stderr.contains("wrote") && out.exists(), "{}", tapped.stderr);

    // it has weights alone: text is refused, and ids are not
    let message = ["no tokenizer", "llama_mha.gguf"];
    run(&["generate", "--model", path, "--prompt", "the river", "--max-tokens", "2"]).fails(4, &message);
}

#[test]
fn encoders_embed_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bert.gguf");
    let path = path.to_str().unwrap();
    let folder = model("bert_odd");
    assert!(thalweg(&["quantize", "--model", &folder, "--to", "f32", path]).status().unwrap().success());
    let [from_file, from_folder] =
        [path, &folder].map(|m| run(&["embed", "--model", m, "two rivers meet"]).ok().stdout);
    assert_eq!(from_file, from_folder);
}

#[test]
fn damaged_ones_are_exit_4_in_one_sentence() {
    let whole = std::fs::read(gguf("llama_mha")).unwrap();
    let at = |name: &str| {
        let found = whole.windows(name.len()).position(|w| w == name.as_bytes());
        found.unwrap_or_else(|| panic!("no {name}")) + name.len()
    };
    let with = |at: usize, value: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        bytes
    };
    let first = at("blk.0.attn_k.weight");
    let cases: [(&str, Vec<u8>, &[&str]); 8] = [
        ("truncated", whole[..whole.len() / 2].to_vec(), &["tensor", "bytes"]),
        ("cut in its header", whole[..100].to_vec(), &["truncated"]),
        ("2^63 tensors", with(8, &(1u64 << 63).to_le_bytes()), &["tensors"]),
        ("2^63 keys", with(16, &(1u64 << 63).to_le_bytes()), &["keys"]),
        ("an offset past the end", with(first + 4 + 16 + 4, &(1u64 << 40).to_le_bytes()), &["blk.0.attn_k.weight"]),
        ("two tensors in one place", with(first + 4 + 16 + 4, &0u64.to_le_bytes()), &["overlaps"]),
        ("a number that is a string", with(at("llama.block_count"), &8u32.to_le_bytes()), &["llama.block_count"]),
        ("no GGUF at all", b"PK\x03\x04 and so on".to_vec(), &["GGUF"]),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (case, bytes, parts) in cases {
        let path = dir.path().join("damaged.gguf");
        std::fs::write(&path, bytes).unwrap();
        for command in [
            &["generate", "--ids", "1 2"][..],
            &["embed", "a text"],
            &["stream", "tap", "--ids", "1", "--points", "all", "--out", "x"],
        ] {
            let run = run(&[command, &["--model", path.to_str().unwrap()]].concat());
            assert!(!run.stderr.is_empty(), "{case}");
            run.fails(4, &[&["damaged.gguf"], parts].concat());
        }
    }
}
