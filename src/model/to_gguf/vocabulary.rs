//! A Hugging Face tokenizer as llama.cpp's keys.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value as Json;

use super::keys::Keys;
use super::pre_tokenizer::{Kind, recognise};
use crate::error::{Error, Result};
use crate::files::gguf::{Array, Strings, Value};
use crate::files::{Config, Tokenizer, TokenizerFiles, eos_ids, read_text};

/// The largest chat template that is read, in bytes.
const MAX_TEMPLATE_BYTES: u64 = 4 << 20;

// kinds of tokens, by their numbers in a file
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A vocabulary as a file has it, by ids.
struct Vocabulary<'a> {
    files: &'a TokenizerFiles,
    ids: BTreeMap<&'a str, usize>,
    tokens: Vec<String>,
    types: Vec<i32>,
}

/// `tokenizer.…`: for a model with that many rows in its word table.
///
/// # Errors
/// [`Error::Unsupported`] for a tokenizer that llama.cpp does not have, [`Error::File`] for a damaged one and for
/// tokens beyond the word table.
pub fn vocabulary(dir: &Path, config: &Config, rows: usize, lower: bool) -> Result<Keys> {
    let files = TokenizerFiles::open(dir)?;
    let unknown = |what: String| {
        Error::unsupported(&files.path, format!("in a GGUF file, a tokenizer that llama.cpp does not have: {what}"))
    };
    let kind = match recognise(&files.json).map_err(unknown)? {
        Kind::WordPiece { strip_accents, .. } if lower => Kind::WordPiece { lowercase: true, strip_accents },
        _ if lower => return Err(unknown("lower-casing in front of it".into())),
        kind => kind,
    };
    let mut vocabulary = Vocabulary::read(&files, rows)?;
    let mut keys = Keys::new();
    let mut put = |key: &str, value: Value| keys.push((format!("tokenizer.ggml.{key}"), value));
    let string = |text: &str| Value::String(text.as_bytes().into());
    let mut scores = None;
    match kind {
        Kind::ByteLevel(pre) => {
            put("model", string("gpt2"));
            put("pre", string(pre));
            let merges = vocabulary.merges()?.into_iter().map(|(a, b)| format!("{a} {b}"));
            put("merges", Value::Array(Array::Strings(Strings::gather(merges)?)));
        }
        Kind::SentencePiece { space_prefix } => {
            put("model", string("llama"));
            put("pre", string("default"));
            put("add_space_prefix", Value::Bool(space_prefix));
            scores = Some(vocabulary.scores()?);
            if !vocabulary.find_bytes() {
                return Err(unknown("byte fallback without a token for each byte".into()));
            }
        }
        Kind::WordPiece { lowercase, strip_accents } => {
            put("model", string("bert"));
            put("pre", string("default"));
            put("normalizer.lowercase", Value::Bool(lowercase));
            put("normalizer.strip_accents", Value::Bool(strip_accents));
            vocabulary.phantom_spaces();
        }
    }
    let specials = vocabulary.specials(dir, config, kind)?;
    let Vocabulary { tokens, types, .. } = vocabulary;
    put("tokens", Value::Array(Array::Strings(Strings::gather(tokens)?)));
    if let Some(scores) = scores {
        put("scores", Value::Array(Array::F32(scores)));
    }
    put("token_type", Value::Array(Array::I32(types)));
    for (key, value) in specials {
        put(key, value);
    }
    if let Some(template) = chat_template(dir, &files.settings)? {
        keys.push(("tokenizer.chat_template".into(), string(&template)));
    }
    Ok(keys)
}

impl<'a> Vocabulary<'a> {
    fn read(files: &'a TokenizerFiles, rows: usize) -> Result<Self> {
        let damaged = |what: String| Error::file(&files.path, what);
        let model = &files.json["model"];
        let vocab = model["vocab"].as_object().ok_or_else(|| damaged("expected a vocabulary, found none".into()))?;
        let mut ids = BTreeMap::new();
        let mut tokens: Vec<String> = (0..rows).map(|i| format!("[PAD{i}]")).collect();
        let mut types = vec![UNUSED; rows];
        let place = |token: &str, id: &Json| -> Result<usize> {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            id.filter(|&id| id < rows).ok_or_else(|| {
                damaged(format!("token {token:?}: expected an id below {rows}, the rows of the word table"))
            })
        };
        let unknown = model["unk_token"].as_str();
        for (token, id) in vocab {
            let id = place(token, id)?;
            ids.insert(token.as_str(), id);
            tokens[id].clone_from(token);
            types[id] = if unknown == Some(token) { UNKNOWN } else { NORMAL };
        }
        for added in files.json["added_tokens"].as_array().into_iter().flatten() {
            let content = added["content"].as_str().ok_or_else(|| damaged("an added token without content".into()))?;
            let id = place(content, &added["id"])?;
            ids.insert(content, id);
            let special = added["special"].as_bool().unwrap_or(false) || looks_special(content);
            types[id] = if special { CONTROL } else { USER_DEFINED };
            tokens[id] = if special { content.into() } else { content.replace('▁', " ") };
        }
        Ok(Vocabulary { files, ids, tokens, types })
    }

    fn merges(&self) -> Result<Vec<(&'a str, &'a str)>> {
        let damaged = |i: usize| {
            let what = format!("merge {i}: expected two tokens without spaces");
            Error::file(&self.files.path, what)
        };
        let list = self.files.json["model"]["merges"].as_array().into_iter().flatten().enumerate();
        let pair = |(i, merge): (usize, &'a Json)| {
            let pair = match merge {
                Json::String(both) => both.split_once(' '),
                Json::Array(both) => match &both[..] {
                    [a, b] => a.as_str().zip(b.as_str()),
                    _ => None,
                },
                _ => None,
            };
            pair.filter(|(a, b)| !a.contains(' ') && !b.contains(' ')).ok_or_else(|| damaged(i))
        };
        list.map(pair).collect()
    }

    /// SentencePiece joins the pair whose token scores best, where merges have an order: a token's score is the place
    /// of the first merge that makes it, downwards. It joins any pair that makes a token, so that all of these must be
    /// merges.
    fn scores(&self) -> Result<Vec<f32>> {
        let merges = self.merges()?;
        // tokens that no merge makes come last
        let mut scores = vec![-(merges.len() as f32) - 1.0; self.tokens.len()];
        let mut made = vec![false; self.tokens.len()];
        for (rank, (a, b)) in merges.iter().enumerate() {
            let Some(&id) = self.ids.get(format!("{a}{b}").as_str()) else { continue };
            if !std::mem::replace(&mut made[id], true) {
                scores[id] = -(rank as f32);
            }
        }
        let known: HashSet<_> = merges.into_iter().collect();
        let plain = |token: &str| self.ids.get(token).is_some_and(|&id| self.types[id] == NORMAL);
        for (&token, _) in self.ids.iter().filter(|&(_, &id)| made[id] && self.types[id] == NORMAL) {
            let pairs = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            let mut missing = pairs.filter(|pair| !known.contains(pair) && plain(pair.0) && plain(pair.1));
            if let Some((a, b)) = missing.next() {
                let what = format!("in a GGUF file, BPE with byte fallback that does not join {a:?} and {b:?}");
                return Err(Error::unsupported(&self.files.path, what));
            }
        }
        Ok(scores)
    }

    /// Marks the tokens `<0x00>` to `<0xFF>`; whether all are there.
    fn find_bytes(&mut self) -> bool {
        (0..=255u8).all(|byte| {
            let id = self.ids.get(format!("<0x{byte:02X}>").as_str());
            id.is_some_and(|&id| {
                self.types[id] = BYTE;
                true
            })
        })
    }

    /// Where others mark what continues a word, llama.cpp marks what begins one.
    fn phantom_spaces(&mut self) {
        for (token, _) in self.tokens.iter_mut().zip(&self.types).filter(|(_, kind)| [NORMAL, UNUSED].contains(kind)) {
            *token = match token.strip_prefix("##") {
                Some(rest) => rest.into(),
                None => format!("▁{token}"),
            };
        }
    }

    /// The id of a special token by its role, such as `bos`: from the tokenizer's settings, else from the model's.
    fn special(&self, config: &Config, role: &str) -> Option<u32> {
        let key = format!("{role}_token");
        let content = [&self.files.settings, &self.files.specials].into_iter().find_map(|file| {
            let value = file.value(&key)?;
            value.as_str().or(value["content"].as_str())
        });
        let named = content.and_then(|content| self.ids.get(content).copied());
        let stated = || config.value(&format!("{key}_id"))?.as_u64().and_then(|id| usize::try_from(id).ok());
        named.or_else(stated).filter(|&id| id < self.tokens.len()).map(|id| id as u32)
    }

    /// The special tokens, and which of them a text gets.
    fn specials(&self, dir: &Path, config: &Config, kind: Kind) -> Result<Vec<(&'static str, Value)>> {
        let (first, last) = self.around(dir)?;
        let of = |role: &str| self.special(config, role);
        let ends = eos_ids(dir, config)?;
        let first_end = ends.first().copied();
        let bos = first.or_else(|| of("bos")).or_else(|| of("cls"));
        let eos = last.or_else(|| of("eos")).or(first_end).or_else(|| of("sep"));
        // a chat's turns end with another token than its texts
        let turn = ends.into_iter().find(|&id| Some(id) != eos && (id as usize) < self.tokens.len());
        let ids = [
            ("bos_token_id", bos),
            ("eos_token_id", eos),
            ("eot_token_id", turn),
            ("unknown_token_id", of("unk")),
            // the format's own spelling
            ("seperator_token_id", of("sep")),
            ("padding_token_id", of("pad")),
            ("mask_token_id", of("mask")),
        ];
        let mut keys: Vec<_> = ids.into_iter().filter_map(|(key, id)| Some((key, Value::U32(id?)))).collect();
        keys.push(("add_bos_token", Value::Bool(first.is_some())));
        keys.push(("add_eos_token", Value::Bool(last.is_some())));
        if matches!(kind, Kind::WordPiece { .. }) {
            keys.push(("add_sep_token", Value::Bool(last.is_some())));
        }
        Ok(keys)
    }

    /// The tokens that are put in front of a text and behind it.
    fn around(&self, dir: &Path) -> Result<(Option<u32>, Option<u32>)> {
        let tokenizer = Tokenizer::open(dir)?;
        let text = "a";
        let bare = tokenizer.encode(text, usize::MAX, false)?.ids;
        let all = tokenizer.encode(text, usize::MAX, true)?.ids;
        let more = all.len() - bare.len();
        for (first, last) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
            if first + last == more && all[first..all.len() - last] == bare[..] {
                let first = if first == 1 { all.first().copied() } else { None };
                let last = if last == 1 { all.last().copied() } else { None };
                return Ok((first, last));
            }
        }
        let what = format!("in a GGUF file, a tokenizer that puts {more} tokens around a text");
        Err(Error::unsupported(&self.files.path, what))
    }
}

/// Tokens that steer a model though their file does not call them special.
fn looks_special(token: &str) -> bool {
    let between = |first: &str, last: &str| token.starts_with(first) && token.ends_with(last);
    matches!(token, "<pad>" | "<mask>" | "<2mass>" | "[@BOS@]")
        || between("<|", "|>")
        || between("<｜", "｜>")
        || between("<unused", ">")
}

/// The chat template of a folder: a file of its own, or in the tokenizer's settings, where of several the default
/// counts.
fn chat_template(dir: &Path, settings: &Config) -> Result<Option<String>> {
    let path = dir.join("chat_template.jinja");
    if path.exists() {
        return read_text(&path, MAX_TEMPLATE_BYTES).map(Some);
    }
    Ok(match settings.value("chat_template") {
        Some(Json::String(template)) => Some(template.clone()),
        Some(Json::Array(list)) => {
            let default = list.iter().find(|template| template["name"] == "default");
            default.and_then(|template| template["template"].as_str()).map(String::from)
        }
        _ => None,
    })
}
