//! Edits as JSON, to be kept and shared: `{"edits": [{"point", "tokens", "head", "op", "alpha", "vector"}, …]}`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Action, Edit, Point};
use crate::error::{Error, Result};
use crate::files::{Checkpoint, quote, read_text};
use crate::model::Spec;

/// A file with vectors in it stays far below; larger ones belong into safetensors files.
const MOST_BYTES: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    edits: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    point: String,
    #[serde(default)]
    tokens: Tokens,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    head: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<[usize; 2]>,
    op: Op,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alpha: Option<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<Vector>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(untagged)]
enum Tokens {
    #[default]
    #[serde(skip)]
    Every,
    Range([usize; 2]),
    Word(String),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Set,
    Add,
    Scale,
    Project,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Vector {
    Here(Vec<f32>),
    There(Reference),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    file: PathBuf,
    tensor: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<usize>,
}

/// Reads edits from a JSON file, and proves that a model can have them.
///
/// Each edit has a `point` by its full name and an `op`: `set` and a `vector`, `add` or `project` with a `vector` and
/// `alpha` (1 where it is left out), `scale` with `alpha`. `tokens` is `[first, end]`, without the end, or `"all"`, which it is
/// where it is left out; `head` is a number, or left out for all; `keys` is
/// `[first, end]` of a pattern's keys, or left out for all. A vector is a list of numbers, or `{"file", "tensor", "row"}`:
/// a tensor of a safetensors file beside the JSON file, of which `row` may name one row.
///
/// # Errors
/// [`Error::File`] for what is no such file, naming the edit by its number from 0; [`Error::Input`] for an edit that the
/// model cannot have; [`Error::Io`].
pub fn load_edits(path: &Path, spec: &Spec) -> Result<Vec<Edit>> {
    let text = read_text(path, MOST_BYTES)?;
    let root: Root = serde_json::from_str(&text).map_err(|e| Error::file(path, format!("is no list of edits: {e}")))?;
    let mut edits = Vec::with_capacity(root.edits.len());
    for (i, entry) in root.edits.into_iter().enumerate() {
        let wrong = |what: String| Error::file(path, format!("edit {i}: {what}"));
        let edit = entry.edit(path, &wrong)?;
        edit.check(spec)?;
        edits.push(edit);
    }
    Ok(edits)
}

/// Writes edits as [`load_edits`] reads them, vectors as lists of numbers; every number comes back the same.
///
/// # Errors
/// [`Error::Io`].
pub fn save_edits(path: &Path, edits: &[Edit]) -> Result<()> {
    let root = Root { edits: edits.iter().map(Entry::of).collect() };
    let text = serde_json::to_string_pretty(&root).map_err(|e| Error::file(path, e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|e| Error::io(path, e))
}

impl Entry {
    fn of(edit: &Edit) -> Self {
        let (op, alpha, vector) = match &edit.action {
            Action::Set(vector) => (Op::Set, None, Some(vector)),
            Action::Add { vector, alpha } => (Op::Add, Some(*alpha), Some(vector)),
            Action::Scale(alpha) => (Op::Scale, Some(*alpha), None),
            Action::Project { vector, alpha } => (Op::Project, Some(*alpha), Some(vector)),
        };
        let tokens = match edit.tokens == Edit::ALL {
            true => Tokens::Word("all".into()),
            false => Tokens::Range([edit.tokens.start, edit.tokens.end]),
        };
        let vector = vector.map(|vector| Vector::Here(vector.to_vec()));
        let keys = (edit.keys != Edit::ALL).then_some([edit.keys.start, edit.keys.end]);
        Entry { point: edit.point.to_string(), tokens, head: edit.head, keys, op, alpha, vector }
    }

    fn edit(self, path: &Path, wrong: &dyn Fn(String) -> Error) -> Result<Edit> {
        let Entry { point, tokens, head, keys, op, alpha, vector } = self;
        let point: Point = point.parse().map_err(|_| wrong(format!("{} is no stream point", quote(&point))))?;
        let tokens = match tokens {
            Tokens::Every => Edit::ALL,
            Tokens::Range([start, end]) if start < end => start..end,
            Tokens::Word(word) if word == "all" => Edit::ALL,
            Tokens::Range(range) => return Err(wrong(format!("there is no token from {} to {}", range[0], range[1]))),
            Tokens::Word(word) => {
                return Err(wrong(format!("tokens are [first, end] or \"all\", not {}", quote(&word))));
            }
        };
        let keys = match keys {
            None => Edit::ALL,
            Some([start, end]) if start < end => start..end,
            Some([start, end]) => return Err(wrong(format!("there is no key from {start} to {end}"))),
        };
        let vector = match vector {
            None => None,
            Some(Vector::Here(vector)) => Some(vector.into()),
            Some(Vector::There(reference)) => Some(reference.read(path, wrong)?),
        };
        let action = match (op, vector, alpha) {
            (Op::Set, Some(vector), None) => Action::Set(vector),
            (Op::Add, Some(vector), alpha) => Action::Add { vector, alpha: alpha.unwrap_or(1.0) },
            (Op::Scale, None, Some(alpha)) => Action::Scale(alpha),
            (Op::Project, Some(vector), alpha) => Action::Project { vector, alpha: alpha.unwrap_or(1.0) },
            (Op::Set, ..) => return Err(wrong("set takes a vector, and no alpha".into())),
            (Op::Scale, ..) => return Err(wrong("scale takes alpha, and no vector".into())),
            (Op::Add | Op::Project, None, _) => return Err(wrong("add and project take a vector".into())),
        };
        Ok(Edit { point, tokens, head, keys, action })
    }
}

impl Reference {
    fn read(&self, beside: &Path, wrong: &dyn Fn(String) -> Error) -> Result<Arc<[f32]>> {
        let file = beside.parent().unwrap_or(Path::new("")).join(&self.file);
        let checkpoint = Checkpoint::open_file(&file)?;
        let name = quote(&self.tensor);
        let Some(info) = checkpoint.get(&self.tensor) else {
            return Err(wrong(format!("{} has no tensor {name}", file.display())));
        };
        let (rows, length) = (info.rows(), info.row_len());
        let (first, count) = match self.row {
            None => (0, rows),
            Some(row) if row < rows => (row, 1),
            Some(row) => return Err(wrong(format!("tensor {name} has {rows} rows, and no row {row}"))),
        };
        let mut vector = vec![0.0; count * length];
        checkpoint.read_f32_rows(info, first, count, &mut vector)?;
        Ok(vector.into())
    }
}
