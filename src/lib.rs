//! thalweg: a GPU engine for transformers that keeps the residual stream resident in one GPU buffer.
//!
//! Open a [`Gpu`], or hand it the device of your own program. Load an [`Encoder`] on it, whose [`Encoder::embed`] turns texts
//! into vectors, or a [`Decoder`], whose [`Session`]s continue texts token by token. [`Model::trace`] brings back what passed
//! points of the stream of either. Futures need no runtime and have `_blocking` twins; handles are `Send + Sync` and used by
//! `&self`; every error is a typed [`Error`].
//!
//! [`chat`] holds conversations and chat templates, [`decode`] sessions and how tokens are chosen. [`schedule`] shows how a
//! model becomes a recording of dispatches, [`kernels`] what those are made of, [`reference`](mod@reference) and [`check`]
//! how they are proven, [`bench`] how fast they are, [`model`] and [`files`] where weights come from, [`stream`] what can be watched.

#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod bench;
mod cache;
pub mod chat;
pub mod check;
pub mod decode;
mod embedded;
mod encode;
mod error;
pub mod files;
pub mod gpu;
pub mod kernels;
pub mod model;
pub mod reference;
pub mod schedule;
pub mod stream;
mod task;
mod tune;

pub use cache::{cache_dir, find_model};
pub use chat::{Chat, ChatOptions, ChatTemplate, Message};
pub use decode::{Decoder, MemoryPlan, Sampling, Session, SessionOptions, TextStream};
pub use embedded::RUSTBOOK;
pub use encode::{EmbedOptions, Embedding, Encoder, Prompt};
pub use error::{Error, Result};
pub use gpu::{AdapterChoice, Capabilities, Gpu, GpuOptions};
pub use model::{Dtype, LoadOptions, Model};
pub use task::{CancelToken, Progress, Task};
pub use tune::Tuning;

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
