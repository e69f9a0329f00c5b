//! What is made of config.json, without any GPU: specs, layouts, and what is refused.

mod layouts;
mod published;
mod refused;
mod rope;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thalweg::files::Config;
use thalweg::model::{Family, Spec};

/// A folder or file of the decoders' fixtures.
fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/decoders").join(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The names of all fixture folders.
fn folders() -> Vec<String> {
    let entries = std::fs::read_dir(fixture("")).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> =
        entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 21);
    names
}

/// config.json of a fixture, and its other spelling.
fn spellings(folder: &str) -> [Map<String, Value>; 2] {
    let other = ["config.old.json", "config.new.json"].map(|name| fixture(folder).join(name));
    let other = other.iter().find(|path| path.exists()).unwrap();
    [&fixture(folder).join("config.json"), other].map(|path| json(path).as_object().unwrap().clone())
}

fn read(map: &Map<String, Value>) -> thalweg::Result<(Spec, &'static Family)> {
    Spec::read(&Config::from_map("config.json", map.clone()))
}
