//! Cold start: how long it takes from nothing to the first result, and how much memory that takes. It is measured in a process
//! of its own, since everything after the first time is warm.

use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::decode::{Decoder, SessionOptions};
use crate::encode::Encoder;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::model::{Files, LoadOptions};

/// One start, until the first result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The model.
    pub model: String,
    /// `empty` or `warm`: the driver's cache of compiled pipelines, the engine's, and the verdicts of its self-check.
    pub pipeline_cache: String,
    /// Seconds until the device was open.
    pub open_s: f64,
    /// Seconds until the model was loaded, its kernels compiled and tried.
    pub load_s: f64,
    /// Seconds from then on until the first vector, or the first token.
    pub first_s: f64,
    /// Bytes of all buffers that were allocated on the GPU.
    pub gpu_bytes: u64,
    /// The most memory that the process had on the host, where the system says.
    pub host_peak_bytes: Option<u64>,
}

/// Starts once, in this process.
///
/// # Errors
/// As opening a [`Gpu`] and loading a model.
pub fn start(machine: GpuOptions, model: &Path, options: LoadOptions) -> Result<Start> {
    let files = Files::open(model)?;
    let decoder = files.spec.is_decoder();
    drop(files);
    let begin = Instant::now();
    let gpu = Gpu::new_blocking(machine)?;
    let open_s = begin.elapsed().as_secs_f64();
    let begin = Instant::now();
    let (load_s, first) = if decoder {
        let decoder = pollster::block_on(Decoder::load_with(&gpu, model, options))?;
        let loaded = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let vocabulary = decoder.model().spec().vocab_size as u32;
        let mut session = decoder.session(SessionOptions { ignore_eos: true, ..SessionOptions::default() })?;
        session.prefill_blocking(&(0..8).map(|id| id % vocabulary).collect::<Vec<_>>())?;
        let token = session.next_token_blocking()?;
        (loaded, token.map(|_| begin.elapsed()))
    } else {
        let encoder = pollster::block_on(Encoder::load_with(&gpu, model, options))?;
        let loaded = begin.elapsed().as_secs_f64();
        let begin = Instant::now();
        let vectors = encoder.embed_blocking(&["to be or not to be"])?;
        (loaded, vectors.first().map(|_| begin.elapsed()))
    };
    let nothing = || Error::Input("the model's first result is nothing".into());
    Ok(Start {
        open_s,
        load_s,
        first_s: first.ok_or_else(nothing)?.as_secs_f64(),
        gpu_bytes: gpu.counts().bytes,
        host_peak_bytes: host_peak(),
        ..Start::default()
    })
}

/// A model's name, from its path: of a file without its end, of a folder all of it.
pub fn model_name(path: &Path) -> String {
    let is_file = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    let name = if is_file { path.file_stem() } else { path.file_name() };
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The largest resident set of this process.
fn host_peak() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::model_name;
    use std::path::Path;

    #[test]
    fn a_folder_keeps_its_dots() {
        let name = |path: &str| model_name(Path::new(path));
        assert_eq!((name("a/Llama-3.2-1B"), name("a/b.q8_0.gguf")), ("Llama-3.2-1B".into(), "b.q8_0".into()));
        assert_eq!((name("rustbook"), name("..")), ("rustbook".into(), "..".into()));
    }
}
