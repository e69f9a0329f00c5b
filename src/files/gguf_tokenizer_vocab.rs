//! The tokens of a GGUF file, by id: their texts as Hugging Face's files have them, and their kinds.

use std::collections::HashMap;
use std::path::Path;

use super::gguf::{Gguf, Metadata};
use super::gguf_tokenizer::MODEL;
use super::quote;
use crate::{Error, Result};

pub(super) const TOKENS: &str = "tokenizer.ggml.tokens";
pub(super) const TYPES: &str = "tokenizer.ggml.token_type";
const SCORES: &str = "tokenizer.ggml.scores";
pub(super) const BOS: &str = "tokenizer.ggml.bos_token_id";
pub(super) const EOS: &str = "tokenizer.ggml.eos_token_id";
pub(super) const UNK: &str = "tokenizer.ggml.unknown_token_id";
pub(super) const SEP: &str = "tokenizer.ggml.seperator_token_id";
pub(super) const CLS: &str = "tokenizer.ggml.cls_token_id";
const PAD: &str = "tokenizer.ggml.padding_token_id";
const MASK: &str = "tokenizer.ggml.mask_token_id";

/// The most tokens of a vocabulary; the largest of today has an eighth of it.
pub(super) const MAX_TOKENS: usize = 1 << 21;
/// The most bytes that the tokens' texts have together; those of today have a quarter of it.
pub(super) const MAX_TEXT_BYTES: usize = 1 << 24;

/// The character that stands for a space in SentencePiece's tokens.
pub(super) const SPACE: char = '\u{2581}';

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The tokens of a file.
pub(super) struct Vocabulary<'a> {
    gguf: &'a Gguf,
    tokens: Vec<Option<String>>,
    kinds: Vec<Kind>,
    ids: HashMap<String, u32>,
}

impl<'a> Vocabulary<'a> {
    /// Reads tokens and kinds.
    pub fn read(gguf: &'a Gguf) -> Result<Self> {
        let meta = gguf.metadata();
        let strings = meta.strings(TOKENS)?;
        let count = strings.len();
        if count == 0 || count > MAX_TOKENS {
            return Err(meta.error(TOKENS, format!("expected 1 to {MAX_TOKENS} tokens, found {count}")));
        }
        let bytes: usize = strings.iter().map(<[u8]>::len).sum();
        if bytes > MAX_TEXT_BYTES {
            return Err(meta.error(TOKENS, format!("expected at most {MAX_TEXT_BYTES} bytes of text, found {bytes}")));
        }
        let mut found = Vocabulary { gguf, tokens: Vec::with_capacity(count), kinds: Vec::new(), ids: HashMap::new() };
        found.ids.reserve(count);
        let mut texts = Vec::with_capacity(count);
        for (id, bytes) in strings.iter().enumerate() {
            let text = std::str::from_utf8(bytes);
            texts.push(text.map_err(|_| meta.error(TOKENS, format!("the token at index {id} is not UTF-8 text")))?);
        }
        found.kinds = read_kinds(meta, &texts)?;
        let model = meta.str(MODEL)?;
        let mut twice = 0;
        for (id, text) in texts.into_iter().enumerate() {
            let text = restore(model, id, text, found.kinds[id]).filter(|text| !found.ids.contains_key(text));
            match &text {
                Some(text) => drop(found.ids.insert(text.clone(), id as u32)),
                None => twice += 1,
            }
            found.tokens.push(text);
        }
        log::debug!("{}: {twice} of {count} tokens are unused or given twice", gguf.path().display());
        Ok(found)
    }

    /// The file's keys and values.
    pub fn meta(&self) -> &'a Metadata {
        self.gguf.metadata()
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        self.gguf.path()
    }

    /// How many ids there are, with or without a text.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The text of an id.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize)?.as_deref()
    }

    /// The id of a text.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    /// Ids with a text, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        let tokens = self.tokens.iter().zip(&self.kinds).enumerate();
        tokens.filter_map(|(id, (text, kind))| Some((id as u32, text.as_deref()?, *kind)))
    }

    /// Calls the token at `id` by another name, which no token has.
    pub fn rename(&mut self, id: u32, text: &str) {
        if let Some(place) = self.tokens.get_mut(id as usize) {
            let old = place.replace(text.into());
            old.map(|old| self.ids.remove(&old));
            self.ids.insert(text.into(), id);
        }
    }

    /// The first token of a kind.
    pub fn first(&self, kind: Kind) -> Option<u32> {
        self.iter().find(|(_, _, k)| *k == kind).map(|(id, _, _)| id)
    }

    /// The id at `key`; `default` where the key is absent and there is such a token.
    pub fn special(&self, key: &str, default: Option<u32>) -> Result<Option<u32>> {
        let default = default.filter(|&id| (id as usize) < self.len());
        Ok(if self.meta().has(key) { special_id(self.meta(), key, self.len())? } else { default })
    }

    /// The scores; `None` where there are none.
    pub fn scores(&self) -> Result<Option<Vec<f32>>> {
        let scores = self.meta().opt_f32s(SCORES)?;
        scores.map(|scores| same_length(self.meta(), SCORES, scores, self.len())).transpose()
    }
}

/// The id at `key`, which must be below `count`; writers put -1 as 2^32-1 where there is none.
pub(super) fn special_id(meta: &Metadata, key: &str, count: usize) -> Result<Option<u32>> {
    // the writer's own type may be signed
    if meta.value(key).and_then(|v| v.as_integer()) == Some(-1) {
        return Ok(None);
    }
    match meta.opt_u32(key)? {
        None | Some(u32::MAX) => Ok(None),
        Some(id) if (id as usize) < count => Ok(Some(id)),
        Some(id) => Err(meta.error(key, format!("expected the id of one of {count} tokens, found {id}"))),
    }
}

fn same_length<T>(meta: &Metadata, key: &str, list: Vec<T>, count: usize) -> Result<Vec<T>> {
    if list.len() == count {
        return Ok(list);
    }
    Err(meta.error(key, format!("expected one for each of {count} tokens, found {}", list.len())))
}

/// What each token is for. Where nothing is said, the tokens with a role are control tokens.
fn read_kinds(meta: &Metadata, texts: &[&str]) -> Result<Vec<Kind>> {
    if let Some(types) = meta.opt_i32s(TYPES)? {
        let kind = |(i, &number): (usize, &i32)| match number {
            0 | 1 => Ok(Kind::Normal),
            2 => Ok(Kind::Unknown),
            3 => Ok(Kind::Control),
            4 => Ok(Kind::UserDefined),
            5 => Ok(Kind::Unused),
            6 => Ok(Kind::Byte),
            _ => Err(meta.error(TYPES, format!("expected types from 0 to 6, found {number} at index {i}"))),
        };
        return same_length(meta, TYPES, types, texts.len())?.iter().enumerate().map(kind).collect();
    }
    let kind = |text: &&str| if byte_of(text).is_some() { Kind::Byte } else { Kind::Normal };
    let mut kinds: Vec<Kind> = texts.iter().map(kind).collect();
    for key in [BOS, EOS, UNK, SEP, CLS, PAD, MASK] {
        if let Some(id) = special_id(meta, key, texts.len())? {
            kinds[id as usize] = Kind::Control;
        }
    }
    Ok(kinds)
}

/// The byte that `<0x0A>` stands for.
pub(super) fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// A token's text as it was before it was written into the file; `None` for what fills the ids without a token.
fn restore(model: &str, id: usize, text: &str, kind: Kind) -> Option<String> {
    let filler = format!("[PAD{id}]");
    let is_filler = |text: &str| matches!(kind, Kind::Unused | Kind::UserDefined) && text == filler;
    if text.is_empty() || is_filler(text) {
        return None;
    }
    match model {
        // what begins a word is marked there instead of what goes on with it
        "bert" if kind != Kind::Control => match text.strip_prefix(SPACE) {
            Some("") | None => Some(format!("##{text}")),
            Some(word) if is_filler(word) => None,
            Some(word) => Some(word.into()),
        },
        // added tokens are written with spaces, which the normaliser would have replaced
        "llama" | "gemma4" if kind == Kind::UserDefined && text.chars().all(|c| c == ' ') => {
            Some(text.replace(' ', &String::from(SPACE)))
        }
        _ => Some(text.into()),
    }
}

/// An [`Error::File`] about a token that must be there.
pub(super) fn missing(vocabulary: &Vocabulary, key: &str, token: &str) -> Error {
    vocabulary.meta().error(key, format!("expected {} among the tokens", quote(token)))
}
