//! Chat templates: Jinja programs from outside that turn messages into a prompt.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::{ErrorKind, Value};
use serde_json::{Map, Value as Json};

use super::Message;
use super::jinja::{RAISED, environment};
use super::source::prepared;
use crate::files::{Config, Tokenizer, found, quote, read_text};
use crate::{Error, Result};

/// The largest template that is taken, in bytes.
pub const MAX_TEMPLATE_BYTES: u64 = 256 << 10;
/// The largest text that a template may make, in bytes.
pub const MAX_RENDERED_BYTES: usize = 1 << 20;
/// What a template may use of stack. Nested values are dropped one inside the other, as deep as the fuel lets them be.
const STACK: usize = 256 << 20;

/// Where a model has no template: turns that any language model has seen, `User: …` and `Assistant: …`.
const NEUTRAL: &str = "\
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content }}{{ '\\n\\n' }}
{%- elif message.role == 'user' -%}User: {{ message.content }}{{ '\\n' }}
{%- else -%}Assistant: {{ message.content }}{{ '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}Assistant:{%- endif -%}";

/// A model's template, which turns messages into the text that it was trained on, as transformers'
/// `apply_chat_template` does: `trim_blocks`, `lstrip_blocks`, `break` and `continue`, `raise_exception`,
/// `strftime_now` (here in UTC), `tojson` without HTML's escapes, `namespace`, Python's methods of strings. A block
/// `{% generation %}` has no effect.
///
/// A template is a program from outside: its instructions, memory, depth, output and time are bounded.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    path: PathBuf,
    source: String,
    specials: BTreeMap<String, Json>,
    time: Option<SystemTime>,
    neutral: bool,
}

impl ChatTemplate {
    /// The template of a Hugging Face folder, `None` where it has none: `chat_template.jinja`, else `chat_template` of
    /// tokenizer_config.json (of a list the one that is named `default`), else `chat_template.json` of old processors.
    /// Special tokens are those of tokenizer_config.json and special_tokens_map.json.
    ///
    /// # Errors
    /// [`Error::File`] for damaged files and for a template that does not parse, [`Error::Io`].
    pub fn open(dir: &Path) -> Result<Option<Self>> {
        let optional = |name: &str| {
            let path = dir.join(name);
            if path.exists() { Config::open_file(&path) } else { Ok(Config::from_map(path, Map::new())) }
        };
        let settings = optional("tokenizer_config.json")?;
        let jinja = dir.join("chat_template.jinja");
        let (path, source) = if jinja.exists() {
            let source = read_text(&jinja, MAX_TEMPLATE_BYTES)?;
            (jinja, source)
        } else if let Some(source) = default_of(&settings)? {
            (settings.path().to_path_buf(), source)
        } else {
            let processor = optional("chat_template.json")?;
            let Some(source) = default_of(&processor)? else { return Ok(None) };
            (processor.path().to_path_buf(), source)
        };
        let mut specials = BTreeMap::new();
        for file in [&optional("special_tokens_map.json")?, &settings] {
            for key in file.keys().filter(|key| key.ends_with("_token")) {
                let token = match file.value(key) {
                    Some(Json::String(token)) => Some(token),
                    Some(Json::Object(token)) => token.get("content").and_then(|content| match content {
                        Json::String(token) => Some(token),
                        _ => None,
                    }),
                    _ => None,
                };
                if let Some(token) = token {
                    specials.insert(key.to_string(), Json::from(token.clone()));
                }
            }
        }
        Self::with_specials(path, source, specials).map(Some)
    }

    /// A template from elsewhere, such as the metadata of a GGUF file, which `path` names in errors. Special tokens
    /// are pairs such as `("bos_token", "<s>")`.
    ///
    /// # Errors
    /// [`Error::File`] for a template that is too large or does not parse.
    pub fn new(path: impl Into<PathBuf>, source: impl Into<String>, specials: &[(&str, &str)]) -> Result<Self> {
        let specials = specials.iter().map(|&(name, token)| (name.to_string(), Json::from(token))).collect();
        Self::with_specials(path.into(), source.into(), specials)
    }

    /// What stands in where a model has no template: the system message, then turns that begin with `User:` and
    /// `Assistant:`. See [`ChatTemplate::stops`].
    pub fn neutral() -> Self {
        let source = NEUTRAL.to_string();
        ChatTemplate { path: "neutral".into(), source, specials: BTreeMap::new(), time: None, neutral: true }
    }

    fn with_specials(path: PathBuf, source: String, specials: BTreeMap<String, Json>) -> Result<Self> {
        if source.len() as u64 > MAX_TEMPLATE_BYTES {
            let what = format!("the chat template has {} bytes, at most {MAX_TEMPLATE_BYTES} are taken", source.len());
            return Err(Error::file(path, what));
        }
        let template = ChatTemplate { path, source: prepared(&source), specials, time: None, neutral: false };
        template.apart(|| {
            let env = environment(SystemTime::UNIX_EPOCH);
            env.template_from_named_str("chat_template", &template.source).map(drop).map_err(|e| template.error(&e))
        })?;
        Ok(template)
    }

    /// The same template at a fixed time, so that one that tells the date renders the same text each day.
    pub fn at(self, time: SystemTime) -> Self {
        ChatTemplate { time: Some(time), ..self }
    }

    /// Whether this is [`ChatTemplate::neutral`].
    pub fn is_neutral(&self) -> bool {
        self.neutral
    }

    /// Strings that end an answer besides the model's own tokens: `"\nUser:"` for the neutral form, else none.
    pub fn stops(&self) -> &'static [&'static str] {
        if self.neutral { &["\nUser:"] } else { &[] }
    }

    /// The messages as text. With `add_generation_prompt` it ends where the answer begins.
    ///
    /// # Errors
    /// [`Error::File`] naming the template's file and what went wrong: an error in the template, what it says with
    /// `raise_exception`, or that it takes more than its share of instructions, memory, depth or output.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, add_generation_prompt, &Map::new())
    }

    /// [`ChatTemplate::render`] with further variables, such as `tools`, `documents` or `enable_thinking`.
    ///
    /// # Errors
    /// As for [`ChatTemplate::render`].
    pub fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String> {
        self.apart(|| {
            let env = environment(self.time.unwrap_or_else(SystemTime::now));
            let mut context: BTreeMap<&str, Value> = BTreeMap::new();
            context.extend(["tools", "documents"].map(|name| (name, Value::from(()))));
            context.extend(self.specials.iter().map(|(name, token)| (&name[..], value(token))));
            context.extend(variables.iter().map(|(name, json)| (&name[..], value(json))));
            let pairs = |message: &Message| [("role", message.role.clone()), ("content", message.content.clone())];
            let messages = messages.iter().map(|message| Value::from_pairs(pairs(message)));
            context.insert("messages", messages.collect());
            context.insert("add_generation_prompt", add_generation_prompt.into());
            let mut out = Capped { bytes: Vec::new(), full: false };
            let rendered = env
                .template_from_named_str("chat_template", &self.source)
                .and_then(|template| template.render_captured_to(Value::from_pairs(context), &mut out).map(drop));
            if out.full {
                let what = format!("the chat template makes a text of more than {MAX_RENDERED_BYTES} bytes");
                return Err(Error::file(&self.path, what));
            }
            rendered.map_err(|error| self.error(&error))?;
            String::from_utf8(out.bytes).map_err(|_| Error::file(&self.path, "the chat template makes no UTF-8"))
        })
    }

    /// The token ids of [`ChatTemplate::render`]. A template spells special tokens itself, so that none are added,
    /// except for the neutral form.
    ///
    /// # Errors
    /// As for [`ChatTemplate::render`] and [`Tokenizer::encode`].
    pub fn encode(&self, tokenizer: &Tokenizer, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let text = self.render(messages, add_generation_prompt)?;
        Ok(tokenizer.encode(&text, usize::MAX, self.neutral)?.ids)
    }

    /// Runs on a thread with a stack that no template exhausts, whoever calls.
    fn apart<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("chat template".into()).stack_size(STACK);
            let running = thread.spawn_scoped(scope, work).map_err(|e| Error::io(&self.path, e))?;
            let failed = |_| Error::file(&self.path, "the chat template makes the minijinja crate fail");
            running.join().unwrap_or_else(|panic| Err(failed(panic)))
        })
    }

    fn error(&self, error: &minijinja::Error) -> Error {
        let detail = error.detail().unwrap_or_default();
        if let Some(said) = detail.strip_prefix(RAISED) {
            return Error::file(&self.path, format!("the chat template refuses these messages: {}", quote(said)));
        }
        let line = error.line().map_or_else(String::new, |line| format!(", line {line}"));
        let what = match error.kind() {
            ErrorKind::OutOfFuel => "it takes too many instructions or too much memory".into(),
            kind if detail.is_empty() => kind.to_string(),
            kind => format!("{kind}: {}", quote(detail)),
        };
        Error::file(&self.path, format!("the chat template fails{line}: {what}"))
    }
}

/// `chat_template` as a string, or the one that is named `default` in a list.
fn default_of(config: &Config) -> Result<Option<String>> {
    let key = "chat_template";
    match config.value(key) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(source)) => Ok(Some(source.clone())),
        Some(Json::Array(list)) => {
            let name = |entry: &Json| entry.get("name").and_then(Json::as_str).map(str::to_string);
            let default = list.iter().find(|entry| name(entry).as_deref() == Some("default"));
            match default.and_then(|entry| entry.get("template")).and_then(Json::as_str) {
                Some(source) => Ok(Some(source.to_string())),
                None => {
                    let names: Vec<_> = list.iter().filter_map(name).map(|name| quote(&name)).take(8).collect();
                    let what = format!("expected a template named `default`, found {}", names.join(", "));
                    Err(config.error(key, what))
                }
            }
        }
        Some(other) => Err(config.error(key, format!("expected a template or a list of them, found {}", found(other)))),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(bool) => Value::from(*bool),
        Json::String(text) => Value::from(&text[..]),
        Json::Array(items) => items.iter().map(value).collect(),
        Json::Object(map) => Value::from_pairs(map.iter().map(|(key, json)| (&key[..], value(json)))),
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(n), _) => Value::from(n),
            (None, Some(n)) => Value::from(n),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
    }
}

struct Capped {
    bytes: Vec<u8>,
    full: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_RENDERED_BYTES {
            self.full = true;
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
