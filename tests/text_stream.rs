//! Ids as text, one after another: the same text as all at once, whole characters only, and nothing behind a stop string.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thalweg::Error;
use thalweg::decode::TextStream;
use thalweg::files::{Checkpoint, Tokenizer};

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

const NONE: [&str; 0] = [];

/// The pieces, the last one at the end; what came out before is checked to be whole.
fn pieces(tokenizer: &Tokenizer, ids: &[u32], stops: &[&str]) -> (Vec<String>, bool) {
    let mut stream = TextStream::new(tokenizer, stops).unwrap();
    let mut pieces: Vec<_> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.finish().unwrap());
    (pieces, stream.stopped())
}

fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    pieces(tokenizer, ids, &[]).0.concat()
}

#[track_caller]
fn check(tokenizer: &Tokenizer, ids: &[u32]) {
    let (pieces, stopped) = pieces(tokenizer, ids, &[]);
    assert!(!stopped);
    assert_eq!(pieces.concat(), tokenizer.decode(ids, true).unwrap(), "{ids:?}");
}

fn fixtures() -> Vec<(PathBuf, Tokenizer)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders");
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().map(|path| (path.clone(), Tokenizer::open(&path).unwrap())).collect()
}

#[test]
fn greedy_texts_of_all_fixtures() {
    let mut tested = 0;
    for (path, tokenizer) in fixtures() {
        let expected = Checkpoint::open_file(&path.join("expected.safetensors")).unwrap();
        let Some(text) = expected.metadata().get("greedy_text") else { continue };
        let info = expected.get("greedy").unwrap();
        let mut bytes = vec![0; info.bytes as usize];
        expected.read(info, 0, &mut bytes).unwrap();
        let ids: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        assert_eq!(streamed(&tokenizer, &ids), *text, "{}", path.display());
        // whole words come out at once, not at the end
        let (pieces, _) = pieces(&tokenizer, &ids, &[]);
        for (i, id) in ids.iter().enumerate() {
            let alone = tokenizer.decode(&[*id], true).unwrap();
            if !alone.contains('\u{fffd}') {
                assert!(pieces[i].ends_with(&alone), "{}: {id} at {i}", path.display());
            }
        }
        tested += 1;
    }
    assert!(tested >= 20);
}

/// A SentencePiece-like tokenizer with bytes: words with `▁` for the space before them, `<s>` and one token that is U+FFFD.
fn sentence_piece(decoder: Value) -> Tokenizer {
    let words = ["<s>", "▁", "▁▁", "▁the", "▁river", "s", "▁c'est", "été", "川", "\u{fffd}", "a▁b", ".", "▁<0x", "\n"];
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens = words.iter().map(|w| w.to_string()).chain(bytes);
    let vocab: serde_json::Map<String, Value> = tokens.enumerate().map(|(i, t)| (t, i.into())).collect();
    let json = json!({
        "version": "1.0",
        "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": decoder,
        "model": {"type": "BPE", "dropout": null, "unk_token": "<s>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    Tokenizer::open(dir.path()).unwrap()
}

fn llama() -> Tokenizer {
    sentence_piece(json!({"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}))
}

fn id_of(tokenizer: &Tokenizer, byte: u8) -> u32 {
    tokenizer.token_id(&format!("<0x{byte:02X}>")).unwrap()
}

#[test]
fn random_ids_give_the_same_text_as_all_at_once() {
    let metaspace = |scheme: &str| {
        sentence_piece(json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": true}))
    };
    let word_piece = sentence_piece(json!({"type": "WordPiece", "prefix": "##", "cleanup": true}));
    let mut tokenizers = vec![llama(), metaspace("first"), metaspace("never"), word_piece];
    tokenizers.extend(fixtures().into_iter().map(|(_, tokenizer)| tokenizer).take(5));
    let mut random = Random(9);
    for tokenizer in &tokenizers {
        let most = tokenizer.max_id() as usize;
        for round in 0..400 {
            // some ids beyond the vocabulary; in every other round few bytes, so that words stand beside each other
            let range = if round % 2 == 0 { most + 3 } else { 20.min(most) };
            let ids: Vec<u32> = (0..random.below(60)).map(|_| random.below(range) as u32).collect();
            check(tokenizer, &ids);
        }
    }
}

#[test]
fn characters_of_many_bytes_come_out_whole() {
    let texts = ["naïve 川 river…", "👩‍👩‍👧‍👦 and 🏔", "日本語", "e\u{301}", "\u{fffd} is itself \u{fffd}", "a\u{10ffff}é"];
    let mut random = Random(4);
    for (_, byte_level) in fixtures() {
        let byte_level = &byte_level;
        for text in texts {
            let ids = byte_level.encode(text, 4096, false).unwrap().ids;
            if byte_level.decode(&ids, true).unwrap() != text {
                continue; // a vocabulary without all bytes
            }
            check(byte_level, &ids);
            let (pieces, _) = pieces(byte_level, &ids, &[]);
            let own = text.contains('\u{fffd}');
            assert!(own || pieces.iter().all(|piece| !piece.contains('\u{fffd}')), "{pieces:?}");
            // cut anywhere, also inside of a character
            for _ in 0..20 {
                let (from, to) = (random.below(ids.len()), random.below(ids.len() + 1));
                check(byte_level, &ids[from.min(to)..to]);
            }
        }
    }
    // a run of byte tokens is read as a whole: one wrong byte and all of them are U+FFFD
    let llama = llama();
    let bytes = |text: &[u8]| -> Vec<u32> { text.iter().map(|byte| id_of(&llama, *byte)).collect() };
    let the = llama.token_id("▁the").unwrap();
    for (run, text) in [("川é".as_bytes(), "川é"), (b"\xe5\xb7\x9d\xff", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}")] {
        let ids = [&[the], &bytes(run)[..], &[0], &[the]].concat();
        let (pieces, _) = pieces(&llama, &ids, &[]);
        assert_eq!(pieces.concat(), format!("the{text} the"));
        assert_eq!(pieces[0], "the");
        check(&llama, &ids[..ids.len() - 1]);
        check(&llama, &ids[..3]);
    }
}

#[test]
fn the_first_space_is_stripped_and_later_ones_kept() {
    let llama = llama();
    let id = |token: &str| llama.token_id(token).unwrap();
    let ids = [id("▁the"), id("▁river"), id("s"), id("▁"), id("▁▁"), id("▁the"), id(".")];
    let (pieces, _) = pieces(&llama, &ids, &[]);
    assert_eq!(pieces, ["the", " river", "s", " ", "  ", " the", ".", ""]);
    assert_eq!(streamed(&llama, &[0, id("▁"), 0, id("▁the"), 0]), " the");
}

#[test]
fn long_texts_cost_the_same_for_each_token() {
    let (_, byte_level) = fixtures().into_iter().find(|(path, _)| path.ends_with("gpt2_odd")).unwrap();
    let continuation = (0..=byte_level.max_id())
        .find(|id| byte_level.token(*id).is_some_and(|token| token == "\u{122}"))
        .expect("a byte that begins no character");
    let lead = (0..=byte_level.max_id()).find(|id| byte_level.token(*id).is_some_and(|t| t == "å")).unwrap();
    let llama = llama();
    // if any of these were decoded from its start each time, this would take hours
    for (tokenizer, id) in [(&byte_level, continuation), (&byte_level, lead), (&llama, id_of(&llama, 0x80))] {
        let ids = vec![id; 30_000];
        assert_eq!(streamed(tokenizer, &ids), "\u{fffd}".repeat(30_000));
    }
    let words: Vec<u32> = (0..30_000).map(|i| i % (byte_level.max_id() - 1)).collect();
    check(&byte_level, &words);
}

/// Feeds a text letter by letter, in pieces of random lengths.
fn stopped_at(text: &str, stops: &[&str]) -> (String, bool) {
    let (_, tokenizer) = fixtures().into_iter().find(|(path, _)| path.ends_with("gpt2_odd")).unwrap();
    let letters: Vec<u32> =
        text.chars().flat_map(|c| tokenizer.encode(&c.to_string(), 16, false).unwrap().ids).collect();
    let (one, stopped) = pieces(&tokenizer, &letters, stops);
    // the same text as other tokens
    let other = tokenizer.encode(text, 4096, false).unwrap().ids;
    let (two, stopped_too) = pieces(&tokenizer, &other, stops);
    assert_eq!((one.concat(), stopped), (two.concat(), stopped_too), "{text} {stops:?}");
    (one.concat(), stopped)
}

#[test]
fn stop_strings() {
    let text = "the river carries the water";
    for (stops, expected) in [
        (&["x"][..], None),
        (&["carries"], Some("the river ")),
        (&["r c"], Some("the rive")),
        (&["water"], Some("the river carries the ")),
        (&["waters"], None),
        (&["the"], Some("")),
        (&["er"], Some("the riv")),
        // the first that is complete, and of those that are complete together the longest
        (&["carries the", "arr"], Some("the river c")),
        (&["arr", "carr"], Some("the river ")),
        (&["river carries the waterfall", "rries"], Some("the river ca")),
        (&["zz", "water", "the w"], Some("the river carries ")),
        (&["rr", "r", "ri"], Some("the ")),
        (&["er", "er "], Some("the riv")),
    ] {
        let (text, expected) = (stopped_at(text, stops), (expected.unwrap_or(text).to_string(), expected.is_some()));
        assert_eq!(text, expected, "{stops:?}");
    }
    // overlapping with itself, of many bytes, and what only looked like one at the end
    assert_eq!(stopped_at("aaab", &["aab"]), ("a".into(), true));
    assert_eq!(stopped_at("ababac", &["abac"]), ("ab".into(), true));
    assert_eq!(stopped_at("x川川y", &["川y"]), ("x川".into(), true));
    assert_eq!(stopped_at("x川", &["川y", "川z"]), ("x川".into(), false));
    assert_eq!(stopped_at("\n\nUser", &["\n\nUser:"]), ("\n\nUser".into(), false));
}

#[test]
fn text_is_held_back_only_while_it_may_begin_a_stop_string() {
    let (_, tokenizer) = fixtures().into_iter().find(|(path, _)| path.ends_with("gpt2_odd")).unwrap();
    let mut stream = TextStream::new(&tokenizer, &["END.", "\n\n"]).unwrap();
    let mut push = |letter: &str| {
        let ids = tokenizer.encode(letter, 4, false).unwrap().ids;
        ids.iter().map(|id| stream.push(*id).unwrap()).collect::<String>()
    };
    let out: Vec<_> = ["a", "E", "N", "E", "N", "D", "!", "\n", "b", "E", "N", "D", "."].map(&mut push).into();
    assert_eq!(out, ["a", "", "", "EN", "", "", "END!", "", "\nb", "", "", "", ""]);
    assert_eq!(push("more"), "");
    assert!(stream.stopped());
    assert_eq!(stream.finish().unwrap(), "");
    // a stop string that is complete only at the end: half a character is U+FFFD then
    let lead = tokenizer.encode("川", 4, false).unwrap().ids[0];
    assert_eq!(pieces(&tokenizer, &[lead], &["\u{fffd}"]), (vec![String::new(), String::new()], true));
    assert_eq!(pieces(&tokenizer, &[lead], &["\u{fffd}\u{fffd}"]), (vec!["".into(), "\u{fffd}".into()], false));
    // a stream of its own tokenizer, as sessions hold it
    let shared = std::sync::Arc::new(llama());
    assert_eq!(TextStream::new(shared.clone(), &NONE).unwrap().push(3).unwrap(), "the");
    let empty = TextStream::new(shared, &["a", ""]);
    assert!(matches!(empty, Err(Error::Input(message)) if message.contains("stop string")));
}
