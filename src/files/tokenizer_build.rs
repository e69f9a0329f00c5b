//! Tokenizers for folders without a tokenizer.json: the same JSON, made from the vocabulary files as transformers'
//! classes do.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::config::Config;
use super::tokenizer::MAX_TOKENIZER_BYTES;
use super::{quote, read_json, read_json_object, read_text};
use crate::{Error, Result};

/// Which of transformers' tokenizer classes a folder asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// WordPiece between `[CLS]` and `[SEP]`.
    Bert,
    /// WordPiece between `<s>` and `</s>`.
    Mpnet,
    /// Byte-level BPE between `<s>` and `</s>`.
    Roberta,
    /// Byte-level BPE with nothing around it.
    Gpt2,
    /// A class that this engine has no builder for; its tokenizer.json is taken as it is.
    Other(String),
    /// Nothing is said.
    Unknown,
}

impl Family {
    /// The tokenizer's config goes before the model's; without a class the model's type decides.
    pub(super) fn of(settings: &Config, model: &Config) -> Result<Family> {
        let class = match settings.opt_str("tokenizer_class")? {
            Some(class) => Some(class),
            None => model.opt_str("tokenizer_class")?,
        };
        if let Some(class) = class {
            return Ok(match class.strip_suffix("Fast").unwrap_or(class) {
                "BertTokenizer" | "DistilBertTokenizer" | "ElectraTokenizer" => Family::Bert,
                "MPNetTokenizer" => Family::Mpnet,
                "RobertaTokenizer" => Family::Roberta,
                "GPT2Tokenizer" => Family::Gpt2,
                other => Family::Other(other.into()),
            });
        }
        Ok(match model.opt_str("model_type")? {
            Some("bert" | "distilbert" | "electra") => Family::Bert,
            Some("mpnet") => Family::Mpnet,
            Some("roberta") => Family::Roberta,
            Some("gpt2") => Family::Gpt2,
            _ => Family::Unknown,
        })
    }
}

/// A folder's tokenizer as JSON: what [`Tokenizer`](super::Tokenizer) is made of, before that.
pub(crate) struct TokenizerFiles {
    /// tokenizer.json, or the vocabulary file that it was made from.
    pub path: PathBuf,
    /// tokenizer.json with what tokenizer_config.json says of the normalizer and the pre-tokenizer.
    pub json: Value,
    /// tokenizer_config.json.
    pub settings: Config,
    /// special_tokens_map.json.
    pub specials: Config,
}

impl TokenizerFiles {
    /// Reads the files of the folder `dir`; errors as for [`Tokenizer::open`](super::Tokenizer::open).
    pub fn open(dir: &Path) -> Result<Self> {
        let settings = optional(dir, "tokenizer_config.json")?;
        let specials = optional(dir, "special_tokens_map.json")?;
        let family = Family::of(&settings, &optional(dir, "config.json")?)?;
        let path = dir.join("tokenizer.json");
        let (path, mut json) = if path.exists() {
            let json = read_json(&path, MAX_TOKENIZER_BYTES)?;
            (path, json)
        } else {
            build_files(dir, &settings, &specials, &family)?
        };
        let bert = matches!(family, Family::Bert | Family::Mpnet);
        if bert && json["normalizer"]["type"] == "BertNormalizer" {
            let normalizer = &mut json["normalizer"];
            normalizer["handle_chinese_chars"] = settings.bool_or("tokenize_chinese_chars", true)?.into();
            normalizer["strip_accents"] = json!(settings.opt_bool("strip_accents")?);
            normalizer["lowercase"] = settings.bool_or("do_lower_case", true)?.into();
        }
        if matches!(family, Family::Roberta | Family::Gpt2) && json["pre_tokenizer"]["type"] == "ByteLevel" {
            json["pre_tokenizer"]["add_prefix_space"] = settings.bool_or("add_prefix_space", false)?.into();
        }
        Ok(TokenizerFiles { path, json, settings, specials })
    }
}

/// A config that need not be there.
pub(super) fn optional(dir: &Path, name: &str) -> Result<Config> {
    let path = dir.join(name);
    if path.exists() { Config::open_file(&path) } else { Ok(Config::from_map(path, Map::new())) }
}

/// The tokenizer.json that stands for the vocabulary files in `dir`, and the file that errors about it should name.
pub(super) fn build_files(
    dir: &Path,
    settings: &Config,
    specials: &Config,
    family: &Family,
) -> Result<(PathBuf, Value)> {
    let words = dir.join("vocab.txt");
    let (vocab, merges) = (dir.join("vocab.json"), dir.join("merges.txt"));
    let specials = |name: &str, default: &str| special_token(settings, specials, name, default);
    match family {
        Family::Bert | Family::Mpnet | Family::Unknown if words.exists() => {
            let mpnet = *family == Family::Mpnet;
            Ok((words.clone(), word_piece(&words, settings, mpnet, specials)?))
        }
        Family::Roberta | Family::Gpt2 | Family::Unknown if vocab.exists() && merges.exists() => {
            let gpt2 = *family == Family::Gpt2;
            Ok((vocab.clone(), byte_level_bpe(&vocab, &merges, settings, gpt2, specials)?))
        }
        Family::Other(class) if words.exists() || vocab.exists() => {
            Err(Error::unsupported(dir, format!("a {} without a tokenizer.json; {SAVE_AGAIN}", quote(class))))
        }
        _ => {
            for name in ["sentencepiece.bpe.model", "spiece.model", "tokenizer.model"] {
                if dir.join(name).exists() {
                    let what = format!("a SentencePiece model without a tokenizer.json; {SAVE_AGAIN}");
                    return Err(Error::unsupported(dir.join(name), what));
                }
            }
            Err(Error::file(
                dir,
                "expected a tokenizer (tokenizer.json, vocab.txt, or vocab.json and merges.txt), found none",
            ))
        }
    }
}

const SAVE_AGAIN: &str = "transformers' AutoTokenizer.save_pretrained writes one";

/// A special token: its text, and whether it takes the white space on its left with it.
pub(super) struct Special {
    content: String,
    lstrip: bool,
    rstrip: bool,
}

/// A special token by its role, such as `cls_token`: plain text or an object with `content` in either file.
fn special_token(settings: &Config, map: &Config, name: &str, default: &str) -> Result<Special> {
    for config in [settings, map] {
        match config.value(name) {
            None => {}
            Some(Value::String(content)) => {
                return Ok(Special { content: content.clone(), lstrip: false, rstrip: false });
            }
            Some(_) => {
                let Some(token) = config.opt_object(name)? else { continue };
                return Ok(Special {
                    content: token.str("content")?.into(),
                    lstrip: token.bool_or("lstrip", false)?,
                    rstrip: token.bool_or("rstrip", false)?,
                });
            }
        }
    }
    Ok(Special { content: default.into(), lstrip: false, rstrip: false })
}

/// The entries of `added_tokens`, in the order of their ids, so that none gets a new id.
fn added_tokens(vocab: &Map<String, Value>, tokens: &[&Special]) -> Vec<Value> {
    let mut found: Vec<(u64, &Special)> = Vec::new();
    for &token in tokens {
        let id = vocab.get(&token.content).and_then(Value::as_u64);
        if let Some(id) = id.filter(|id| found.iter().all(|(other, _)| other != id)) {
            found.push((id, token));
        }
    }
    found.sort_by_key(|(id, _)| *id);
    let entry = |(id, token): &(u64, &Special)| {
        json!({"id": id, "content": token.content, "single_word": false, "lstrip": token.lstrip,
               "rstrip": token.rstrip, "normalized": false, "special": true})
    };
    found.iter().map(entry).collect()
}

fn id_of(path: &Path, vocab: &Map<String, Value>, token: &Special) -> Result<u64> {
    let id = vocab.get(&token.content).and_then(Value::as_u64);
    id.ok_or_else(|| Error::file(path, format!("expected the special token {} in it", quote(&token.content))))
}

fn word_piece(
    path: &Path,
    settings: &Config,
    mpnet: bool,
    special: impl Fn(&str, &str) -> Result<Special>,
) -> Result<Value> {
    let text = read_text(path, MAX_TOKENIZER_BYTES)?;
    let mut vocab = Map::new();
    for (id, line) in text.lines().enumerate() {
        // of two equal lines the last one counts, as in Python's dictionaries
        vocab.insert(line.trim_end().into(), id.into());
    }
    let (start, end, pad, mask) =
        if mpnet { ("<s>", "</s>", "<pad>", "<mask>") } else { ("[CLS]", "[SEP]", "[PAD]", "[MASK]") };
    let (cls, sep) = (special("cls_token", start)?, special("sep_token", end)?);
    let (unk, pad) = (special("unk_token", "[UNK]")?, special("pad_token", pad)?);
    let mut mask = special("mask_token", mask)?;
    // MPNet's class says so for a mask token that is plain text; an object in its files speaks for itself
    mask.lstrip |= mpnet && settings.value("mask_token").is_none_or(Value::is_string);
    // without it, a word that is not in the vocabulary would be an error at some later time
    id_of(path, &vocab, &unk)?;
    let (cls_id, sep_id) = (id_of(path, &vocab, &cls)?, id_of(path, &vocab, &sep)?);
    let added = added_tokens(&vocab, &[&cls, &sep, &unk, &pad, &mask]);
    let post_processor = if mpnet {
        json!({"type": "RobertaProcessing", "sep": [sep.content, sep_id], "cls": [cls.content, cls_id],
               "trim_offsets": true, "add_prefix_space": false})
    } else {
        let token = |t: &Special, segment: u32| json!({"SpecialToken": {"id": t.content, "type_id": segment}});
        let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
        let special = |t: &Special, id: u64| json!({"id": t.content, "ids": [id], "tokens": [t.content]});
        let mut tokens = Map::new();
        tokens.insert(cls.content.clone(), special(&cls, cls_id));
        tokens.insert(sep.content.clone(), special(&sep, sep_id));
        json!({"type": "TemplateProcessing",
               "single": [token(&cls, 0), text("A", 0), token(&sep, 0)],
               "pair": [token(&cls, 0), text("A", 0), token(&sep, 0), text("B", 1), token(&sep, 1)],
               "special_tokens": tokens})
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": settings.bool_or("tokenize_chinese_chars", true)?,
            "strip_accents": settings.opt_bool("strip_accents")?,
            "lowercase": settings.bool_or("do_lower_case", true)?,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece",
            "unk_token": unk.content,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocab,
        },
    }))
}

fn byte_level_bpe(
    vocab_path: &Path,
    merges_path: &Path,
    settings: &Config,
    gpt2: bool,
    special: impl Fn(&str, &str) -> Result<Special>,
) -> Result<Value> {
    let vocab = read_json_object(vocab_path, MAX_TOKENIZER_BYTES)?;
    if let Some((token, id)) = vocab.iter().find(|(_, id)| id.as_u64().is_none_or(|id| id > u64::from(u32::MAX))) {
        let id = super::found(id);
        return Err(Error::file(vocab_path, format!("token {}: expected an id, found {id}", quote(token))));
    }
    let text = read_text(merges_path, MAX_TOKENIZER_BYTES)?;
    let mut merges = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with("#version")) {
        let Some((a, b)) = line.split_once(' ').filter(|(_, b)| !b.contains(' ')) else {
            let what = format!("line {}: expected two tokens with a space between, found {}", i + 1, quote(line));
            return Err(Error::file(merges_path, what));
        };
        merges.push(json!([a, b]));
    }
    let add_prefix_space = settings.bool_or("add_prefix_space", false)?;
    let (added, post_processor) = if gpt2 {
        gpt2_specials(vocab_path, &vocab, settings, special)?
    } else {
        roberta_specials(vocab_path, &vocab, add_prefix_space, special)?
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": true,
                          "use_regex": true},
        "post_processor": post_processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": false,
            "byte_fallback": false,
            "vocab": vocab,
            "merges": merges,
        },
    }))
}

/// RoBERTa's special tokens, and what puts two of them around a text.
fn roberta_specials(
    path: &Path,
    vocab: &Map<String, Value>,
    add_prefix_space: bool,
    special: impl Fn(&str, &str) -> Result<Special>,
) -> Result<(Vec<Value>, Value)> {
    let (cls, sep) = (special("cls_token", "<s>")?, special("sep_token", "</s>")?);
    let (unk, pad) = (special("unk_token", "<unk>")?, special("pad_token", "<pad>")?);
    let (mask, bos, eos) =
        (special("mask_token", "<mask>")?, special("bos_token", "<s>")?, special("eos_token", "</s>")?);
    let (cls_id, sep_id) = (id_of(path, vocab, &cls)?, id_of(path, vocab, &sep)?);
    let added = added_tokens(vocab, &[&bos, &eos, &cls, &sep, &unk, &pad, &mask]);
    let around = json!({"type": "RobertaProcessing", "sep": [sep.content, sep_id], "cls": [cls.content, cls_id],
                        "trim_offsets": true, "add_prefix_space": add_prefix_space});
    Ok((added, around))
}

/// GPT-2's, and nothing around a text, unless its settings ask for the first token.
fn gpt2_specials(
    path: &Path,
    vocab: &Map<String, Value>,
    settings: &Config,
    special: impl Fn(&str, &str) -> Result<Special>,
) -> Result<(Vec<Value>, Value)> {
    let [bos, eos, unk] = ["bos_token", "eos_token", "unk_token"].map(|name| special(name, "<|endoftext|>"));
    // it has no token to pad with, unless it is given one
    let (bos, eos, unk, pad) = (bos?, eos?, unk?, special("pad_token", "<|endoftext|>")?);
    let added = added_tokens(vocab, &[&bos, &eos, &unk, &pad]);
    if !settings.bool_or("add_bos_token", false)? {
        return Ok((added, Value::Null));
    }
    let id = id_of(path, vocab, &bos)?;
    let first = json!({"SpecialToken": {"id": bos.content, "type_id": 0}});
    let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
    let second = json!({"SpecialToken": {"id": bos.content, "type_id": 1}});
    let mut tokens = Map::new();
    tokens.insert(bos.content.clone(), json!({"id": bos.content, "ids": [id], "tokens": [bos.content]}));
    let template = json!({"type": "TemplateProcessing", "single": [first, text("A", 0)],
                          "pair": [first, text("A", 0), second, text("B", 1)], "special_tokens": tokens});
    Ok((added, template))
}
