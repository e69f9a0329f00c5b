//! What a GGUF file says about the end of a text, and how a chat is written.

use super::gguf::Gguf;
use super::gguf_tokenizer_vocab::{EOS, TOKENS, TYPES, special_id};
use crate::Result;

/// The keys that name tokens after which nothing follows: of a text, a turn, a message, a file.
const KEYS: [&str; 6] = [
    EOS,
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// Tokens that are known to end a turn or text by what they are called: most files name only one end of several.
const ENDS: [&str; 24] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<end_of_turn>",
    "<turn|>",
    "<|tool_response>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<eos>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The ids that end a text: those that the file names, then control and user-defined tokens that are known to be ends,
/// in the order of their ids. `</s>` must be a control token, as it is also HTML, and `<|end|>` is none where
/// `<|return|>` or `<|flush|>` and a `<|call|>` are there, between which it stands. Empty where there is no tokenizer.
///
/// # Errors
/// [`Error::File`](crate::Error::File) that names the key for what is no id, or no list of tokens or types.
pub fn gguf_eos_ids(gguf: &Gguf) -> Result<Vec<u32>> {
    let meta = gguf.metadata();
    let Some(tokens) = meta.opt_strings(TOKENS)? else { return Ok(Vec::new()) };
    let mut ids = Vec::new();
    for key in KEYS {
        ids.extend(special_id(meta, key, tokens.len())?);
    }
    let types = meta.opt_i32s(TYPES)?;
    let kind = |i: usize| types.as_ref().map_or(Some(CONTROL), |types| types.get(i).copied());
    let mut found: Vec<(u32, &str)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        // none of the ends is longer
        let Some(token) = std::str::from_utf8(token).ok().filter(|token| token.len() < 40) else { continue };
        let (control, user) = (kind(i) == Some(CONTROL), kind(i) == Some(USER_DEFINED));
        if control && token == "</s>" || (control || user) && ENDS.contains(&token) {
            found.push((i as u32, token));
        }
    }
    let has = |name: &str| found.iter().any(|(_, token)| *token == name);
    let inner = has("<|call|>") && has("<|return|>") || has("<|flush|>") && (has("<|call|>") || has("<|calls|>"));
    found.retain(|(_, token)| !(inner && *token == "<|end|>"));
    ids.extend(found.iter().map(|(id, _)| id));
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}

const TEMPLATE: &str = "tokenizer.chat_template";

/// The templates (Jinja) of chats with their names: first that without a name, which is called `default` here, then the
/// others in alphabetical order.
///
/// # Errors
/// [`Error::File`](crate::Error::File) for a template that is no UTF-8 text.
pub fn gguf_chat_templates(gguf: &Gguf) -> Result<Vec<(&str, &str)>> {
    let meta = gguf.metadata();
    let default = meta.opt_str(TEMPLATE)?.map(|text| ("default", text));
    let mut templates: Vec<(&str, &str)> = default.into_iter().collect();
    for key in meta.keys() {
        if let Some(name) = key.strip_prefix(TEMPLATE).and_then(|rest| rest.strip_prefix('.')) {
            templates.extend(meta.opt_str(key)?.map(|text| (name, text)));
        }
    }
    Ok(templates)
}
