//! Tokenizers against ids from Hugging Face.
//!
//! The expected ids were made once with transformers 5.23 and tokenizers 0.23.3 in Python, from folders with exactly
//! the files below: `AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=…).input_ids`.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use thalweg::Error;
use thalweg::files::Tokenizer;

use crate::{Random, folder, put, refused};

const WORDS: &str = "[PAD] [UNK] [CLS] [SEP] [MASK] the quick brown fox jump ##s ##ed over lazy dog cafe café na ##ive \
                     ##ly ! , . 中 国 un ##want ##able The ##ü";
pub const TEXTS: [&str; 6] = [
    "",
    "The quick brown fox jumps over the lazy dog.",
    "Café unwanted [SEP] 中国 naïvely!",
    "the\u{a0}quick\tfox\u{200b} \u{fffd} zzz",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx fox",
    "THE [MASK] DOG [mask]",
];

fn vocab_txt() -> String {
    WORDS.split_whitespace().map(|word| format!("{word}\n")).collect()
}

/// A folder whose config.json says `model`, with a tokenizer_config.json and these files.
pub fn model(model: &str, settings: Value, files: &[(&str, String)]) -> TempDir {
    let dir = folder(&[]);
    put(dir.path(), "config.json", json!({"model_type": model}).to_string());
    if !settings.is_null() {
        put(dir.path(), "tokenizer_config.json", settings.to_string());
    }
    for (name, text) in files {
        put(dir.path(), name, text);
    }
    dir
}

fn bert(settings: Value) -> Tokenizer {
    Tokenizer::open(model("bert", settings, &[("vocab.txt", vocab_txt())]).path()).unwrap()
}

fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let encoded = tokenizer.encode(text, 512, true).unwrap();
    assert_eq!(encoded.untruncated, encoded.ids.len());
    assert_eq!(encoded.type_ids, vec![0; encoded.ids.len()]);
    encoded.ids
}

fn cut(tokenizer: &Tokenizer, max_tokens: usize, special: bool) -> (Vec<u32>, usize) {
    let encoded = tokenizer.encode(TEXTS[1], max_tokens, special).unwrap();
    (encoded.ids, encoded.untruncated)
}

#[test]
fn bert_from_vocab_txt() {
    let t = bert(json!({"tokenizer_class": "BertTokenizer", "model_max_length": 512}));
    let expected: [&[u32]; 6] = [
        &[2, 3],
        &[2, 5, 6, 7, 8, 9, 10, 12, 5, 13, 14, 22, 3],
        &[2, 15, 25, 26, 11, 3, 23, 24, 17, 18, 19, 20, 3],
        &[2, 5, 6, 8, 1, 3],
        &[2, 1, 8, 3],
        &[2, 5, 4, 14, 1, 1, 1, 3],
    ];
    for (text, expected) in TEXTS.iter().zip(expected) {
        assert_eq!(ids(&t, text), expected, "{text}");
    }
    assert_eq!(cut(&t, 6, true), (vec![2, 5, 6, 7, 8, 3], 13));
    assert_eq!(cut(&t, 2, true), (vec![2, 3], 13));
    assert_eq!(cut(&t, 3, false), (vec![5, 6, 7], 11));
    assert_eq!(cut(&t, 0, false), (vec![], 11));
    assert_eq!(cut(&t, 13, true).0.len(), 13);
    let error = refused("no room", t.encode("the", 1, true), &["at most 1 tokens", "2 special"]);
    assert!(matches!(error, Error::Input(_)));
    assert_eq!((t.vocab_size(), t.max_id(), t.special_tokens(), t.model_max_length()), (30, 29, 2, Some(512)));
    assert_eq!(
        (t.token(8).as_deref(), t.token(30), t.token_id("fox"), t.token_id("wolf")),
        (Some("fox"), None, Some(8), None)
    );
    assert!(t.is_special(3) && !t.is_special(8) && !t.is_special(99));
}

#[test]
fn bert_settings() {
    let t = bert(json!({"tokenizer_class": "BertTokenizer", "do_lower_case": false, "tokenize_chinese_chars": false}));
    assert_eq!(ids(&t, TEXTS[1]), [2, 28, 6, 7, 8, 9, 10, 12, 5, 13, 14, 22, 3]);
    assert_eq!(ids(&t, TEXTS[2]), [2, 1, 25, 26, 11, 3, 1, 1, 20, 3]);
    assert_eq!(t.model_max_length(), None);
    let t = bert(json!({"tokenizer_class": "BertTokenizerFast", "strip_accents": false, "truncation_side": "left",
                        "model_max_length": 1000000000000000019884624838656u128 as f64}));
    assert_eq!(ids(&t, TEXTS[2]), [2, 16, 25, 26, 11, 3, 23, 24, 1, 20, 3]);
    assert_eq!(cut(&t, 6, true), (vec![2, 5, 13, 14, 22, 3], 13));
    assert_eq!(cut(&t, 3, false), (vec![13, 14, 22], 11));
    assert_eq!(t.model_max_length(), None);
    // sentence-transformers' own do_lower_case goes before the tokenizer's normalisation
    let mut t = bert(json!({"do_lower_case": false}));
    assert_eq!(ids(&t, "The THE Café"), [2, 28, 1, 1, 3]);
    t.lower_case().unwrap();
    t.lower_case().unwrap();
    assert_eq!(ids(&t, "The THE Café"), [2, 5, 5, 16, 3]);
    // the classifier's token by another name, in either file, as text or as an object
    let words = vocab_txt().replace("[CLS]", "<c>").replace("[SEP]", "<e>");
    let dir = model("bert", json!({"cls_token": {"content": "<c>"}}), &[("vocab.txt", words)]);
    put(dir.path(), "special_tokens_map.json", json!({"sep_token": "<e>", "cls_token": "[UNK]"}).to_string());
    assert_eq!(ids(&Tokenizer::open(dir.path()).unwrap(), "the"), [2, 5, 3]);
}

#[test]
fn mpnet_from_vocab_txt() {
    let mut words = vec!["<s>", "<pad>", "</s>", "<unk>"];
    words.extend(WORDS.split_whitespace().skip(5));
    words.extend(["[UNK]", "<mask>"]);
    let dir = model("mpnet", json!({"tokenizer_class": "MPNetTokenizer"}), &[("vocab.txt", words.join("\r\n"))]);
    let t = Tokenizer::open(dir.path()).unwrap();
    let expected: [&[u32]; 6] = [
        &[0, 2],
        &[0, 4, 5, 6, 7, 8, 9, 11, 4, 12, 13, 21, 2],
        &[0, 14, 24, 25, 10, 29, 29, 29, 22, 23, 16, 17, 18, 19, 2],
        &[0, 4, 5, 7, 29, 2],
        &[0, 29, 7, 2],
        &[0, 4, 29, 29, 29, 13, 29, 29, 29, 2],
    ];
    for (text, expected) in TEXTS.iter().zip(expected) {
        assert_eq!(ids(&t, text), expected, "{text}");
    }
    assert_eq!(cut(&t, 6, true), (vec![0, 4, 5, 6, 7, 2], 13));
}

/// Byte-level BPE with every byte, and a few merges.
pub fn byte_level_files(before: &[&str], after: &[&str]) -> Vec<(&'static str, String)> {
    // GPT-2's table: printable bytes stand for themselves, the others for U+0100 and on, sorted
    let printable = |b: &u32| (33..=126).contains(b) || (161..=172).contains(b) || (174..=255).contains(b);
    let others = (0..256).filter(|b| !printable(b)).count() as u32;
    let letters = (0..256).filter(printable).chain(256..256 + others).filter_map(char::from_u32).map(String::from);
    let merges = ["t h", "th e", "Ġ the", "q u", "i c", "ic k", "qu ick", "Ġ quick", "f o", "fo x", "Ġ fox", "Ã ©"];
    let merged = merges.iter().map(|m| m.replace(' ', ""));
    let special = |tokens: &[&str]| tokens.iter().map(|t| t.to_string()).collect::<Vec<_>>();
    let tokens = special(before).into_iter().chain(letters).chain(merged).chain(special(after));
    let vocab: serde_json::Map<String, Value> = tokens.enumerate().map(|(i, t)| (t, i.into())).collect();
    assert_eq!(vocab.len(), 268 + before.len() + after.len());
    vec![
        ("vocab.json", Value::Object(vocab).to_string()),
        ("merges.txt", format!("#version: 0.2\n{}\n", merges.join("\n"))),
    ]
}

fn roberta_files() -> Vec<(&'static str, String)> {
    byte_level_files(&["<s>", "<pad>", "</s>", "<unk>", "<mask>"], &[])
}

#[test]
fn roberta_from_vocab_json() {
    let open = |settings| Tokenizer::open(model("roberta", settings, &roberta_files()).path()).unwrap();
    let t = open(json!({"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}));
    let expected: [&[u32]; 4] = [
        &[0, 2],
        &[
            0, 56, 76, 73, 268, 225, 70, 86, 83, 91, 82, 271, 225, 78, 89, 81, 84, 87, 225, 83, 90, 73, 86, 263, 225,
            80, 69, 94, 93, 225, 72, 83, 75, 18, 2,
        ],
        &[
            0, 39, 69, 74, 272, 225, 89, 82, 91, 69, 82, 88, 73, 72, 225, 63, 55, 41, 52, 65, 225, 165, 121, 260, 166,
            254, 126, 225, 82, 69, 132, 112, 90, 73, 80, 93, 5, 2,
        ],
        &[0, 262, 131, 259, 267, 202, 270, 163, 227, 238, 225, 176, 128, 126, 225, 94, 94, 94, 2],
    ];
    for (text, expected) in TEXTS.iter().zip(expected) {
        assert_eq!(ids(&t, text), expected, "{text}");
    }
    assert_eq!(cut(&t, 6, true).0, [0, 56, 76, 73, 268, 2]);
    assert_eq!(cut(&t, 3, false).0, [56, 76, 73]);
    assert_eq!((t.vocab_size(), t.max_id(), t.model_max_length()), (273, 272, Some(512)));
    let t = open(json!({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": true}));
    assert_eq!(
        ids(&t, TEXTS[3]),
        [0, 263, 131, 259, 267, 202, 270, 163, 227, 238, 225, 176, 128, 126, 225, 94, 94, 94, 2]
    );
    assert_eq!(cut(&t, 6, true).0, [0, 225, 56, 76, 73, 2]);
    assert_eq!(cut(&t, 3, false).0, [225, 56, 76]);
}

/// The same vocabulary as a tokenizer.json, cased.
fn tokenizer_json() -> Value {
    let vocab: serde_json::Map<String, Value> =
        WORDS.split_whitespace().enumerate().map(|(i, word)| (word.into(), i.into())).collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": false},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

fn from_json(json: &Value, settings: Value) -> thalweg::Result<Tokenizer> {
    Tokenizer::open(model("bert", settings, &[("tokenizer.json", json.to_string())]).path())
}

#[test]
fn the_settings_win_over_tokenizer_json_where_the_class_says_so() {
    let lower = |settings| ids(&from_json(&tokenizer_json(), settings).unwrap(), "The")[1] == 5;
    // as transformers: the classes rebuild the normaliser from their own arguments, the generic one does not
    assert!(lower(Value::Null));
    assert!(lower(json!({"tokenizer_class": "BertTokenizer"})));
    assert!(lower(json!({"tokenizer_class": "DistilBertTokenizerFast", "do_lower_case": true})));
    assert!(!lower(json!({"tokenizer_class": "BertTokenizerFast", "do_lower_case": false})));
    assert!(!lower(json!({"tokenizer_class": "PreTrainedTokenizerFast"})));
}

#[test]
fn padding_and_truncation_of_the_file_are_dropped() {
    let mut json = tokenizer_json();
    let plain = from_json(&json, Value::Null).unwrap();
    let padding = |fixed: u64, multiple: u64| {
        json!({"strategy": {"Fixed": fixed}, "direction": "Right", "pad_to_multiple_of": multiple, "pad_id": 0,
               "pad_type_id": 0, "pad_token": "[PAD]"})
    };
    for length in [8, 1 << 16] {
        json["padding"] = padding(length, 1 << 10);
        for cut_to in [0, 1, 4] {
            json["truncation"] =
                json!({"max_length": cut_to, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
            let t = from_json(&json, Value::Null).unwrap();
            assert_eq!(TEXTS.map(|text| ids(&t, text)), TEXTS.map(|text| ids(&plain, text)));
        }
    }
    json["truncation"] = json!({"max_length": 3, "strategy": "LongestFirst", "stride": 9, "direction": "Left"});
    let t = from_json(&json, Value::Null).unwrap();
    assert_eq!(cut(&t, 4, true).0, [2, 14, 22, 3], "the side is kept");
    // padding without bound is no setting but damage
    for (fixed, multiple) in [(1 << 17, 8), (1 << 60, 8), (8, 1 << 50), (u64::MAX, 1)] {
        json["padding"] = padding(fixed, multiple);
        refused("padding", from_json(&json, Value::Null), &["tokenizer.json", "padding"]);
    }
}

#[test]
fn damaged_tokenizers_are_refused_by_name() {
    let with = |path: &[&str], value: Value| {
        let mut json = tokenizer_json();
        let mut at = &mut json;
        for key in path {
            at = &mut at[*key];
        }
        *at = value;
        json.to_string()
    };
    let template = |single: Value| {
        json!({"type": "TemplateProcessing", "single": single, "pair": single,
               "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": vec![2; 65], "tokens": vec!["[CLS]"; 65]}}})
    };
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let cls = json!({"SpecialToken": {"id": "[CLS]", "type_id": 0}});
    let cases: Vec<(&str, String, &str)> = vec![
        ("empty", String::new(), "loading failed"),
        ("no model", "{}".into(), "loading failed"),
        ("cut off", tokenizer_json().to_string()[..500].into(), "loading failed"),
        ("byte order mark", format!("\u{feff}{}", tokenizer_json()), "byte order mark"),
        ("nested without end", "[".repeat(1 << 20), "loading failed"),
        ("unknown model", with(&["model", "type"], "Nope".into()), "loading failed"),
        ("negative id", with(&["model", "vocab", "fox"], (-1).into()), "loading failed"),
        ("id beyond 32 bits", with(&["model", "vocab", "fox"], (1u64 << 32).into()), "loading failed"),
        ("no vocabulary", with(&["model", "vocab"], json!({})), "vocabulary"),
        (
            "bad regex",
            with(
                &["pre_tokenizer"],
                json!({"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": false}),
            ),
            "loading failed",
        ),
        ("endless specials", with(&["post_processor"], template(json!([cls, text]))), "at most 64 special tokens"),
        ("text twice", with(&["post_processor"], template(json!([text, text]))), "tokenizer.json"),
    ];
    for (case, json, word) in cases {
        let dir = model("bert", Value::Null, &[("tokenizer.json", json)]);
        // a post-processor that repeats the text shows only with a text
        let result = Tokenizer::open(dir.path()).and_then(|t| t.encode("the fox", 9, true));
        refused(case, result, &["tokenizer.json", word]);
    }
    let bpe = json!({"type": "BPE", "dropout": 0.5, "vocab": {"a": 0}, "merges": []});
    let random = from_json(&serde_json::from_str(&with(&["model"], bpe)).unwrap(), Value::Null);
    refused("dropout", random, &["tokenizer.json", "unsupported", "dropout"]);
    // ids past the vocabulary show up in max_id
    let t = from_json(
        &serde_json::from_str(&with(&["model", "vocab", "fox"], 4_000_000_000u32.into())).unwrap(),
        Value::Null,
    );
    assert_eq!(t.unwrap().max_id(), 4_000_000_000);
    let past = json!({"type": "BertProcessing", "sep": ["[SEP]", 77], "cls": ["[CLS]", 2]});
    assert_eq!(
        from_json(&serde_json::from_str(&with(&["post_processor"], past)).unwrap(), Value::Null).unwrap().max_id(),
        77
    );
    // a word that is not known, and no token for it
    let unknown = serde_json::from_str(&with(&["model", "unk_token"], "[NOPE]".into())).unwrap();
    let t = from_json(&unknown, Value::Null).unwrap();
    refused("no unknown token", t.encode("zzz", 9, true), &["tokenizer.json", "encoding a text failed"]);
    ids(&t, "the fox");
}

#[test]
fn damaged_vocabularies_are_refused_by_name() {
    let roberta = |name: &str, text: &str| {
        let mut files = roberta_files();
        files.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, t)| *t = text.into());
        Tokenizer::open(model("roberta", Value::Null, &files).path())
    };
    refused("no JSON", roberta("vocab.json", "{"), &["vocab.json", "not valid JSON"]);
    refused("no id", roberta("vocab.json", r#"{"<s>":"0"}"#), &["vocab.json", "`<s>`", "`0`"]);
    refused("huge id", roberta("vocab.json", r#"{"<s>":4294967296}"#), &["vocab.json", "`<s>`", "4294967296"]);
    refused("no special tokens", roberta("vocab.json", r#"{"a":0}"#), &["vocab.json", "`<s>`"]);
    refused("merge of one", roberta("merges.txt", "#version\nth\n"), &["merges.txt", "line 2", "`th`"]);
    refused("merge of three", roberta("merges.txt", "t h e\n"), &["merges.txt", "line 1", "`t h e`"]);
    refused("unknown merge", roberta("merges.txt", "q q\n"), &["vocab.json", "loading failed"]);
    let bert = |text: &[u8]| {
        let dir = model("bert", Value::Null, &[]);
        put(dir.path(), "vocab.txt", text);
        Tokenizer::open(dir.path())
    };
    refused("no words", bert(b""), &["vocab.txt", "`[UNK]`"]);
    refused("no [CLS]", bert(b"[UNK]\n[SEP]"), &["vocab.txt", "`[CLS]`"]);
    refused("not UTF-8", bert(b"[UNK]\n\xff"), &["vocab.txt", "not UTF-8"]);
    let open = |dir: &Path| Tokenizer::open(dir);
    refused("nothing", open(model("bert", Value::Null, &[]).path()), &["tokenizer.json", "vocab.txt", "merges.txt"]);
    let sentence_piece = model("xlm-roberta", Value::Null, &[("sentencepiece.bpe.model", "x".into())]);
    refused("SentencePiece", open(sentence_piece.path()), &["sentencepiece.bpe.model", "unsupported"]);
    let other = model("bert", json!({"tokenizer_class": "BertJapaneseTokenizer"}), &[("vocab.txt", vocab_txt())]);
    refused("other class", open(other.path()), &["unsupported", "`BertJapaneseTokenizer`"]);
    for (settings, word) in [
        (json!({"truncation_side": "middle"}), "`truncation_side`"),
        (json!({"model_max_length": -1}), "`model_max_length`"),
        (json!({"do_lower_case": "yes"}), "`do_lower_case`"),
        (json!({"tokenizer_class": 3}), "`tokenizer_class`"),
        (json!({"cls_token": {"text": "x"}}), "`cls_token.content`"),
    ] {
        let dir = model("bert", settings, &[("vocab.txt", vocab_txt())]);
        refused(word, open(dir.path()), &["tokenizer_config.json", word]);
    }
}

#[test]
fn random_damage_never_panics() {
    let whole = tokenizer_json().to_string();
    let mut random = Random(99);
    let dir = model("bert", Value::Null, &[]);
    let bits = b"0123456789-,[]{}\":eE. \0null";
    for _ in 0..1500 {
        let mut bytes = whole.clone().into_bytes();
        for _ in 0..=random.below(2) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = bits[random.below(bits.len())],
                1 => bytes.insert(at, bits[random.below(bits.len())]),
                2 => drop(bytes.remove(at)),
                _ => bytes[at] = random.next() as u8,
            }
        }
        put(dir.path(), "tokenizer.json", bytes);
        if let Ok(tokenizer) = Tokenizer::open(dir.path()) {
            for text in TEXTS {
                if let Ok(encoded) = tokenizer.encode(text, 16, true) {
                    assert!(encoded.ids.len() <= 16 && encoded.type_ids.len() == encoded.ids.len());
                }
            }
        }
    }
}

/// Long texts take time and memory in proportion: no space at all, only spaces, only accents, only special tokens.
#[test]
fn long_texts_are_encoded() {
    let roberta = Tokenizer::open(model("roberta", Value::Null, &roberta_files()).path()).unwrap();
    let bert = bert(Value::Null);
    for unit in ["a", " ", "\n", "the quick brown fox, ", "the", "\u{301}", "中", "[SEP]"] {
        let text = unit.repeat((1 << 17) / unit.len());
        for tokenizer in [&bert, &roberta] {
            let encoded = tokenizer.encode(&text, 256, true).unwrap();
            assert_eq!(encoded.ids.len(), encoded.untruncated.min(256));
        }
    }
    let text = "the ".repeat(1 << 18);
    assert_eq!(bert.encode(&text, 256, true).unwrap().untruncated, (1 << 18) + 2, "a megabyte");
}
