//! OpenAI's HTTP interface on loopback, in front of thalweg:
//! `cargo run --release -p thalweg-serve -- --model SmolLM2-135M-Instruct --embed-model all-MiniLM-L6-v2 --port 8080`
//!
//! It has no keys and no limits of rates, and is reachable from this machine only.

mod engine;
mod openai;

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thalweg::files::Tokenizer;
use thalweg::{ChatTemplate, Decoder, EmbedOptions, Encoder, Gpu, GpuOptions, find_model};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_stream::wrappers::UnboundedReceiverStream;

use engine::{Engine, Event, Job};
use openai::{ApiError, Completion, Embeddings, Prompt, base64};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What answers requests.
struct Server {
    writer: Option<Writer>,
    embedder: Option<(String, Encoder)>,
}

struct Writer {
    name: String,
    decoder: Decoder,
    template: ChatTemplate,
    engine: Engine,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,wgpu_hal=off")).init();
    let (mut model, mut embed_model, mut port) = (None, None, 8080u16);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().ok_or("usage: serve [--model M] [--embed-model E] [--port N]")?;
        match &argument[..] {
            "--model" => model = Some(value),
            "--embed-model" => embed_model = Some(value),
            "--port" => port = value.parse()?,
            _ => return Err(format!("{argument}: no such option").into()),
        }
    }
    let gpu = Gpu::new(GpuOptions::default()).await?;
    let writer = match model {
        Some(model) => Some(Writer::load(&gpu, &model).await?),
        None => None,
    };
    let embedder = match embed_model {
        Some(model) => Some((name_of(&model), Encoder::load(&gpu, &model).await?)),
        None => None,
    };
    let routes = axum::Router::new()
        .route("/v1/models", get(models))
        .route("/v1/chat/completions", post(complete))
        .route("/v1/completions", post(complete))
        .route("/v1/embeddings", post(embed))
        .route("/sessions", get(sessions))
        .fallback(async || ApiError::new(StatusCode::NOT_FOUND, "no such path", None))
        .with_state(Arc::new(Server { writer, embedder }));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("http://{}/v1", listener.local_addr()?);
    axum::serve(listener, routes).await?;
    Ok(())
}

/// What clients call a model: its folder's name.
fn name_of(model: &str) -> String {
    Path::new(model).file_name().map_or_else(|| model.to_string(), |name| name.to_string_lossy().into())
}

impl Writer {
    async fn load(gpu: &Gpu, model: &str) -> Result<Self, Failure> {
        let decoder = Decoder::load(gpu, model).await?;
        decoder.model().tokenizer()?;
        let template = ChatTemplate::open(&find_model(Path::new(model))?)?.unwrap_or_else(ChatTemplate::neutral);
        let engine = Engine::start(decoder.clone());
        Ok(Writer { name: name_of(model), decoder, template, engine })
    }

    /// The prompts of a request as ids.
    fn prompts(&self, tokenizer: &Tokenizer, request: &mut Completion) -> Result<Vec<Vec<u32>>, ApiError> {
        if let Some(messages) = request.messages.take() {
            let messages = messages.into_iter().map(|m| m.message()).collect::<Result<Vec<_>, _>>()?;
            return Ok(vec![self.template.encode(tokenizer, &messages, true)?]);
        }
        let encode = |text: &String| Ok(tokenizer.encode(text, usize::MAX, true)?.ids);
        match request.prompt.take() {
            Some(Prompt::Text(text)) => Ok(vec![encode(&text)?]),
            Some(Prompt::Texts(texts)) => texts.iter().map(encode).collect(),
            Some(Prompt::Ids(ids)) => Ok(vec![ids]),
            Some(Prompt::ManyIds(lists)) => Ok(lists),
            None => Err(ApiError::request("messages or prompt is missing")),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::request(format!("the request cannot be read: {error}")))
}

fn unknown(model: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, format!("the model {model:?} is not served"), Some("model_not_found"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

async fn models(State(server): State<Arc<Server>>) -> Json<Value> {
    let names = server.writer.iter().map(|w| &w.name).chain(server.embedder.iter().map(|(name, _)| name));
    let entry = |name| json!({"id": name, "object": "model", "created": now(), "owned_by": "thalweg"});
    Json(json!({"object": "list", "data": names.map(entry).collect::<Vec<_>>()}))
}

/// How many sessions there are, to watch them come and go.
async fn sessions(State(server): State<Arc<Server>>) -> Json<Value> {
    Json(json!({"active": server.writer.as_ref().map_or(0, |w| w.engine.active())}))
}

async fn complete(State(server): State<Arc<Server>>, uri: axum::http::Uri, body: Bytes) -> Result<Response, ApiError> {
    let chat = uri.path().contains("/chat/");
    let mut request: Completion = parse(&body)?;
    if chat != request.messages.is_some() {
        return Err(ApiError::request(if chat { "messages is missing" } else { "messages is for chat completions" }));
    }
    let Some(writer) = server.writer.as_ref().filter(|w| w.name == request.model) else {
        return Err(unknown(&request.model));
    };
    let tokenizer = writer.decoder.model().tokenizer()?;
    let sampling = request.sampling()?;
    let mut stops = request.stops();
    if stops.iter().any(String::is_empty) || stops.len() > 16 {
        return Err(ApiError::request("stop: at most 16 strings, none of them empty"));
    }
    if chat {
        stops.extend(writer.template.stops().iter().map(|stop| stop.to_string()));
    }
    let limit = writer.decoder.max_tokens();
    // OpenAI's default for completions is 16
    let max_tokens = request.max_tokens().unwrap_or(if chat { limit } else { 16 });
    let prompts = writer.prompts(tokenizer, &mut request)?;
    let prompt_tokens: usize = prompts.iter().map(Vec::len).sum();
    let rows = writer.decoder.model().spec().vocab_size as u32;
    for ids in &prompts {
        if ids.is_empty() || ids.iter().any(|&id| id >= rows) {
            return Err(ApiError::request("prompt: expected at least one token, all of them in the vocabulary"));
        }
        if ids.len() > limit {
            return Err(thalweg::Error::TooLong { tokens: ids.len(), limit }.into());
        }
    }
    let (events, receiver) = unbounded_channel();
    let count = prompts.len();
    for (index, ids) in prompts.into_iter().enumerate() {
        let (stops, events) = (stops.clone(), events.clone());
        writer.engine.push(Job { ids, max_tokens, sampling, stops, index, events });
    }
    drop(events);
    let shape = Shape { chat, model: writer.name.clone(), created: now(), prompt_tokens };
    if request.stream.unwrap_or(false) {
        return Ok(stream(shape, receiver, count, request.include_usage()));
    }
    whole(shape, receiver, count).await.map(IntoResponse::into_response)
}

/// What the parts of an answer have in common.
struct Shape {
    chat: bool,
    model: String,
    created: u64,
    prompt_tokens: usize,
}

impl Shape {
    fn object(&self, streamed: bool, choices: Value, usage: Value) -> Value {
        let (prefix, object) = match (self.chat, streamed) {
            (true, true) => ("chatcmpl", "chat.completion.chunk"),
            (true, false) => ("chatcmpl", "chat.completion"),
            (false, _) => ("cmpl", "text_completion"),
        };
        json!({"id": format!("{prefix}-{}", self.created), "object": object, "created": self.created,
            "model": self.model, "choices": choices, "usage": usage})
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({"prompt_tokens": self.prompt_tokens, "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens})
    }

    fn chunk(&self, index: usize, text: &str, finish: Option<&str>) -> Value {
        let delta = match finish {
            None => json!({"role": "assistant", "content": text}),
            Some(_) => json!({}),
        };
        let choice = if self.chat {
            json!({"index": index, "delta": delta, "finish_reason": finish, "logprobs": null})
        } else {
            json!({"index": index, "text": text, "finish_reason": finish, "logprobs": null})
        };
        self.object(true, json!([choice]), Value::Null)
    }
}

/// The answer as it is written, in server-sent events. When the client is gone, the channels close one after the
/// other.
fn stream(shape: Shape, mut events: UnboundedReceiver<(usize, Event)>, count: usize, usage: bool) -> Response {
    let (lines, receiver) = unbounded_channel();
    let send =
        move |data: String| lines.send(Ok::<_, std::convert::Infallible>(SseEvent::default().data(data))).is_ok();
    tokio::spawn(async move {
        let (mut done, mut tokens) = (0, 0);
        while done < count {
            let Some((index, event)) = events.recv().await else { return };
            let part = match event {
                Event::Text(text) => shape.chunk(index, &text, None),
                Event::Done(reason, written) => {
                    done += 1;
                    tokens += written;
                    shape.chunk(index, "", Some(reason))
                }
                Event::Failed(error) => {
                    send(ApiError::from(error).json().to_string());
                    return;
                }
            };
            if !send(part.to_string()) {
                return;
            }
        }
        if usage {
            send(shape.object(true, json!([]), shape.usage(tokens)).to_string());
        }
        send("[DONE]".into());
    });
    Sse::new(UnboundedReceiverStream::new(receiver)).keep_alive(KeepAlive::default()).into_response()
}

/// The answer in one piece.
async fn whole(
    shape: Shape,
    mut events: UnboundedReceiver<(usize, Event)>,
    count: usize,
) -> Result<Json<Value>, ApiError> {
    let (mut texts, mut reasons, mut tokens) = (vec![String::new(); count], vec![None; count], 0);
    while let Some((index, event)) = events.recv().await {
        match event {
            Event::Text(text) => texts[index].push_str(&text),
            Event::Done(reason, written) => {
                reasons[index] = Some(reason);
                tokens += written;
            }
            Event::Failed(error) => return Err(error.into()),
        }
    }
    if reasons.contains(&None) {
        return Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the engine has ended", None));
    }
    let choices: Vec<Value> = texts
        .iter()
        .zip(reasons)
        .enumerate()
        .map(|(index, (text, reason))| {
            let mut choice = json!({"index": index, "finish_reason": reason, "logprobs": null});
            if shape.chat {
                choice["message"] = json!({"role": "assistant", "content": text});
            } else {
                choice["text"] = text.as_str().into();
            }
            choice
        })
        .collect();
    Ok(Json(shape.object(false, json!(choices), shape.usage(tokens))))
}

async fn embed(State(server): State<Arc<Server>>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let request: Embeddings = parse(&body)?;
    let Some((name, encoder)) = server.embedder.as_ref().filter(|(name, _)| *name == request.model) else {
        return Err(unknown(&request.model));
    };
    let texts = match request.input {
        Prompt::Text(text) => vec![text],
        Prompt::Texts(texts) if !texts.is_empty() => texts,
        _ => return Err(ApiError::request("input: expected a string or a list of strings")),
    };
    let in_base64 = match request.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(ApiError::request("encoding_format: expected float or base64")),
    };
    let embeddings = encoder.embed_with(&texts, &EmbedOptions::default()).await?;
    let size = embeddings.first().map_or(0, |e| e.vector.len());
    if request.dimensions.is_some_and(|dimensions| dimensions != size) {
        return Err(ApiError::request(format!("dimensions: this model has {size}")));
    }
    let tokens: usize = embeddings.iter().map(|e| e.tokens).sum();
    let data: Vec<Value> = embeddings
        .into_iter()
        .enumerate()
        .map(|(index, embedding)| {
            let vector = if in_base64 { base64(&embedding.vector).into() } else { json!(embedding.vector) };
            json!({"object": "embedding", "index": index, "embedding": vector})
        })
        .collect();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Json(json!({"object": "list", "model": name, "data": data, "usage": usage})))
}
