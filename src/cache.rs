//! The user's cache directory, and the models in it.

use std::path::{Path, PathBuf};

use crate::embedded::is_embedded;
use crate::error::{Error, Result};

/// The folder or file of a model: a path, or a name in `thalweg/models` of the user's cache directory. The embedded
/// model's name stays as it is.
///
/// # Errors
/// [`Error::Input`] that says where was looked.
pub fn find_model(model: &Path) -> Result<PathBuf> {
    if is_embedded(model) || model.exists() {
        return Ok(model.into());
    }
    let plain_name = model.components().count() == 1 && model.is_relative();
    let cached = cache_dir().map(|cache| cache.join("models").join(model)).filter(|_| plain_name);
    match cached {
        Some(path) if path.exists() => Ok(path),
        Some(path) => Err(Error::Input(format!(
            "there is no model {}: neither that path nor {} exists",
            model.display(),
            path.display()
        ))),
        None => Err(Error::Input(format!("there is no model {}", model.display()))),
    }
}

/// Where this crate keeps what it can make or fetch again: `THALWEG_CACHE`, else `thalweg` in the user's cache.
pub fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("THALWEG_CACHE").or_else(|| {
        let base = if cfg!(windows) {
            set("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            set("HOME").map(|home| home.join("Library/Caches"))
        } else {
            set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))
        };
        base.map(|base| base.join("thalweg"))
    })
}
