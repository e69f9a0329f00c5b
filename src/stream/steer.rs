//! Steering: a direction between two sets of prompts, added to the stream while a text is written.
//!
//! The vector is the difference of means: the mean over the positive prompts of the stream at a point, less the mean over the
//! negative ones. Turner et al., "Activation Addition" (2023), add such differences of pairs; Rimsky et al., "Steering Llama
//! 2 via Contrastive Activation Addition" (2024), take the mean of many, as here.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::sweep::gather;
use super::{Action, Edit, Kind, Point};
use crate::error::{Error, Result};
use crate::files::{Checkpoint, TensorData, TensorOut, quote, safetensors};
use crate::model::{Model, Spec};

/// Which of a prompt's tokens count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Over {
    /// The last.
    #[default]
    Last,
    /// All of them, their mean.
    Mean,
}

/// Directions at points of a model's stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Steering {
    /// A vector for each point, as wide as its rows.
    pub vectors: BTreeMap<Point, Arc<[f32]>>,
    /// [`Model::fingerprint`] of the model that they were taken from.
    pub fingerprint: String,
}

impl Steering {
    /// The mean of the positive prompts at each point, less that of the negative ones; each prompt weighs the same.
    ///
    /// # Errors
    /// [`Error::Input`] where either side has no prompt, for a point that the model does not have, or a pattern; else as
    /// [`Model::trace`].
    pub async fn between(
        model: &Model,
        positive: &[Vec<u32>],
        negative: &[Vec<u32>],
        points: &[Point],
        over: Over,
    ) -> Result<Self> {
        if let Some(point) = points.iter().find(|point| !point.kind.is_editable() || point.kind == Kind::Pattern) {
            return Err(Error::Input(format!("{point} cannot be steered: it has no rows of one length to add to")));
        }
        let mut sums: BTreeMap<Point, Vec<f64>> = BTreeMap::new();
        for (prompts, sign) in [(positive, 1.0), (negative, -1.0)] {
            if prompts.is_empty() {
                return Err(Error::Input("steering needs at least one prompt on each side".into()));
            }
            let texts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
            gather(model, &texts, points, |_, trace| {
                for (point, tensor) in trace.tensors {
                    let width = point.width(model.spec());
                    let rows = match over {
                        Over::Last => &tensor.data[tensor.data.len() - width..],
                        Over::Mean => &tensor.data[..],
                    };
                    let weight = sign / (prompts.len() * (rows.len() / width)) as f64;
                    let sum = sums.entry(point).or_insert_with(|| vec![0.0; width]);
                    for row in rows.chunks_exact(width) {
                        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
                    }
                }
            })
            .await?;
        }
        let narrow = |sum: Vec<f64>| sum.into_iter().map(|x| x as f32).collect();
        let vectors = sums.into_iter().map(|(point, sum)| (point, narrow(sum))).collect();
        Ok(Steering { vectors, fingerprint: model.fingerprint().into() })
    }

    /// [`Steering::between`], blocking the calling thread.
    pub fn between_blocking(
        model: &Model,
        positive: &[Vec<u32>],
        negative: &[Vec<u32>],
        points: &[Point],
        over: Over,
    ) -> Result<Self> {
        pollster::block_on(Self::between(model, positive, negative, points, over))
    }

    /// Writes a safetensors file: a tensor for each point by its full name, f32 `[width]`, and as metadata the model's
    /// `fingerprint` and what else is given.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&self, path: &Path, more: &[(&str, &str)]) -> Result<()> {
        let named: Vec<_> = self.vectors.iter().map(|(point, v)| (point.to_string(), [v.len()], v)).collect();
        let tensors: Vec<_> =
            named.iter().map(|(name, shape, v)| TensorOut { name, shape, data: TensorData::F32(v) }).collect();
        let metadata = [("fingerprint", &*self.fingerprint), ("thalweg", env!("CARGO_PKG_VERSION"))];
        let metadata = metadata.iter().chain(more).map(|(key, value)| (key.to_string(), value.to_string()));
        safetensors::write(path, &tensors, &metadata.collect())
    }

    /// Reads such a file; vectors of another origin have no fingerprint.
    ///
    /// # Errors
    /// [`Error::File`] for a file without tensors, or a tensor that is named after no point or has several rows; else as
    /// [`Checkpoint::open_file`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = Checkpoint::open_file(path)?;
        let mut vectors = BTreeMap::new();
        for info in file.tensors() {
            let Ok(point) = info.name.parse::<Point>() else {
                return Err(file.error(info, format_args!("is named after no stream point, {}", quote(&info.name))));
            };
            if info.shape.len() != 1 {
                return Err(file.error(info, format_args!("expected one vector, found the shape {:?}", info.shape)));
            }
            let mut vector = vec![0.0; info.elements() as usize];
            // a vector is a tensor of as many rows as it has numbers
            file.read_f32_rows(info, 0, info.rows(), &mut vector)?;
            vectors.insert(point, vector.into());
        }
        if vectors.is_empty() {
            return Err(Error::file(path, "has no steering vectors"));
        }
        let fingerprint = file.metadata().get("fingerprint").cloned().unwrap_or_default();
        Ok(Steering { vectors, fingerprint })
    }

    /// The edits that add α times the vectors of a block, in all tokens. Where there is only one vector, it is added in that
    /// block wherever it was taken.
    ///
    /// # Errors
    /// [`Error::Input`] where there is none for the block, or one that the model cannot have: of another width, say.
    pub fn edits(&self, spec: &Spec, block: usize, alpha: f32) -> Result<Vec<Edit>> {
        let mut own: Vec<_> = self.vectors.iter().filter(|(point, _)| point.block == block).collect();
        if own.is_empty() && self.vectors.len() == 1 {
            own.extend(&self.vectors);
        }
        if own.is_empty() {
            let points: Vec<_> = self.vectors.keys().map(ToString::to_string).collect();
            return Err(Error::Input(format!(
                "there is no steering vector for block {block}, but {}",
                points.join(", ")
            )));
        }
        let edit = |(point, vector): (&Point, &Arc<[f32]>)| {
            let point = Point::new(if point.kind.is_per_block() { block } else { 0 }, point.kind);
            let edit = Edit::new(point, Action::Add { vector: Arc::clone(vector), alpha });
            edit.check(spec).map(|()| edit)
        };
        own.into_iter().map(edit).collect()
    }
}
