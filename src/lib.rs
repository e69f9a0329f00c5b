//! thalweg: a GPU engine for transformers that keeps the residual stream resident in one GPU buffer.

mod error;
pub mod files;

pub use error::{Error, Result};
