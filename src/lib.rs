//! thalweg: a GPU engine for transformers that keeps the residual stream resident in one GPU buffer.

#![warn(missing_docs)]

pub mod check;
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

pub use encode::{EmbedOptions, Embedding, Encoder, LoadOptions, Prompt, cache_dir, find_model};
pub use error::{Error, Result};
pub use gpu::{AdapterChoice, Capabilities, Gpu, GpuOptions};
pub use model::Dtype;
pub use task::{CancelToken, Progress, Task};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
