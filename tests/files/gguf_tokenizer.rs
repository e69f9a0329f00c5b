//! The tokenizers of GGUF files, against what Hugging Face's make of the same tokens
//! (tests/fixtures/make_gguf_tokenizers.py).

use std::path::{Path, PathBuf};

use serde_json::Value;
use thalweg::files::{Gguf, Tokenizer, gguf_chat_templates, gguf_eos_ids};
use thalweg::{Error, Result, TextStream};

use crate::gguf::{array, file, key, string, u32_key};
use crate::{Random, folder, peak_mib, put, refused};

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
    assert!(tokenizers.len() >= 22 && texts.len() >= 60);
    let wrong: Vec<String> = tokenizers.iter().flat_map(|(name, rows)| compare(name, &texts, rows)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

type Keys = Vec<(&'static str, Vec<u8>)>;

fn text(name: &'static str, value: &str) -> (&'static str, Vec<u8>) {
    (name, key(name, 8, &string(value)))
}

fn strings(name: &'static str, list: &[impl AsRef<[u8]>]) -> (&'static str, Vec<u8>) {
    (name, array(name, 8, list.len() as u64, &list.iter().map(string).collect::<Vec<_>>().concat()))
}

fn numbers(name: &'static str, list: &[i32]) -> (&'static str, Vec<u8>) {
    (name, array(name, 5, list.len() as u64, &list.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>()))
}

fn floats(name: &'static str, list: &[f32]) -> (&'static str, Vec<u8>) {
    (name, array(name, 6, list.len() as u64, &list.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>()))
}

fn id(name: &'static str, value: u32) -> (&'static str, Vec<u8>) {
    (name, u32_key(name, value))
}

fn flag(name: &'static str, value: bool) -> (&'static str, Vec<u8>) {
    (name, key(name, 7, &[value.into()]))
}

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
const MERGES: &str = "tokenizer.ggml.merges";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const UNK: &str = "tokenizer.ggml.unknown_token_id";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

fn gpt2() -> Keys {
    let tokens = strings(TOKENS, &["a", "b", "ab", "<|e|>"]);
    vec![text(MODEL, "gpt2"), text(PRE, "gpt-2"), tokens, numbers(TYPES, &[1, 1, 1, 3]), strings(MERGES, &["a b"])]
}

fn llama() -> Keys {
    let tokens = strings(TOKENS, &["<unk>", "<s>", "</s>", "ab", "\u{2581}ab", "a", "b", "\u{2581}"]);
    let scores = floats(SCORES, &[0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -4.0, -5.0]);
    vec![text(MODEL, "llama"), tokens, scores, numbers(TYPES, &[2, 3, 3, 1, 1, 1, 1, 1])]
}

fn t5() -> Keys {
    let mut keys = llama();
    keys[0] = text(MODEL, "t5");
    keys.push(id(UNK, 0));
    keys
}

fn bert() -> Keys {
    let tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u{2581}a", "b", "\u{2581}\u{2581}", "\u{2581}"];
    vec![text(MODEL, "bert"), strings(TOKENS, &tokens), numbers(TYPES, &[3, 3, 3, 3, 1, 1, 1, 1])]
}

/// These keys, with others in the place of those of their names or behind them.
fn with(mut keys: Keys, others: &[(&'static str, Vec<u8>)]) -> Keys {
    for (name, value) in others {
        keys.retain(|(other, _)| other != name);
        keys.push((name, value.clone()));
    }
    keys
}

fn without(mut keys: Keys, name: &str) -> Keys {
    keys.retain(|(other, _)| *other != name);
    keys
}

fn gguf(keys: &Keys) -> Gguf {
    let keys: Vec<Vec<u8>> = keys.iter().map(|(_, value)| value.clone()).collect();
    let dir = folder(&[("m.gguf", &file(&keys, &[], 0))]);
    Gguf::open(&dir.path().join("m.gguf")).unwrap()
}

fn from_keys(keys: &Keys) -> Result<Option<Tokenizer>> {
    Tokenizer::from_gguf(&gguf(keys))
}

fn plain(keys: &Keys, text: &str) -> Vec<u32> {
    from_keys(keys).unwrap().unwrap().encode(text, 1 << 20, true).unwrap().ids
}

#[test]
fn damaged_tokenizers_are_refused_by_key() {
    let bytes = |list: &[u8]| (CHARSMAP, array(CHARSMAP, 0, list.len() as u64, list));
    let cases: Vec<(&str, Keys, &[&str])> = vec![
        ("model is a number", with(gpt2(), &[id(MODEL, 3)]), &[MODEL, "expected a string"]),
        ("no tokens", without(gpt2(), TOKENS), &[TOKENS, "found nothing"]),
        ("tokens are text", with(gpt2(), &[text(TOKENS, "a")]), &[TOKENS, "a list of strings"]),
        ("tokens are numbers", with(gpt2(), &[numbers(TOKENS, &[1])]), &[TOKENS, "a list of strings"]),
        ("empty list", with(gpt2(), &[strings(TOKENS, &[""; 0])]), &[TOKENS, "found 0"]),
        ("not UTF-8", with(gpt2(), &[strings(TOKENS, &[&b"a"[..], b"\xff"])]), &[TOKENS, "index 1", "UTF-8"]),
        ("too few types", with(gpt2(), &[numbers(TYPES, &[1; 3])]), &[TYPES, "4 tokens", "found 3"]),
        ("too many types", with(gpt2(), &[numbers(TYPES, &[1; 5])]), &[TYPES, "4 tokens", "found 5"]),
        ("type 7", with(gpt2(), &[numbers(TYPES, &[1, 7, 1, 1])]), &[TYPES, "found 7 at index 1"]),
        ("type -1", with(gpt2(), &[numbers(TYPES, &[-1, 1, 1, 1])]), &[TYPES, "found -1 at index 0"]),
        ("types are text", with(gpt2(), &[strings(TYPES, &["1"])]), &[TYPES, "whole numbers"]),
        ("no merges", without(gpt2(), MERGES), &[MERGES, "found nothing"]),
        ("merge of one", with(gpt2(), &[strings(MERGES, &["ab"])]), &[MERGES, "index 0", "`ab`"]),
        ("merge of nothing", with(gpt2(), &[strings(MERGES, &[""])]), &[MERGES, "index 0"]),
        ("merge of a space", with(gpt2(), &[strings(MERGES, &["a b", " "])]), &[MERGES, "index 1"]),
        ("unknown half", with(gpt2(), &[strings(MERGES, &["a c"])]), &[MERGES, "index 0", "`c`"]),
        ("unknown whole", with(gpt2(), &[strings(MERGES, &["b a"])]), &[MERGES, "index 0", "`ba`"]),
        ("merge of three", with(gpt2(), &[strings(MERGES, &["a b a"])]), &[MERGES, "`b a`"]),
        ("merge not UTF-8", with(gpt2(), &[strings(MERGES, &[b"a \xc3"])]), &[MERGES, "index 0", "UTF-8"]),
        ("first token past the end", with(gpt2(), &[id(BOS, 4), flag(ADD_BOS, true)]), &[BOS, "4 tokens", "found 4"]),
        ("switch is a number", with(gpt2(), &[id(ADD_BOS, 1)]), &[ADD_BOS, "true or false"]),
        ("too few scores", with(llama(), &[floats(SCORES, &[0.0; 7])]), &[SCORES, "8 tokens", "found 7"]),
        ("NaN", with(llama(), &[floats(SCORES, &[f32::NAN; 8])]), &[SCORES, "finite", "NaN"]),
        ("infinity", with(t5(), &[floats(SCORES, &[f32::INFINITY; 8])]), &[SCORES, "finite", "inf"]),
        ("unknown token past the end", with(llama(), &[id(UNK, 8)]), &[UNK, "8 tokens", "found 8"]),
        ("id is text", with(llama(), &[text(BOS, "1")]), &[BOS, "whole number"]),
        ("no scores", without(t5(), SCORES), &[SCORES, "found nothing"]),
        ("map is text", with(t5(), &[text(CHARSMAP, "x")]), &[CHARSMAP, "list of bytes"]),
        ("map of one byte", with(t5(), &[bytes(&[0])]), &[CHARSMAP, "damaged", "1 bytes"]),
        ("map with an endless trie", with(t5(), &[bytes(&[255; 16])]), &[CHARSMAP, "damaged", "16 bytes"]),
        ("map without a trie", with(t5(), &[bytes(&[0; 16])]), &[CHARSMAP, "damaged"]),
        ("no [UNK]", with(bert(), &[strings(TOKENS, &["x"; 8])]), &[TOKENS, "[UNK]"]),
        ("no [CLS]", with(bert(), &[strings(TOKENS, &["[UNK]", "", "", "", "", "", "", ""])]), &[TOKENS, "[CLS]"]),
    ];
    for (case, keys, words) in cases {
        refused(case, from_keys(&keys), &[&["m.gguf"], words].concat());
    }
    for (key, value) in [(MODEL, "rwkv"), (PRE, "llama-9"), (PRE, "")] {
        let error = refused(value, from_keys(&with(gpt2(), &[text(key, value)])), &["m.gguf", key, value]);
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
}

#[test]
fn what_is_odd_but_clear_is_taken() {
    for model in ["none", "no_vocab"] {
        assert!(from_keys(&vec![text(MODEL, model)]).unwrap().is_none());
    }
    assert!(from_keys(&Vec::new()).unwrap().is_none());
    assert_eq!(plain(&without(gpt2(), PRE), "ab<|e|>a"), [2, 3, 0]);
    // of equal tokens the first counts, and the other has no text; nor have those that fill the table
    let tokens = strings(TOKENS, &["a", "b", "ab", "ab", "", "[PAD5]", "[PAD5]"]);
    let keys = with(gpt2(), &[tokens, numbers(TYPES, &[1, 1, 1, 3, 1, 5, 5])]);
    let tokenizer = from_keys(&keys).unwrap().unwrap();
    let texts: Vec<_> = (0..8).map(|id| tokenizer.token(id)).collect();
    let expected = [Some("a"), Some("b"), Some("ab"), None, None, None, Some("[PAD5]"), None];
    assert_eq!(texts, expected.map(|t| t.map(String::from)));
    assert_eq!(tokenizer.encode("ab", 9, true).unwrap().ids, [2]);
    assert_eq!((tokenizer.vocab_size(), tokenizer.max_id()), (4, 6));
    // no such token: -1, or what becomes of it without a sign
    assert_eq!(plain(&with(gpt2(), &[id(BOS, u32::MAX), flag(ADD_BOS, true)]), "a"), [0]);
    assert_eq!(plain(&with(gpt2(), &[(BOS, key(BOS, 5, &[255; 4])), flag(ADD_BOS, true)]), "a"), [0]);
    assert_eq!(plain(&with(gpt2(), &[id(BOS, 3), flag(ADD_BOS, true)]), "a"), [3, 0]);
    // without types, tokens with a role are control tokens
    let tokenizer = from_keys(&with(without(gpt2(), TYPES), &[id(EOS, 3)])).unwrap().unwrap();
    assert!(tokenizer.is_special(3) && !tokenizer.is_special(2));
}

#[test]
fn defaults_are_those_of_the_family() {
    assert_eq!(plain(&llama(), "ab"), [1, 4]);
    assert_eq!(plain(&llama(), "ab</s> ab"), [1, 4, 2, 7, 4]);
    assert_eq!(plain(&with(llama(), &[flag(ADD_BOS, false)]), "ab"), [4]);
    assert_eq!(plain(&with(llama(), &[flag("tokenizer.ggml.add_eos_token", true)]), "ab"), [1, 4, 2]);
    let bare = with(llama(), &[flag("tokenizer.ggml.add_space_prefix", false)]);
    assert_eq!(plain(&bare, "ab ab"), [1, 3, 4]);
    // the order of ids stands for scores
    assert_eq!(plain(&without(llama(), SCORES), "ab"), [1, 4]);
    assert_eq!(plain(&with(llama(), &[floats(SCORES, &[-1000.0; 8])]), "ab"), [1, 4]);
    assert_eq!(plain(&t5(), "ab"), [4, 1]);
    assert_eq!(plain(&bert(), "ab c"), [2, 4, 5, 1, 3]);
    let tokenizer = from_keys(&bert()).unwrap().unwrap();
    let texts: Vec<_> = (4..8).map(|id| tokenizer.token(id).unwrap()).collect();
    assert_eq!(texts, ["a", "##b", "\u{2581}", "##\u{2581}"]);
    // no upper case among the tokens: texts are lower-cased, unless the file says so
    assert_eq!(plain(&bert(), "AB"), [2, 4, 5, 3]);
    assert_eq!(plain(&with(bert(), &[flag("tokenizer.ggml.normalizer.lowercase", false)]), "AB"), [2, 1, 3]);
    let phi = with(llama(), &[text("general.name", "Phi-3 mini")]);
    assert_eq!(plain(&phi, "</s> ab<s> ab"), [1, 2, 4, 1, 7, 4]);
}

#[test]
fn ends_and_templates_are_found() {
    let ends = |name: &str| {
        let gguf = Gguf::open(&fixture(&format!("{name}.gguf"))).unwrap();
        let tokenizer = open(name);
        gguf_eos_ids(&gguf).unwrap().iter().map(|&id| tokenizer.token(id).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ends("qwen2"), ["<|im_end|>", "<|endoftext|>"]);
    assert_eq!(ends("llama-bpe"), ["<|eot_id|>", "<|end_of_text|>"]);
    assert_eq!(ends("gpt-4o"), ["<|end|>", "<|endoftext|>", "<|return|>", "<|call|>"], "the file names <|end|>");
    assert_eq!(ends("gemma"), ["<eos>", "<end_of_turn>"], "</s> is HTML there");
    assert_eq!(ends("llama2"), ["</s>"]);
    let tokens = strings(TOKENS, &["<|return|>", "<|call|>", "<|end|>", "<|im_end|>"]);
    let of = |types: &[i32]| gguf_eos_ids(&gguf(&with(gpt2(), &[tokens.clone(), numbers(TYPES, types)])));
    assert_eq!(of(&[3, 3, 3, 4]).unwrap(), [0, 1, 3]);
    assert_eq!(of(&[1, 3, 3, 1]).unwrap(), [1, 2], "normal tokens are text");
    assert!(gguf_eos_ids(&gguf(&Vec::new())).unwrap().is_empty());
    refused("past the end", gguf_eos_ids(&gguf(&with(gpt2(), &[id(EOS, 9)]))), &["m.gguf", EOS, "found 9"]);

    let qwen = Gguf::open(&fixture("qwen2.gguf")).unwrap();
    let expected = [("default", "{{ messages }}"), ("tool_use", "{{ tools }}")];
    assert_eq!(gguf_chat_templates(&qwen).unwrap(), expected);
    assert!(gguf_chat_templates(&gguf(&gpt2())).unwrap().is_empty());
    let template = "tokenizer.chat_template";
    let damaged = gguf(&vec![(template, key(template, 8, &string(b"\xff")))]);
    refused("template", gguf_chat_templates(&damaged), &["m.gguf", template, "UTF-8"]);
}

/// Neither long tokens nor many merges take more than a moment, or more memory than a few times the file.
#[test]
fn sizes_are_bounded() {
    let before = peak_mib();
    let long: Vec<String> = (0..16).map(|i| "a".repeat((1 << 20) - i)).collect();
    let types = vec![1; 19];
    let mut tokens = vec!["<unk>", "<s>", "</s>"];
    tokens.extend(long.iter().map(String::as_str));
    let keys = with(without(llama(), SCORES), &[strings(TOKENS, &tokens), numbers(TYPES, &types)]);
    let tokenizer = from_keys(&keys).unwrap().unwrap();
    assert_eq!(tokenizer.vocab_size(), 19);
    let many = vec!["a".repeat(1 << 20); 17];
    refused(
        "too much text",
        from_keys(&with(gpt2(), &[strings(TOKENS, &many)])),
        &["m.gguf", TOKENS, "16777216 bytes"],
    );
    let cuttable: Vec<String> = (0..5000).map(|i| format!("{i:0>512}")).collect();
    let keys = with(without(without(llama(), SCORES), TYPES), &[strings(TOKENS, &cuttable)]);
    refused("too long", from_keys(&keys), &["m.gguf", TOKENS, "too long"]);
    let empty = vec![""; (1 << 21) + 1];
    refused("too many", from_keys(&with(gpt2(), &[strings(TOKENS, &empty)])), &["m.gguf", TOKENS, "2097153"]);
    assert!(peak_mib() - before < 4 << 10, "{before} {}", peak_mib());
}

#[test]
fn random_damage_never_panics() {
    let dir = folder(&[]);
    let path = dir.path().join("m.gguf");
    let mut random = Random(77);
    let mut taken = 0;
    for name in ["gpt-2", "llama2", "gemma4", "xlmr", "bert_cased"] {
        let whole = std::fs::read(fixture(&format!("{name}.gguf"))).unwrap();
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            put(dir.path(), "m.gguf", &bytes);
            let Ok(gguf) = Gguf::open(&path) else { continue };
            let _ = (gguf_eos_ids(&gguf), gguf_chat_templates(&gguf));
            let Ok(Some(tokenizer)) = Tokenizer::from_gguf(&gguf) else { continue };
            taken += 1;
            for text in ["", " The river\n\n1234 <s>é", "\u{2581}\0 [MASK]\u{301}"] {
                if let Ok(encoded) = tokenizer.encode(text, 64, true) {
                    let _ = tokenizer.decode(&encoded.ids, false);
                }
            }
        }
    }
    assert!(taken > 10, "{taken}");
}
