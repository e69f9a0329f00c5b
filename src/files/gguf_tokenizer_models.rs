//! The algorithms of GGUF's tokenizers: byte-level BPE, SentencePiece's BPE and Unigram, WordPiece.

use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::Precompiled;

use super::gguf::{Array, Gguf, Metadata};
use super::gguf_tokenizer::{MODEL, PRE, Parts};
use super::gguf_tokenizer_merges::{from_scores, merges};
use super::gguf_tokenizer_pre::{Pre, pre_tokenizer};
use super::gguf_tokenizer_vocab::{BOS, CLS, EOS, Kind, MAX_TEXT_BYTES, SEP, SPACE, TOKENS, UNK, Vocabulary, missing};
use super::gguf_value;
use super::tokenizer::guard;
use crate::Result;

const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const ADD_EOS: &str = "tokenizer.ggml.add_eos_token";
const ADD_SPACE_PREFIX: &str = "tokenizer.ggml.add_space_prefix";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";
const LOWERCASE: &str = "tokenizer.ggml.normalizer.lowercase";
const STRIP_ACCENTS: &str = "tokenizer.ggml.normalizer.strip_accents";

/// What a tokenizer of the given `add_bos` and `add_eos` puts around a text, where the file does not say.
fn around(
    vocabulary: &Vocabulary,
    (bos, eos): (Option<u32>, Option<u32>),
    add: (bool, bool),
) -> Result<(Option<u32>, Option<u32>)> {
    let one = |key: &str, default: bool, id_key: &str, id: Option<u32>| {
        if !vocabulary.meta().bool_or(key, default)? {
            return Ok(None);
        }
        let id = vocabulary.special(id_key, id)?;
        if id.is_none() {
            log::warn!("{}: `{key}` is true, but there is no `{id_key}`", vocabulary.path().display());
        }
        Ok(id)
    };
    Ok((one(ADD_BOS, add.0, BOS, bos)?, one(ADD_EOS, add.1, EOS, eos)?))
}

/// Texts and ids as BPE and WordPiece want them.
fn by_text(vocabulary: &Vocabulary) -> Vocab {
    vocabulary.iter().map(|(id, text, _)| (text.to_string(), id)).collect()
}

/// The `gpt2` model: BPE on bytes, each of which is a character of GPT-2's table.
pub(super) fn byte_level_bpe(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    let meta = gguf.metadata();
    let name = meta.opt_str(PRE)?;
    if name.is_none() {
        log::warn!("{}: `{PRE}` is absent: texts are cut as for GPT-2", gguf.path().display());
    }
    let pre = pre_tokenizer(name.unwrap_or("default")).ok_or_else(|| meta.unsupported(PRE))?;
    let Pre { nfc, steps, ignore_merges, add_bos, add_eos, mask } = pre;
    let strings = meta.strings(MERGES)?;
    let merges = merges(meta, MERGES, strings, vocabulary)?;
    let model = guard(gguf.path(), "building the tokenizer", || {
        let builder = BPE::builder().vocab_and_merges(by_text(vocabulary), merges);
        builder.ignore_merges(ignore_merges).build()
    })?;
    let (first, last) = around(vocabulary, (None, None), (add_bos, add_eos))?;
    Ok(Parts {
        model: model.into(),
        normalizer: if nfc { json!({"type": "NFC"}) } else { Value::Null },
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
        first,
        last,
        mask,
    })
}

/// The `llama` model, which is SentencePiece's BPE, and `gemma4`, which is the same with its merges in the file: BPE on
/// characters, where what has no token is bytes.
pub(super) fn piece_bpe(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    let meta = gguf.metadata();
    let gemma = meta.opt_str("general.architecture")?.is_some_and(|name| name.starts_with("gemma"));
    let gemma4 = meta.opt_str(MODEL)? != Some("llama");
    let renamed = with_tab(gguf, vocabulary, gemma)?;
    let vocabulary = renamed.as_ref().unwrap_or(vocabulary);
    let merges = match meta.opt_strings(MERGES)? {
        Some(strings) => merges(meta, MERGES, strings, vocabulary)?,
        None => from_scores(vocabulary)?,
    };
    let unknown = vocabulary.first(Kind::Unknown);
    let unknown = vocabulary.special(UNK, unknown.or(Some(0)))?.and_then(|id| vocabulary.text(id));
    let byte_fallback = vocabulary.first(Kind::Byte).is_some();
    let model = guard(gguf.path(), "building the tokenizer", || {
        let mut builder = BPE::builder().vocab_and_merges(by_text(vocabulary), merges);
        builder = builder.fuse_unk(true).byte_fallback(byte_fallback);
        if let Some(unknown) = unknown {
            builder = builder.unk_token(unknown.into());
        }
        builder.build()
    })?;
    let prefix = !gemma4 && meta.bool_or(ADD_SPACE_PREFIX, true)?;
    let space = SPACE.to_string();
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": space});
    let mut normalizers = vec![replace];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": space}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": space}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    // Gemma 4's files say that nothing is put in front, and its tokenizer does it all the same
    let (first, last) = if gemma4 {
        let bos = vocabulary.special(BOS, vocabulary.id("<bos>"))?;
        (bos, around(vocabulary, (None, None), (false, false))?.1)
    } else {
        around(vocabulary, (Some(1), Some(2)), (true, false))?
    };
    Ok(Parts {
        model: model.into(),
        normalizer: json!({"type": "Sequence", "normalizers": normalizers}),
        pre_tokenizer: Value::Null,
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        first,
        last,
        mask: None,
    })
}

/// Gemma's first tokenizers have tokens of several tabs but only a byte for one, which transformers makes the tab.
fn with_tab<'a>(gguf: &'a Gguf, vocabulary: &Vocabulary, gemma: bool) -> Result<Option<Vocabulary<'a>>> {
    let Some(id) = vocabulary.id("<0x09>").filter(|_| vocabulary.id("\t").is_none()) else { return Ok(None) };
    if !gemma && !vocabulary.iter().any(|(_, text, _)| text.contains('\t')) {
        return Ok(None);
    }
    let mut vocabulary = Vocabulary::read(gguf)?;
    vocabulary.rename(id, "\t");
    Ok(Some(vocabulary))
}

/// The `t5` model: SentencePiece's Unigram.
pub(super) fn unigram(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    let meta = gguf.metadata();
    let Some(scores) = vocabulary.scores()? else {
        return Err(meta.error("tokenizer.ggml.scores", "expected a list of numbers, found nothing"));
    };
    // ids behind the last token are no part of the tokenizer, but those between tokens must have a place
    let count = vocabulary.iter().last().map_or(0, |(id, _, _)| id as usize + 1);
    let place = |id: usize| vocabulary.text(id as u32).map_or_else(|| format!("[PAD{id}]"), String::from);
    let pieces: Vec<(String, f64)> = (0..count).map(|id| (place(id), f64::from(scores[id]))).collect();
    let unknown = vocabulary.special(UNK, vocabulary.first(Kind::Unknown).or(Some(2)))?;
    let byte_fallback = vocabulary.first(Kind::Byte).is_some();
    let model = guard(gguf.path(), "building the tokenizer", || {
        Unigram::from(pieces, unknown.map(|id| id as usize), byte_fallback)
    })?;
    let prefix = meta.bool_or(ADD_SPACE_PREFIX, true)?;
    let prepend = if prefix { "always" } else { "never" };
    let metaspace = json!({"type": "Metaspace", "replacement": SPACE, "prepend_scheme": prepend, "split": true});
    let mut decoders = vec![metaspace.clone()];
    let mut steps = vec![metaspace];
    // as in the files of T5 and XLM-R; newer ones make one space of several before, which is the same but for texts
    // with SPACE in them and white space that the map does not know
    if prefix {
        steps.insert(0, json!({"type": "WhitespaceSplit"}));
    }
    if byte_fallback {
        decoders.splice(0..0, [json!({"type": "ByteFallback"})]);
    }
    let (first, last) = around(vocabulary, (None, Some(1)), (false, true))?;
    Ok(Parts {
        model: model.into(),
        normalizer: charsmap(gguf)?,
        pre_tokenizer: json!({"type": "Sequence", "pretokenizers": steps}),
        decoder: json!({"type": "Sequence", "decoders": decoders}),
        first,
        last,
        mask: Some("<mask>"),
    })
}

/// SentencePiece's own map of characters, where there is one.
fn charsmap(gguf: &Gguf) -> Result<Value> {
    let meta = gguf.metadata();
    let Some(bytes) = charsmap_bytes(meta)? else { return Ok(Value::Null) };
    let damaged = |e: &dyn std::fmt::Display| meta.error(CHARSMAP, format!("is damaged: {e}"));
    let map = Precompiled::from(&bytes).map_err(|e| damaged(&e))?;
    serde_json::to_value(map).map_err(|e| damaged(&e))
}

fn charsmap_bytes(meta: &Metadata) -> Result<Option<Vec<u8>>> {
    let bytes = match meta.value(CHARSMAP) {
        None => return Ok(None),
        Some(gguf_value::Value::Array(Array::U8(bytes))) => bytes.clone(),
        Some(gguf_value::Value::Array(Array::I8(bytes))) => bytes.iter().map(|&b| b as u8).collect(),
        Some(_) => return Err(meta.error(CHARSMAP, "expected a list of bytes")),
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > MAX_TEXT_BYTES {
        let what = format!("expected at most {MAX_TEXT_BYTES} bytes, found {}", bytes.len());
        return Err(meta.error(CHARSMAP, what));
    }
    // the trie's length decides what the crate allocates
    let trie = bytes.first_chunk().map(|size: &[u8; 4]| u32::from_le_bytes(*size) as usize);
    match trie {
        Some(size) if (4..=bytes.len() - 4).contains(&size) => Ok(Some(bytes)),
        _ => Err(meta.error(CHARSMAP, format!("is damaged: its trie does not fit into {} bytes", bytes.len()))),
    }
}

/// The `bert` model: WordPiece.
pub(super) fn word_piece(gguf: &Gguf, vocabulary: &Vocabulary) -> Result<Parts> {
    let meta = gguf.metadata();
    let unknown = vocabulary.special(UNK, vocabulary.id("[UNK]").or(vocabulary.id("<unk>")))?;
    let unknown = unknown.and_then(|id| vocabulary.text(id)).ok_or_else(|| missing(vocabulary, TOKENS, "[UNK]"))?;
    // bos and eos are what writers that know no roles of BERT's call them
    let cls = match vocabulary.special(CLS, None)? {
        None => vocabulary.special(BOS, vocabulary.id("[CLS]"))?,
        id => id,
    };
    let sep = match vocabulary.special(SEP, None)? {
        None => vocabulary.special(EOS, vocabulary.id("[SEP]"))?,
        id => id,
    };
    let cls = cls.ok_or_else(|| missing(vocabulary, TOKENS, "[CLS]"))?;
    let sep = sep.ok_or_else(|| missing(vocabulary, TOKENS, "[SEP]"))?;
    let cased = vocabulary.iter().any(|(_, text, kind)| kind == Kind::Normal && has_upper_case(text));
    let lowercase = meta.bool_or(LOWERCASE, !cased)?;
    let model = guard(gguf.path(), "building the tokenizer", || {
        let builder = WordPiece::builder().vocab(by_text(vocabulary)).unk_token(unknown.into());
        builder.continuing_subword_prefix("##".into()).max_input_chars_per_word(100).build()
    })?;
    Ok(Parts {
        model: model.into(),
        normalizer: json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                           "strip_accents": meta.opt_bool(STRIP_ACCENTS)?, "lowercase": lowercase}),
        pre_tokenizer: json!({"type": "BertPreTokenizer"}),
        decoder: json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        first: Some(cls),
        last: Some(sep),
        mask: Some("<mask>"),
    })
}

/// Whether a token could not come from a lower-cased text. `[unused1]` and the like are no words.
fn has_upper_case(text: &str) -> bool {
    !text.starts_with(['[', '<']) && text.chars().any(|c| c.is_uppercase() && c.to_lowercase().ne([c]))
}
