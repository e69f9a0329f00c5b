//! Sessions in files: the tokens, and the keys and values that the cache holds of them, as safetensors.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Decoder, Session, SessionOptions};
use crate::error::{Error, Result};
use crate::files::Checkpoint;
use crate::files::safetensors::{self, Dtype, TensorData, TensorOut};
use crate::kernels::attention::PAGE;

/// Key of the metadata that says what the file is; its value is the format's number.
const FORMAT: &str = "thalweg.session";
const VERSION: &str = "1";
/// Key of the metadata that names the model, its weights and their type.
const MODEL: &str = "model";
const EPOCHS: &str = "rope_epochs";
const ENDED: &str = "ended";

impl Session {
    /// Writes the tokens and their keys and values into a file, from which [`Decoder::load_session`] goes on with the same
    /// bits. How tokens are chosen is not part of it.
    ///
    /// # Errors
    /// [`Error::Input`] where the stream is edited; [`Error::Io`], [`Error::OutOfMemory`], [`Error::DeviceLost`],
    /// [`Error::Cancelled`].
    pub async fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if !self.options.edits.is_empty() {
            return Err(Error::Input(
                "a session whose stream is edited cannot be saved: its cache is not the model's".into(),
            ));
        }
        let spec = self.decoder.model().spec();
        let width = 2 * spec.num_key_value_heads * spec.head_size;
        let tokens: Vec<i32> = self.tokens.iter().map(|&id| id as i32).collect();
        let mut blocks = Vec::new();
        for block in 0..spec.num_hidden_layers {
            self.options.task.check()?;
            blocks.push(self.rows(block, width).await?);
        }
        let names: Vec<String> = (0..blocks.len()).map(name).collect();
        let (length, shape) = ([tokens.len()], [self.cached, width]);
        let mut tensors = vec![TensorOut { name: "tokens", shape: &length, data: TensorData::I32(&tokens) }];
        tensors.extend(names.iter().zip(&blocks).map(|(name, rows)| TensorOut {
            name,
            shape: &shape,
            data: TensorData::F32(rows),
        }));
        let epochs: Vec<String> = self.epochs.iter().map(ToString::to_string).collect();
        let metadata = BTreeMap::from([
            (FORMAT.to_string(), VERSION.to_string()),
            (MODEL.to_string(), self.decoder.fingerprint()),
            (EPOCHS.to_string(), epochs.join(" ")),
            (ENDED.to_string(), self.ended.to_string()),
        ]);
        safetensors::write(path.as_ref(), &tensors, &metadata)
    }

    /// [`Session::save`], blocking the calling thread.
    pub fn save_blocking(&self, path: impl AsRef<Path>) -> Result<()> {
        pollster::block_on(self.save(path))
    }

    /// One block's rows of the cache.
    async fn rows(&self, block: usize, width: usize) -> Result<Vec<f32>> {
        if self.cached == 0 {
            return Ok(Vec::new());
        }
        let gpu = &self.decoder.model().gpu;
        let (readback, submission) = {
            let pool = self.decoder.pool();
            pool.read(block, &self.pages)?
        };
        let bytes = gpu.read(&readback, (4 * width * self.cached) as u64, submission).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}

impl Decoder {
    /// A session from a file that [`Session::save`] wrote, with the same model and weights.
    ///
    /// # Errors
    /// [`Error::File`] where the file is damaged or belongs to another model, [`Error::Io`], [`Error::OutOfMemory`],
    /// [`Error::TooLong`].
    pub async fn load_session(&self, path: impl AsRef<Path>, options: SessionOptions) -> Result<Session> {
        let path = path.as_ref();
        let file = Checkpoint::open_file(path)?;
        let said = |key: &str| file.metadata().get(key).map(String::as_str);
        if said(FORMAT) != Some(VERSION) {
            return Err(Error::file(path, "is no saved session of this version"));
        }
        if said(MODEL) != Some(&self.fingerprint()) {
            return Err(Error::file(path, "was saved with another model, other weights or another --dtype"));
        }
        let damaged = |what: &str| Error::file(path, format!("{what} is missing or damaged"));
        let spec = self.model().spec();
        let tokens = self.saved_tokens(&file).ok_or_else(|| damaged("tensor tokens"))?;
        self.model().check_ids(&tokens)?;
        self.fits(tokens.len())?;
        let width = 2 * spec.num_key_value_heads * spec.head_size;
        let infos: Vec<_> = (0..spec.num_hidden_layers).map_while(|block| file.get(&name(block))).collect();
        let cached = infos.first().map_or(0, |info| info.shape.first().copied().unwrap_or(0));
        let fits = |info: &&safetensors::TensorInfo| info.dtype == Dtype::F32 && info.shape == [cached, width];
        if infos.len() != spec.num_hidden_layers || !infos.iter().all(fits) || cached > tokens.len() {
            return Err(damaged("a tensor of the cache"));
        }
        let epochs: Vec<usize> =
            said(EPOCHS).unwrap_or("").split_whitespace().map_while(|number| number.parse().ok()).collect();
        let mut session = self.session(options)?;
        for &id in &tokens {
            session.append(id);
        }
        session.ended = said(ENDED) == Some("true");
        if !session.resume(epochs) {
            return Ok(session); // the cache is made anew with the first step
        }
        if !session.options.edits.is_empty() {
            return Ok(session); // what was saved was not edited
        }
        session.make_room(cached)?;
        let step = PAGE as usize;
        let mut rows = vec![0f32; step * width];
        for (block, info) in infos.into_iter().enumerate() {
            for (page, first) in session.pages.iter().zip((0..cached).step_by(step)) {
                session.options.task.check()?;
                let count = step.min(cached - first);
                let rows = &mut rows[..count * width];
                file.read_f32_rows(info, first, count, rows)?;
                self.pool().write(block, *page, bytemuck::cast_slice(rows))?;
            }
        }
        session.cached = cached;
        Ok(session)
    }

    /// [`Decoder::load_session`], blocking the calling thread.
    pub fn load_session_blocking(&self, path: impl AsRef<Path>, options: SessionOptions) -> Result<Session> {
        pollster::block_on(self.load_session(path, options))
    }

    fn saved_tokens(&self, file: &Checkpoint) -> Option<Vec<u32>> {
        let info = file.get("tokens").filter(|info| info.dtype == Dtype::I32 && info.shape.len() == 1)?;
        // a number of tokens that the model cannot have is not even read
        if info.shape[0] > self.max_tokens() {
            return None;
        }
        let mut bytes = vec![0; info.bytes as usize];
        file.read(info, 0, &mut bytes).ok()?;
        Some(bytemuck::pod_collect_to_vec(&bytes))
    }
}

fn name(block: usize) -> String {
    format!("blocks.{block}.kv")
}
