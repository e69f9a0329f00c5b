//! A tokenizer, such as that of a Hugging Face folder: the `tokenizers` crate, with its file distrusted and its settings
//! tamed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use tokenizers::decoders::DecoderWrapper;
use tokenizers::models::ModelWrapper;
use tokenizers::normalizers::{BertNormalizer, Lowercase, NormalizerWrapper, Sequence};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper};

use super::config::Config;
use super::tokenizer_build::{Family, build_files, optional};
use super::{quote, read_capped};
use crate::{Error, Result};

/// The largest tokenizer file that is read, in bytes.
pub const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// A text as token ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The ids, special tokens included where asked for.
    pub ids: Vec<u32>,
    /// The segment of each token, as long as `ids`; all 0 for a single text in every known model.
    pub type_ids: Vec<u32>,
    /// How many tokens there were before truncation, special ones included; equal to the length of `ids` where nothing
    /// was cut.
    pub untruncated: usize,
}

/// A tokenizer. Never pads; truncates only to what `encode` is told.
pub struct Tokenizer {
    path: PathBuf,
    /// Without padding, truncation and post-processor.
    inner: tokenizers::Tokenizer,
    /// What adds the special tokens, kept apart because truncation comes before it.
    post: Option<PostProcessorWrapper>,
    /// How many tokens it adds.
    added: usize,
    cut_left: bool,
    /// Whether tokens such as `<0xE5>` are decoded to bytes.
    byte_fallback: bool,
    max_id: u32,
    vocab_size: usize,
    model_max_length: Option<usize>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("path", &self.path).field("vocab_size", &self.vocab_size).finish()
    }
}

impl Tokenizer {
    /// Whether the folder holds any tokenizer, be it one that cannot be read.
    pub fn is_in(dir: &Path) -> bool {
        const FILES: [&str; 6] =
            ["tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"];
        FILES.iter().any(|name| dir.join(name).exists())
    }

    /// Reads `tokenizer.json` in the folder `dir`; where there is none, builds what transformers builds from
    /// `vocab.txt` (BERT, DistilBERT, MPNet) or from `vocab.json` and `merges.txt` (RoBERTa, GPT-2).
    ///
    /// `tokenizer_config.json` is honoured as transformers does: for the classes of these families its `do_lower_case`,
    /// `strip_accents`, `tokenize_chinese_chars` and `add_prefix_space`, or their defaults, win over `tokenizer.json`.
    /// Padding and truncation that a file asks for are dropped.
    ///
    /// # Errors
    /// [`Error::File`] for damaged files, [`Error::Unsupported`] for kinds of tokenizers that only transformers can
    /// build, [`Error::Io`] where a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        let settings = optional(dir, "tokenizer_config.json")?;
        let specials = optional(dir, "special_tokens_map.json")?;
        let family = Family::of(&settings, &optional(dir, "config.json")?)?;
        let path = dir.join("tokenizer.json");
        let (path, mut inner) = if path.exists() {
            let bytes = read_capped(&path, MAX_TOKENIZER_BYTES)?;
            let inner = load(&path, &bytes)?;
            (path, inner)
        } else {
            let (path, json) = build_files(dir, &settings, &specials, &family)?;
            let inner = load(&path, json.to_string().as_bytes())?;
            (path, inner)
        };
        let cut_left = match settings.opt_str("truncation_side")? {
            Some("left") => true,
            Some("right") => false,
            Some(_) => return Err(settings.unsupported("truncation_side")),
            None => inner.get_truncation().is_some_and(|t| t.direction == tokenizers::TruncationDirection::Left),
        };
        // 1e30 is transformers' way to say that there is no limit
        let model_max_length = match settings.value("model_max_length") {
            Some(n) if n.as_f64().is_some_and(|n| n > super::config::MAX_NUMBER as f64) => None,
            _ => settings.opt_usize("model_max_length")?,
        };
        if matches!(inner.get_model(), ModelWrapper::BPE(bpe) if bpe.dropout.is_some_and(|p| p != 0.0)) {
            return Err(Error::unsupported(&path, "BPE with dropout: the same text would have other ids each time"));
        }
        check_padding(&path, &inner)?;
        guard(&path, "loading", || {
            inner.with_padding(None);
            inner.with_truncation(None)?;
            override_settings(&mut inner, &settings, &family)
        })?;
        let post = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        Tokenizer::from_inner(path, inner, post, cut_left, model_max_length)
    }

    /// A tokenizer of which `inner` neither pads nor truncates nor has a post-processor: that is `post`.
    pub(super) fn from_inner(
        path: PathBuf,
        inner: tokenizers::Tokenizer,
        post: Option<PostProcessorWrapper>,
        cut_left: bool,
        model_max_length: Option<usize>,
    ) -> Result<Self> {
        let byte_fallback = inner.get_decoder().is_some_and(has_byte_fallback);
        let mut tokenizer = Tokenizer {
            path,
            inner,
            post,
            added: 0,
            cut_left,
            byte_fallback,
            max_id: 0,
            vocab_size: 0,
            model_max_length,
        };
        tokenizer.measure()?;
        Ok(tokenizer)
    }

    fn measure(&mut self) -> Result<()> {
        let (added, size, largest) = guard(&self.path, "loading", || {
            let added = self.post.as_ref().map_or(0, |post| post.added_tokens(false));
            let vocab = self.inner.get_vocab(true);
            Ok((added, self.inner.get_vocab_size(true), vocab.values().copied().max()))
        })?;
        // a template may add thousands of tokens, and their ids need not be in the vocabulary
        if added > 64 {
            return Err(Error::file(&self.path, format!("expected at most 64 special tokens a text, found {added}")));
        }
        (self.added, self.vocab_size) = (added, size);
        let empty = self.encode("", added, true)?;
        let Some(largest) = largest else {
            return Err(Error::file(&self.path, "the vocabulary is empty"));
        };
        self.max_id = empty.ids.into_iter().max().map_or(largest, |id| id.max(largest));
        Ok(())
    }

    /// Lower-cases texts before the tokenizer's own normalisation, as sentence-transformers does where its
    /// `do_lower_case` is set; nothing changes where the tokenizer already begins so.
    ///
    /// # Errors
    /// [`Error::File`] where the tokens that the file adds cannot be normalised.
    pub fn lower_case(&mut self) -> Result<()> {
        let is_lowercase = |n: &NormalizerWrapper| matches!(n, NormalizerWrapper::Lowercase(_));
        let steps = match self.inner.get_normalizer() {
            None => vec![Lowercase.into()],
            Some(NormalizerWrapper::Sequence(steps)) if steps.as_ref().iter().any(is_lowercase) => return Ok(()),
            Some(step) if is_lowercase(step) => return Ok(()),
            Some(step) => vec![Lowercase.into(), step.clone()],
        };
        guard(&self.path, "loading", || self.inner.with_normalizer(Some(Sequence::new(steps))).map(|_| ()))
    }

    /// The ids of `text`, at most `max_tokens` of them. What is too long is cut at its end (or at its beginning, where
    /// the tokenizer's config says so) so that the special tokens stay, as transformers' `longest_first` does.
    ///
    /// # Errors
    /// [`Error::Input`] where `max_tokens` leaves no room for the special tokens, [`Error::File`] where the tokenizer's
    /// file makes the `tokenizers` crate fail on this text.
    pub fn encode(&self, text: &str, max_tokens: usize, add_special_tokens: bool) -> Result<Encoded> {
        let added = if add_special_tokens { self.added } else { 0 };
        let Some(room) = max_tokens.checked_sub(added) else {
            let what = format!("at most {max_tokens} tokens a text leave no room for the {added} special ones");
            return Err(Error::Input(what));
        };
        let (encoding, untruncated) = guard(&self.path, "encoding a text", || {
            let mut encoding = self.inner.encode_fast(text, false)?;
            let untruncated = encoding.len().saturating_add(added);
            if encoding.len() > room {
                encoding = cut(&encoding, room, self.cut_left);
            }
            let encoding = match &self.post {
                Some(post) => post.process(encoding, None, add_special_tokens)?,
                None => encoding,
            };
            Ok((encoding, untruncated))
        })?;
        let (ids, type_ids) = (encoding.get_ids().to_vec(), encoding.get_type_ids().to_vec());
        let expected = untruncated.min(max_tokens);
        if ids.len() != expected || type_ids.len() != expected {
            let what = format!("the post-processor turned a text into {} tokens, expected {expected}", ids.len());
            return Err(Error::file(&self.path, what));
        }
        Ok(Encoded { ids, type_ids, untruncated })
    }

    /// The text of `ids`, by the file's decoder: bytes that are no UTF-8 become U+FFFD, and ids that are not in the
    /// vocabulary are left out. Special tokens are left out where `skip_special_tokens` says so.
    ///
    /// # Errors
    /// [`Error::File`] where the tokenizer's file makes the `tokenizers` crate fail on these ids.
    pub fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        guard(&self.path, "decoding ids", || self.inner.decode(ids, skip_special_tokens))
    }

    /// Whether an id is that of a byte, which is decoded together with those on both sides of it: `<0xE5>` where the
    /// decoder says so.
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        let hex = |token: &str| {
            let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
            (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
        };
        self.byte_fallback && self.token(id).is_some_and(|token| hex(&token).is_some())
    }

    /// Number of tokens in the vocabulary, added ones included. Ids may be larger than this: see
    /// [`Tokenizer::max_id`].
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The largest id that a text can be given; it must be below the number of rows of the model's embedding table.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// How many special tokens [`Tokenizer::encode`] adds to a text.
    pub fn special_tokens(&self) -> usize {
        self.added
    }

    /// The token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// A token as it reads in a text; as it stands in the vocabulary where it is only a part of one, such as some of a
    /// character's bytes.
    pub fn text_of(&self, id: u32) -> Option<String> {
        let token = self.token(id)?;
        let text = self.decode(&[id], false).unwrap_or_default();
        Some(if text.is_empty() || text.contains('\u{fffd}') { token } else { text })
    }

    /// The id of a token.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Whether an id is that of a special token, such as `[SEP]`.
    pub fn is_special(&self, id: u32) -> bool {
        self.token(id).is_some_and(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// `model_max_length` of tokenizer_config.json; `None` where it is absent or beyond any real length.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }

    /// The file that this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The longest text that a tokenizer may pad to: no model has as many positions.
const MAX_PADDING: usize = 1 << 16;

/// Padding plays no part here, but a file that pads without bound is damaged, and would be a trap elsewhere.
fn check_padding(path: &Path, inner: &tokenizers::Tokenizer) -> Result<()> {
    let Some(padding) = inner.get_padding() else { return Ok(()) };
    let fixed = match padding.strategy {
        tokenizers::PaddingStrategy::Fixed(length) => length,
        tokenizers::PaddingStrategy::BatchLongest => 0,
    };
    let length = fixed.max(padding.pad_to_multiple_of.unwrap_or(0));
    if length > MAX_PADDING {
        let what = format!("key `padding`: expected at most {MAX_PADDING} tokens to pad to, found {length}");
        return Err(Error::file(path, what));
    }
    Ok(())
}

pub(super) type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Runs a part of the `tokenizers` crate. It checks its files only in part: some contradictions (an unknown token that
/// is not in the vocabulary, a regex that gives up, an id that overflows) make it panic when it is built or used, which
/// must not take the program down. Its values are either dropped after that or only read, so that none is seen broken.
/// The panic's message still goes through the host's panic hook, which is not ours to replace.
pub(super) fn guard<T>(path: &Path, doing: &str, work: impl FnOnce() -> Result<T, BoxedError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Error::file(path, format!("{doing} failed: {e}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Error::file(path, format!("{doing} failed inside the tokenizers crate: {}", quote(text))))
        }
    }
}

fn load(path: &Path, json: &[u8]) -> Result<tokenizers::Tokenizer> {
    if json.starts_with(b"\xef\xbb\xbf") {
        return Err(Error::file(path, "begins with a byte order mark (U+FEFF); save it as UTF-8 without one"));
    }
    guard(path, "loading", || tokenizers::Tokenizer::from_bytes(json))
}

fn has_byte_fallback(decoder: &DecoderWrapper) -> bool {
    match decoder {
        DecoderWrapper::ByteFallback(_) => true,
        DecoderWrapper::Sequence(steps) => steps.get_decoders().iter().any(has_byte_fallback),
        _ => false,
    }
}

/// What transformers' classes set after they have read tokenizer.json.
fn override_settings(inner: &mut tokenizers::Tokenizer, settings: &Config, family: &Family) -> Result<(), BoxedError> {
    match (family, inner.get_normalizer(), inner.get_pre_tokenizer()) {
        (Family::Bert | Family::Mpnet, Some(NormalizerWrapper::BertNormalizer(from_file)), _) => {
            let normalizer = BertNormalizer::new(
                from_file.clean_text,
                settings.bool_or("tokenize_chinese_chars", true)?,
                settings.opt_bool("strip_accents")?,
                settings.bool_or("do_lower_case", true)?,
            );
            inner.with_normalizer(Some(normalizer))?;
        }
        (Family::Roberta | Family::Gpt2, _, Some(PreTokenizerWrapper::ByteLevel(from_file))) => {
            let mut byte_level = *from_file;
            byte_level.add_prefix_space = settings.bool_or("add_prefix_space", false)?;
            inner.with_pre_tokenizer(Some(byte_level));
        }
        _ => {}
    }
    Ok(())
}

/// The first (or last) `room` tokens. `Encoding::truncate` would keep a copy of all the others.
fn cut(encoding: &Encoding, room: usize, left: bool) -> Encoding {
    let start = if left { encoding.len() - room } else { 0 };
    let range = start..start + room;
    Encoding::new(
        encoding.get_ids()[range.clone()].to_vec(),
        encoding.get_type_ids()[range.clone()].to_vec(),
        encoding.get_tokens()[range.clone()].to_vec(),
        encoding.get_word_ids()[range.clone()].to_vec(),
        encoding.get_offsets()[range.clone()].to_vec(),
        encoding.get_special_tokens_mask()[range.clone()].to_vec(),
        encoding.get_attention_mask()[range].to_vec(),
        Vec::new(),
        Default::default(),
    )
}
