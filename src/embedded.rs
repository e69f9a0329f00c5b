//! The model that is part of the program, so that there is text before any model is there.

use std::path::Path;

use crate::error::Result;
use crate::files::Gguf;

/// The name by which the embedded model is loaded: a small language model of Rust's documentation, in
/// `examples/rustbook`. It stands for that model and no folder where the feature `rustbook` is on.
pub const RUSTBOOK: &str = "rustbook";

#[cfg(feature = "rustbook")]
const BYTES: Option<&[u8]> = Some(include_bytes!("../examples/rustbook/rustbook.gguf"));
#[cfg(not(feature = "rustbook"))]
const BYTES: Option<&[u8]> = None;

/// Whether a path is the embedded model's name.
pub(crate) fn is_embedded(model: &Path) -> bool {
    BYTES.is_some() && model == Path::new(RUSTBOOK)
}

/// The embedded model, where the path is its name.
pub(crate) fn open(model: &Path) -> Option<Result<Gguf>> {
    BYTES.filter(|_| is_embedded(model)).map(|bytes| Gguf::from_static(model, bytes))
}
