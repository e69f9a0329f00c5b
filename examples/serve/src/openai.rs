//! OpenAI's shapes: requests, answers and errors.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use thalweg::{Error, Message, Sampling};

/// `/v1/chat/completions` and `/v1/completions`: what the two have in common, and what only one has.
#[derive(Deserialize)]
pub struct Completion {
    pub model: String,
    pub messages: Option<Vec<ChatMessage>>,
    pub prompt: Option<Prompt>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    stop: Option<OneOrMany>,
    seed: Option<i64>,
    n: Option<u32>,
    pub stream: Option<bool>,
    stream_options: Option<StreamOptions>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
pub struct ChatMessage {
    role: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Value>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

#[derive(Deserialize)]
pub struct Embeddings {
    pub model: String,
    pub input: Prompt,
    pub encoding_format: Option<String>,
    pub dimensions: Option<usize>,
}

impl OneOrMany {
    pub fn list(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

impl Completion {
    pub fn max_tokens(&self) -> Option<usize> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    pub fn stops(&mut self) -> Vec<String> {
        self.stop.take().map(OneOrMany::list).unwrap_or_default()
    }

    /// OpenAI's default temperature is 1.
    pub fn sampling(&self) -> Result<Sampling, ApiError> {
        if self.n.unwrap_or(1) != 1 {
            return Err(ApiError::request("n: only 1 is supported"));
        }
        // without a seed, each request draws others
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let seed = self.seed.map(|seed| seed as u64).unwrap_or_else(|| clock.map_or(0, |time| time.as_nanos() as u64));
        let (temperature, top_p) = (self.temperature.unwrap_or(1.0), self.top_p.unwrap_or(1.0));
        let sampling = Sampling { temperature, top_p, seed, ..Default::default() };
        sampling.validate()?;
        Ok(sampling)
    }
}

impl ChatMessage {
    pub fn message(self) -> Result<Message, ApiError> {
        let text_of = |part: Value| match (part["type"].as_str(), part["text"].as_str()) {
            (Some("text"), Some(text)) => Ok(text.to_string()),
            _ => Err(ApiError::request("messages: only content of type text is supported")),
        };
        let content = match self.content {
            None => String::new(),
            Some(Content::Text(text)) => text,
            Some(Content::Parts(parts)) => parts.into_iter().map(text_of).collect::<Result<_, _>>()?,
        };
        // newer clients say developer
        let role = if self.role == "developer" { "system".into() } else { self.role };
        Ok(Message { role, content })
    }
}

/// An error as OpenAI's clients understand it.
pub struct ApiError {
    status: StatusCode,
    message: String,
    code: Option<&'static str>,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>, code: Option<&'static str>) -> Self {
        ApiError { status, message: message.into(), code }
    }

    /// The client's mistake.
    pub fn request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, None)
    }

    pub fn json(&self) -> Value {
        let kind = if self.status.is_client_error() { "invalid_request_error" } else { "server_error" };
        json!({"error": {"message": self.message, "type": kind, "param": null, "code": self.code}})
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (status, code) = match &error {
            Error::TooLong { .. } => (StatusCode::BAD_REQUEST, Some("context_length_exceeded")),
            // a template that refuses these messages
            Error::Input(_) | Error::File { .. } => (StatusCode::BAD_REQUEST, None),
            Error::OutOfMemory(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
        };
        ApiError::new(status, error.to_string(), code)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.json())).into_response()
    }
}

/// Little-endian f32, as OpenAI's clients ask for vectors.
pub fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            out.push(if i <= chunk.len() { digit.into() } else { '=' });
        }
    }
    out
}
