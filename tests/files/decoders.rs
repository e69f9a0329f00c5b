//! What the folders of decoders say beside their weights: tokenizers, and the ids that end a text.

use std::path::{Path, PathBuf};

use serde_json::json;
use thalweg::files::{Checkpoint, Config, Tokenizer, eos_ids};

use crate::tokenizer::{TEXTS, byte_level_files, model};
use crate::{folder, put, refused};

/// The folders of `tests/fixtures/decoders`, with their expected tensors.
pub fn fixtures() -> Vec<(PathBuf, Checkpoint)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    let open = |path: PathBuf| {
        let expected = Checkpoint::open_file(&path.join("expected.safetensors")).unwrap();
        (path, expected)
    };
    let folders: Vec<_> = folders.into_iter().map(open).collect();
    assert!(folders.len() >= 21);
    folders
}

pub fn ids(expected: &Checkpoint, name: &str) -> Vec<u32> {
    let info = expected.get(name).unwrap_or_else(|| panic!("no {name}"));
    let mut bytes = vec![0; info.bytes as usize];
    expected.read(info, 0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn prompts_of_all_folders_become_their_ids() {
    for (path, expected) in fixtures() {
        let tokenizer = Tokenizer::open(&path).unwrap();
        let metadata = expected.metadata();
        let text = |key: &str| metadata.get(key).map(String::as_str);
        let encode = |text: &str| tokenizer.encode(text, 4096, true).unwrap().ids;
        let mut tested = 0;
        for (key, name) in [("prompt", "ids"), ("long_prompt", "long.ids")] {
            if let Some(prompt) = text(key) {
                let expected = ids(&expected, name);
                assert_eq!(encode(prompt), expected, "{key} of {}", path.display());
                // what the special tokens enclose comes back
                assert_eq!(tokenizer.decode(&expected, true).unwrap(), prompt, "{}", path.display());
                tested += 1;
            }
        }
        if let Some(texts) = text("texts") {
            for (i, text) in serde_json::from_str::<Vec<String>>(texts).unwrap().iter().enumerate() {
                let all = ids(&expected, &format!("text.{i}.ids"));
                assert_eq!(tokenizer.encode(text, all.len(), true).unwrap().ids, all, "{text}");
                tested += 1;
            }
        }
        assert!(tested > 0, "{}", path.display());
        if let Some(text) = text("greedy_text") {
            assert_eq!(tokenizer.decode(&ids(&expected, "greedy"), true).unwrap(), text, "{}", path.display());
        }
    }
}

/// The expected ids are those of transformers 5.23's `AutoTokenizer` on folders with the same files.
#[test]
fn gpt2_from_vocab_json() {
    let open = |settings| {
        let files = byte_level_files(&[], &["<|endoftext|>"]);
        Tokenizer::open(model("gpt2", settings, &files).path()).unwrap()
    };
    let texts = [TEXTS[0], TEXTS[1], TEXTS[2], TEXTS[3], "the<|endoftext|> fox", "  the  fox "];
    let expected: [&[u32]; 6] = [
        &[],
        &[
            51, 71, 68, 263, 220, 65, 81, 78, 86, 77, 266, 220, 73, 84, 76, 79, 82, 220, 78, 85, 68, 81, 258, 220, 75,
            64, 89, 88, 220, 67, 78, 70, 13,
        ],
        &[
            34, 64, 69, 267, 220, 84, 77, 86, 64, 77, 83, 68, 67, 220, 58, 50, 36, 47, 60, 220, 160, 116, 255, 161,
            249, 121, 220, 77, 64, 127, 107, 85, 68, 75, 88, 0,
        ],
        &[257, 126, 254, 262, 197, 265, 158, 222, 233, 220, 171, 123, 121, 220, 89, 89, 89],
        &[257, 268, 266],
        &[220, 258, 220, 266, 220],
    ];
    for settings in [json!({"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}), json!(null)] {
        let t = open(settings);
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(t.encode(text, 512, true).unwrap().ids, expected, "{text}");
            assert_eq!(t.decode(expected, false).unwrap(), *text);
        }
        assert_eq!((t.vocab_size(), t.max_id(), t.special_tokens()), (269, 268, 0));
        assert!(t.is_special(268) && !t.is_special(267));
        assert_eq!(t.decode(expected[4], true).unwrap(), "the fox");
    }
    let t = open(json!({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": true}));
    assert_eq!(t.encode(texts[4], 512, true).unwrap().ids, [258, 268, 266]);
    let t = open(json!({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true}));
    assert_eq!(t.encode(texts[4], 512, true).unwrap().ids, [268, 257, 268, 266]);
    assert_eq!(t.encode(texts[4], 512, false).unwrap().ids, [257, 268, 266]);
    assert_eq!((t.encode("", 1, true).unwrap().ids, t.special_tokens()), (vec![268], 1));
    // a first token that is not there is asked for
    let dir = model("gpt2", json!({"add_bos_token": true}), &byte_level_files(&[], &[]));
    refused("no first token", Tokenizer::open(dir.path()), &["vocab.json", "`<|endoftext|>`"]);
}

#[test]
fn what_cannot_be_decoded_is_left_out_or_refused() {
    let (path, _) = fixtures().into_iter().find(|(path, _)| path.ends_with("neox_parallel")).unwrap();
    let tokenizer = Tokenizer::open(&path).unwrap();
    let ids = tokenizer.encode("the river", 64, true).unwrap().ids;
    let beyond = [&[u32::MAX], &ids[..], &[tokenizer.max_id() + 1]].concat();
    assert_eq!(tokenizer.decode(&beyond, true).unwrap(), "the river");
    assert_eq!(tokenizer.decode(&[], true).unwrap(), "");
    // a decoder that cuts more letters off than there are makes the tokenizers crate panic
    let json = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 3},
        "model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "b"},
    });
    let dir = folder(&[("tokenizer.json", json.to_string().as_bytes())]);
    let tokenizer = Tokenizer::open(dir.path()).unwrap();
    refused("too short", tokenizer.decode(&[0], true), &["tokenizer.json", "decoding ids failed"]);
}

#[test]
fn the_ids_that_end_a_text() {
    const NO_IDS: [u32; 0] = [];
    let mut tested = 0;
    for (path, expected) in fixtures() {
        let Some(eos) = expected.metadata().get("eos") else { continue };
        let eos: Vec<u32> = serde_json::from_str(eos).unwrap();
        assert_eq!(eos_ids(&path, &Config::open(&path).unwrap()).unwrap(), eos, "{}", path.display());
        tested += 1;
    }
    assert!(tested >= 20);

    let read = |config: &str, generation: Option<&str>| {
        let dir = folder(&[("config.json", config.as_bytes())]);
        if let Some(text) = generation {
            put(dir.path(), "generation_config.json", text);
        }
        eos_ids(dir.path(), &Config::open(dir.path())?)
    };
    let config = r#"{"eos_token_id":7}"#;
    assert_eq!(read(config, None).unwrap(), [7]);
    assert_eq!(read(r#"{"eos_token_id":[7,0,7,3]}"#, None).unwrap(), [7, 0, 3]);
    assert_eq!(read("{}", None).unwrap(), NO_IDS);
    assert_eq!(read(r#"{"eos_token_id":null}"#, None).unwrap(), NO_IDS);
    // the other file replaces it, also where it says nothing
    assert_eq!(read(config, Some(r#"{"eos_token_id":[9,8]}"#)).unwrap(), [9, 8]);
    assert_eq!(read(config, Some("{}")).unwrap(), NO_IDS);
    assert_eq!(read(config, Some(r#"{"eos_token_id":null}"#)).unwrap(), NO_IDS);
    for wrong in ["\"</s>\"", "-1", "1.5", "[1,\"2\"]", "[[1]]", "{}", "true", "4294967296"] {
        let text = format!("{{\"eos_token_id\":{wrong}}}");
        let words = ["generation_config.json", "`eos_token_id`", "a token id"];
        refused(wrong, read(config, Some(&text)), &words);
        refused(wrong, read(&text, None), &["config.json", "`eos_token_id`", "a token id"]);
    }
    refused("damaged", read(config, Some("{")), &["generation_config.json"]);
    refused("no object", read(config, Some("[]")), &["generation_config.json"]);
}
