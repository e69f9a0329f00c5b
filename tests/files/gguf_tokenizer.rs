//! The tokenizers of GGUF files, against what Hugging Face's make of the same tokens
//! (tests/fixtures/make_gguf_tokenizers.py).

use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg::decode::TextStream;
use thalweg::files::{Gguf, Tokenizer, gguf_chat_templates, gguf_eos_ids};

use crate::gguf::{array, file, key, string, u32_key};
use crate::{Random, folder, put, refused};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf_tokenizers").join(name)
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("expected.json")).unwrap()).unwrap()
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::open(&fixture(&format!("{name}.gguf"))).unwrap()).unwrap().unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Compares one tokenizer with its expected ids and texts, and says what differs.
fn compare(name: &str, texts: &[&str], expected: &Value) -> Vec<String> {
    let tokenizer = open(name);
    let specials: String = expected["specials"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    let (first, last) = (ids(&expected["first"]), ids(&expected["last"]));
    assert_eq!(tokenizer.special_tokens(), first.len() + last.len(), "{name}");
    let special: Vec<u32> = (0..tokenizer.max_id() + 9).filter(|&id| tokenizer.is_special(id)).collect();
    assert_eq!(special, ids(&expected["special_ids"]), "{name}");
    let mut wrong = Vec::new();
    for (text, row) in texts.iter().zip(expected["texts"].as_array().unwrap()) {
        let text = &text.replace("SPECIALS", &specials);
        let plain = ids(&row["ids"]);
        let found = tokenizer.encode(text, 1 << 20, false).unwrap().ids;
        if found != plain {
            let show = |ids: &[u32]| ids.iter().map(|&id| tokenizer.token(id).unwrap_or_default()).collect::<Vec<_>>();
            wrong.push(format!("{name}: {text:?}: expected {:?}, found {:?}", show(&plain), show(&found)));
            continue;
        }
        let around = [&first[..], &plain, &last].concat();
        assert_eq!(tokenizer.encode(text, 1 << 20, true).unwrap().ids, around, "{name}: {text:?}");
        for (key, skip) in [("decoded", false), ("skipped", true)] {
            let decoded = tokenizer.decode(&plain, skip).unwrap();
            let expected = row.get(key).map_or(&text[..], |text| text.as_str().unwrap());
            if decoded != expected {
                wrong.push(format!("{name}: {text:?} {key}: expected {expected:?}, found {decoded:?}"));
            }
        }
        let mut stream = TextStream::new(&tokenizer, &[]).unwrap();
        let mut streamed: String = plain.iter().map(|&id| stream.push(id).unwrap()).collect();
        streamed.push_str(&stream.finish().unwrap());
        assert_eq!(streamed, tokenizer.decode(&plain, true).unwrap(), "{name}: {text:?}");
    }
    wrong
}

#[test]
fn ids_and_texts_are_those_of_hugging_face() {
    let expected = expected();
    let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let tokenizers = expected["tokenizers"].as_object().unwrap();
    assert!(tokenizers.len() >= 21 && texts.len() >= 60);
    let wrong: Vec<String> = tokenizers.iter().flat_map(|(name, rows)| compare(name, &texts, rows)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
