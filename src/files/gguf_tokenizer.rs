//! The tokenizer inside a GGUF file, as the `tokenizers` crate would have it from the Hugging Face folder of the model.

use tokenizers::models::ModelWrapper;
use tokenizers::{AddedToken, PostProcessorWrapper};

use serde_json::{Map, Value, json};

use super::gguf::{Gguf, Metadata};
use super::gguf_tokenizer_models as models;
use super::gguf_tokenizer_vocab::{Kind, Vocabulary};
use super::tokenizer::{BoxedError, Tokenizer, guard};
use crate::{Error, Result};

/// Which algorithm the tokens belong to: `bert`, `gemma4`, `gpt2`, `llama` or `t5`.
pub(super) const MODEL: &str = "tokenizer.ggml.model";
/// Which rules cut a text before byte-level BPE.
pub(super) const PRE: &str = "tokenizer.ggml.pre";

/// What a tokenizer is made of; the parts other than the model in the form of a tokenizer.json, `Null` for none.
pub(super) struct Parts {
    pub model: ModelWrapper,
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    /// What goes in front of a text.
    pub first: Option<u32>,
    /// What goes behind it.
    pub last: Option<u32>,
    /// The token that takes the white space on its left with it.
    pub mask: Option<&'static str>,
}

impl Tokenizer {
    /// Builds the tokenizer that a GGUF file holds; `None` where it says that there is none.
    ///
    /// Ids are those of the Hugging Face tokenizer of the same model, as far as the file carries what they depend on.
    /// What it does not carry is taken as follows:
    /// - Added tokens match the raw text, and strip no white space but for `<mask>` and those of Phi-3.
    /// - SentencePiece's BPE has a space put in front of every stretch of text between special tokens (Llama 2's form,
    ///   not the `legacy: false` one), merges of one score are ordered as transformers orders them today, and
    ///   user-defined pieces have the score 0 that SentencePiece gives them.
    /// - Unigram cuts texts at any white space first.
    /// - WordPiece lower-cases and strips accents unless `tokenizer.ggml.normalizer.lowercase` says otherwise or a
    ///   token has an upper-case letter.
    /// - T5's `<extra_id_0>` and following, and GLM's `[gMASK]<sop>` in front of a text, are not in the file.
    /// - Of two equal tokens the first is the one that texts get; the other, and `[PAD7]` as the unused token 7, have
    ///   no text.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for another `tokenizer.ggml.model` or `tokenizer.ggml.pre`, [`Error::File`] that names
    /// the key for whatever is damaged.
    pub fn from_gguf(gguf: &Gguf) -> Result<Option<Tokenizer>> {
        let meta = gguf.metadata();
        let build = match meta.opt_str(MODEL)? {
            None | Some("none" | "no_vocab") => return Ok(None),
            Some("gpt2") if meta.opt_str(PRE)? == Some("gemma4") => models::piece_bpe,
            Some("gpt2") => models::byte_level_bpe,
            Some("llama" | "gemma4") => models::piece_bpe,
            Some("t5") => models::unigram,
            Some("bert") => models::word_piece,
            Some(_) => return Err(meta.unsupported(MODEL)),
        };
        let vocabulary = Vocabulary::read(gguf)?;
        let parts = build(gguf, &vocabulary)?;
        let post = template(&vocabulary, parts.first, parts.last)?;
        let added = added_tokens(meta, &vocabulary, parts.mask);
        let inner = guard(gguf.path(), "building the tokenizer", || assemble(parts, added))?;
        Tokenizer::from_inner(gguf.path().into(), inner, post, false, None).map(Some)
    }
}

/// Puts the parts together. The normaliser goes before the added tokens, which are matched in what it makes.
fn assemble(parts: Parts, added: Vec<AddedToken>) -> Result<tokenizers::Tokenizer, BoxedError> {
    let mut tokenizer = tokenizers::Tokenizer::new(parts.model);
    if !parts.normalizer.is_null() {
        let normalizer: tokenizers::NormalizerWrapper = serde_json::from_value(parts.normalizer)?;
        tokenizer.with_normalizer(Some(normalizer))?;
    }
    if !parts.pre_tokenizer.is_null() {
        let pre: tokenizers::PreTokenizerWrapper = serde_json::from_value(parts.pre_tokenizer)?;
        tokenizer.with_pre_tokenizer(Some(pre));
    }
    let decoder: tokenizers::DecoderWrapper = serde_json::from_value(parts.decoder)?;
    tokenizer.with_decoder(Some(decoder));
    tokenizer.add_tokens(added)?;
    Ok(tokenizer)
}

/// The tokens that are found in a text before it is cut, in the order of their ids.
fn added_tokens(meta: &Metadata, vocabulary: &Vocabulary, mask: Option<&str>) -> Vec<AddedToken> {
    // free text, so that nothing in it is damage
    let name = meta.opt_str("general.name").ok().flatten().unwrap_or_default().to_lowercase();
    // its tokenizer says so of these, and the file has no place for it
    let phi3 = name.contains("phi-3") || name.contains("phi3");
    let added = |(_, text, kind): (u32, &str, Kind)| {
        let special = matches!(kind, Kind::Control | Kind::Unknown);
        if !special && kind != Kind::UserDefined {
            return None;
        }
        let rstrip = phi3 && !matches!(text, "<unk>" | "<s>" | "<|endoftext|>");
        let token = AddedToken::from(text, special).normalized(false).rstrip(rstrip);
        Some(token.lstrip(special && mask == Some(text)))
    };
    vocabulary.iter().filter_map(added).collect()
}

/// What puts `first` and `last` around a text.
fn template(vocabulary: &Vocabulary, first: Option<u32>, last: Option<u32>) -> Result<Option<PostProcessorWrapper>> {
    if first.is_none() && last.is_none() {
        return Ok(None);
    }
    let mut tokens = Map::new();
    let mut around = |id: Option<u32>| {
        let id = id?;
        // any name will do, as only the id comes out
        let name = vocabulary.text(id).unwrap_or("special");
        tokens.insert(name.into(), json!({"id": name, "ids": [id], "tokens": [name]}));
        Some(name.to_string())
    };
    let (first, last) = (around(first), around(last));
    let special = |name: &Option<String>, segment: u32| {
        name.iter().map(|name| json!({"SpecialToken": {"id": name, "type_id": segment}})).collect::<Vec<_>>()
    };
    let part = |name: &str, segment: u32| {
        [special(&first, segment), vec![json!({"Sequence": {"id": name, "type_id": segment}})], special(&last, segment)]
            .concat()
    };
    let pair = [part("A", 0), part("B", 1)].concat();
    let json = json!({"type": "TemplateProcessing", "single": part("A", 0), "special_tokens": tokens,
                      "pair": pair});
    let post = serde_json::from_value(json);
    post.map(Some).map_err(|e| Error::file(vocabulary.path(), format!("the special tokens make no template: {e}")))
}
