//! What a folder says about the end of a text: `eos_token_id` of generation_config.json, or of config.json.

use std::path::Path;

use serde_json::Value;

use super::config::{Config, MAX_NUMBER};
use super::found;
use crate::Result;

const KEY: &str = "eos_token_id";

/// The ids that end a text, in the file's order. As for transformers' `generate`, a generation_config.json replaces what
/// config.json says, also where it says nothing: then there are none. `config` counts only where that file is missing.
///
/// # Errors
/// [`Error::File`](crate::Error::File) for anything but an id or a list of ids, and for a damaged generation_config.json.
pub fn eos_ids(dir: &Path, config: &Config) -> Result<Vec<u32>> {
    let path = dir.join("generation_config.json");
    if path.exists() { read(&Config::open_file(&path)?) } else { read(config) }
}

fn read(config: &Config) -> Result<Vec<u32>> {
    let Some(value) = config.value(KEY) else { return Ok(Vec::new()) };
    let id = |value: &Value| {
        let id = value.as_u64().filter(|&id| id <= MAX_NUMBER).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| config.error(KEY, format!("expected a token id, or a list of them, found {}", found(value))))
    };
    let mut ids = match value {
        Value::Array(list) => list.iter().map(id).collect::<Result<Vec<_>>>()?,
        value => vec![id(value)?],
    };
    let mut seen = std::collections::BTreeSet::new();
    ids.retain(|id| seen.insert(*id));
    Ok(ids)
}
