//! Which of llama.cpp's tokenizers a tokenizer.json is: recognised by its JSON, and refused where it is none of them.

use serde_json::Value;

/// A tokenizer of llama.cpp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BPE on bytes, after a pre-tokenizer of that name.
    ByteLevel(&'static str),
    /// BPE on characters with ▁ for spaces, as SentencePiece does; whether a text gets a space in front.
    SentencePiece {
        /// Whether it does.
        space_prefix: bool,
    },
    /// BERT's.
    WordPiece {
        /// Whether texts are lower-cased.
        lowercase: bool,
        /// Whether accents are removed.
        strip_accents: bool,
    },
}

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Regular expressions of pre-tokenizers, with their names and whether merges are ignored for words of the vocabulary.
const REGEXES: [(&str, &str, bool); 4] = [
    (GPT_2, "gpt-2", false),
    (
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
            r"\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "llama-bpe",
        true,
    ),
    (
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|",
            r"\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "qwen2",
        false,
    ),
    (
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        ),
        "gpt-4o",
        false,
    ),
];

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("")
}

fn is(value: &Value, key: &str, expected: bool) -> bool {
    value[key].as_bool() == Some(expected)
}

/// What the parts of a sequence are, or the one part.
fn parts<'a>(value: &'a Value, key: &str) -> Vec<&'a Value> {
    match &value[key] {
        Value::Array(list) if kind(value) == "Sequence" => list.iter().collect(),
        _ if value.is_null() => Vec::new(),
        _ => vec![value],
    }
}

/// The tokenizer that a tokenizer.json describes, or what about it is not known.
pub fn recognise(json: &Value) -> Result<Kind, String> {
    let model = &json["model"];
    let normalizers = parts(&json["normalizer"], "normalizers");
    let pre_tokenizers = parts(&json["pre_tokenizer"], "pretokenizers");
    match kind(model) {
        "WordPiece" => word_piece(model, &normalizers, &pre_tokenizers),
        "BPE" if is(model, "byte_fallback", true) => sentence_piece(&normalizers, &pre_tokenizers),
        "BPE" => byte_level(model, &normalizers, &pre_tokenizers),
        other => Err(format!("the model {other:?}")),
    }
}

fn byte_level(model: &Value, normalizers: &[&Value], pre_tokenizers: &[&Value]) -> Result<Kind, String> {
    for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[affix].as_str().is_some_and(|affix| !affix.is_empty()) {
            return Err(format!("BPE with a {affix}"));
        }
    }
    let bytes = |value: &Value, regex| {
        kind(value) == "ByteLevel"
            && is(value, "add_prefix_space", false)
            && value["use_regex"].as_bool().unwrap_or(true) == regex
    };
    let (name, ignores) = match pre_tokenizers {
        [last] if bytes(last, true) => ("gpt-2", false),
        [digits, last] if kind(digits) == "Digits" && is(digits, "individual_digits", true) && bytes(last, true) => {
            ("smollm", false)
        }
        [split, last]
            if kind(split) == "Split"
                && split["behavior"] == "Isolated"
                && split["invert"].as_bool() != Some(true)
                && bytes(last, false) =>
        {
            let regex = split["pattern"]["Regex"].as_str().unwrap_or("");
            let known = REGEXES.iter().find(|(known, ..)| *known == regex);
            known.map(|(_, name, ignores)| (*name, *ignores)).ok_or("a pre-tokenizer with an unknown expression")?
        }
        _ => return Err("an unknown pre-tokenizer".into()),
    };
    if model["ignore_merges"].as_bool().unwrap_or(false) != ignores {
        return Err(format!("ignore_merges other than {ignores} with the pre-tokenizer {name}"));
    }
    match normalizers {
        [] => Ok(Kind::ByteLevel(name)),
        // readers leave it out, which no text in today's usual form shows
        [nfc] if kind(nfc) == "NFC" && name == "qwen2" => Ok(Kind::ByteLevel(name)),
        _ => Err(format!("a normalizer with the pre-tokenizer {name}")),
    }
}

fn sentence_piece(normalizers: &[&Value], pre_tokenizers: &[&Value]) -> Result<Kind, String> {
    let prepends = |value: &Value| kind(value) == "Prepend" && value["prepend"] == "▁";
    let replaces =
        |value: &Value| kind(value) == "Replace" && value["pattern"]["String"] == " " && value["content"] == "▁";
    // where all spaces have been replaced, a split at spaces does nothing
    let idle = |value: &Value| kind(value) == "Split" && value["pattern"]["String"] == " ";
    let space_prefix = match (normalizers, pre_tokenizers) {
        ([prepend, replace], []) if prepends(prepend) && replaces(replace) => true,
        ([replace], []) if replaces(replace) => false,
        ([replace], [split]) if replaces(replace) && idle(split) => false,
        ([], [metaspace])
            if kind(metaspace) == "Metaspace"
                && metaspace["replacement"] == "▁"
                && metaspace["split"].as_bool() == Some(false) =>
        {
            match metaspace["prepend_scheme"].as_str() {
                Some("first" | "always") => true,
                Some("never") => false,
                _ => return Err("a Metaspace pre-tokenizer without a known prepend_scheme".into()),
            }
        }
        _ => return Err("BPE with byte fallback and an unknown normalizer or pre-tokenizer".into()),
    };
    Ok(Kind::SentencePiece { space_prefix })
}

fn word_piece(model: &Value, normalizers: &[&Value], pre_tokenizers: &[&Value]) -> Result<Kind, String> {
    let (&[normalizer], &[pre]) = (normalizers, pre_tokenizers) else {
        return Err("WordPiece with an unknown normalizer or pre-tokenizer".into());
    };
    if kind(normalizer) != "BertNormalizer" || kind(pre) != "BertPreTokenizer" {
        return Err("WordPiece with an unknown normalizer or pre-tokenizer".into());
    }
    if model["continuing_subword_prefix"].as_str() != Some("##") {
        return Err("WordPiece with a prefix other than ##".into());
    }
    for key in ["clean_text", "handle_chinese_chars"] {
        if is(normalizer, key, false) {
            return Err(format!("WordPiece without {key}"));
        }
    }
    let lowercase = normalizer["lowercase"].as_bool().unwrap_or(true);
    Ok(Kind::WordPiece { lowercase, strip_accents: normalizer["strip_accents"].as_bool().unwrap_or(lowercase) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bpe(pre_tokenizer: Value, normalizer: Value, fallback: bool, ignore_merges: bool) -> Result<Kind, String> {
        let model = json!({"type": "BPE", "byte_fallback": fallback, "ignore_merges": ignore_merges});
        recognise(&json!({"model": model, "normalizer": normalizer, "pre_tokenizer": pre_tokenizer}))
    }

    fn split(regex: &str) -> Value {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}]})
    }

    #[test]
    fn byte_level_pre_tokenizers() {
        let byte = |prefix: bool| json!({"type": "ByteLevel", "add_prefix_space": prefix, "use_regex": true});
        assert_eq!(bpe(byte(false), Value::Null, false, false), Ok(Kind::ByteLevel("gpt-2")));
        assert!(bpe(byte(true), Value::Null, false, false).is_err());
        for (regex, name, ignores) in REGEXES {
            assert_eq!(bpe(split(regex), Value::Null, false, ignores), Ok(Kind::ByteLevel(name)));
            assert!(bpe(split(regex), Value::Null, false, !ignores).is_err(), "{name}");
            let nfc = bpe(split(regex), json!({"type": "NFC"}), false, ignores);
            assert_eq!(nfc.is_ok(), name == "qwen2", "{name}");
        }
        assert!(bpe(split(r"\p{N}{1,2}"), Value::Null, false, false).unwrap_err().contains("expression"));
        let digits = |individual: bool| {
            json!({"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": individual}, byte(false)]})
        };
        assert_eq!(bpe(digits(true), Value::Null, false, false), Ok(Kind::ByteLevel("smollm")));
        assert!(bpe(digits(false), Value::Null, false, false).is_err());
    }

    fn metaspace(scheme: &str, split: bool) -> Value {
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split})
    }

    #[test]
    fn sentence_pieces_forms() {
        let replace = || json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let both = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace()]});
        let piece = |space_prefix| Ok(Kind::SentencePiece { space_prefix });
        assert_eq!(bpe(Value::Null, both, true, false), piece(true));
        assert_eq!(bpe(Value::Null, replace(), true, false), piece(false));
        let idle =
            json!({"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": false});
        assert_eq!(bpe(idle, replace(), true, false), piece(false));
        assert_eq!(bpe(metaspace("first", false), Value::Null, true, false), piece(true));
        assert_eq!(bpe(metaspace("never", false), Value::Null, true, false), piece(false));
        assert!(bpe(metaspace("first", true), Value::Null, true, false).is_err());
        assert!(bpe(Value::Null, Value::Null, true, false).is_err());
    }

    #[test]
    fn other_models_are_refused() {
        let unigram = recognise(&json!({"model": {"type": "Unigram"}}));
        assert_eq!(unigram, Err("the model \"Unigram\"".into()));
        assert!(recognise(&json!({})).is_err());
    }
}
