//! A Hugging Face folder as a GGUF file that llama.cpp reads, quantised on the way.
//!
//! `architecture` says what llama.cpp's architectures can say, `names` what it calls tensors, `keys` and `vocabulary`
//! make the metadata, and `plan` says what each tensor is made of. What a file cannot say is refused before it is
//! written.

mod architecture;
mod keys;
mod names;
mod plan;
mod pre_tokenizer;
mod vocabulary;

use std::collections::BTreeMap;
use std::path::Path;

use super::Spec;
use crate::error::{Error, Result};
use crate::files::{Checkpoint, Config, GgmlType, GgufWriter, QuantiseError, SentenceConfig, can_quantise, quantise};
use crate::task::Task;
use plan::{Change, Job, Source};

/// Elements that are read at a time.
const STEP: usize = 1 << 20;

/// What a file that was written holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// How many tensors there are of each type, by its name.
    pub types: BTreeMap<String, usize>,
    /// The size of all tensors in bytes.
    pub bytes: u64,
}

/// Writes the Hugging Face or sentence-transformers folder `dir` as the GGUF file `out`, with llama.cpp's keys and
/// names.
///
/// Matrices and the word table are stored as `to`, which is F32, F16, Q8_0 or Q4_0; where a row is not whole blocks, as
/// F16. Norms, biases, positions and types stay F32. `out` is replaced when all is written, and stays as it was after
/// an error. Progress is in bytes of the file's tensors.
///
/// # Errors
/// [`Error::Unsupported`] for a model or tokenizer that llama.cpp's architectures cannot express, and for another `to`;
/// [`Error::File`] naming the file and tensor for damage, and for numbers that `to` cannot hold; [`Error::Io`];
/// [`Error::Cancelled`].
pub fn write_gguf(dir: &Path, out: &Path, to: GgmlType, task: &Task) -> Result<Written> {
    if !can_quantise(to) {
        return Err(Error::unsupported(out, format!("writing {to}")));
    }
    let sentence = SentenceConfig::open(dir)?;
    let dir = &sentence.transformer_dir;
    let config = Config::open(dir)?;
    let (spec, family) = Spec::read(&config)?;
    let arch = keys::architecture(&spec, &config)?;
    let checkpoint = Checkpoint::open(dir)?;
    let mut metadata = keys::general(arch, dir, to);
    let (model, factors) = keys::model(arch, &spec, &config, &sentence)?;
    let jobs = plan::plan(arch, &spec, &family.names, &checkpoint, factors, to)?;
    metadata.extend(model);
    metadata.extend(vocabulary::vocabulary(dir, &config, spec.vocab_size, sentence.do_lower_case)?);

    let mut written = Written::default();
    let mut total = 0;
    for job in &jobs {
        total += job.out.bytes()?;
        *written.types.entry(job.out.ggml_type.to_string()).or_default() += 1;
    }
    let tensors: Vec<_> = jobs.iter().map(|job| job.out.clone()).collect();
    let mut writer = GgufWriter::create(out, &metadata, &tensors)?;
    for job in &jobs {
        write_tensor(&checkpoint, job, |bytes| {
            task.check()?;
            writer.write(bytes)?;
            written.bytes += bytes.len() as u64;
            task.report(written.bytes, total);
            Ok(())
        })?;
    }
    writer.finish()?;
    Ok(written)
}

/// Reads, changes and quantises one tensor, a range of rows at a time.
fn write_tensor(checkpoint: &Checkpoint, job: &Job, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let ggml_type = job.out.ggml_type;
    let mut bytes = Vec::new();
    let mut store = |values: &[f32], first: usize, error: &dyn Fn(QuantiseError) -> Error| {
        let (elements, block_bytes) = ggml_type.block().unwrap_or((1, 4));
        bytes.resize(values.len() / elements as usize * block_bytes as usize, 0);
        quantise(ggml_type, values, &mut bytes).map_err(|e| error(e.after(first)))?;
        put(&bytes)
    };
    let (name, change) = match &job.source {
        Source::Values(values) => return store(values, 0, &|e| Error::Input(format!("{}: {e}", job.out.name))),
        Source::Tensor(name, change) => (name, *change),
    };
    let Some(info) = checkpoint.get(name) else {
        return Err(Error::file(checkpoint.dir(), format!("tensor {name} is missing")));
    };
    let error = |e: QuantiseError| checkpoint.error(info, e);
    let (rows, columns) = (info.rows(), info.row_len());
    let (mut values, mut turned) = (Vec::new(), Vec::new());
    if change == Change::Transpose {
        // the columns of such a matrix lie far apart: it is read as a whole
        values.resize(rows * columns, 0.0);
        checkpoint.read_f32_rows(info, 0, rows, &mut values)?;
        let step = (STEP / rows).max(1);
        for first in (0..columns).step_by(step) {
            turned.clear();
            for column in first..columns.min(first + step) {
                turned.extend(values.iter().skip(column).step_by(columns));
            }
            store(&turned, first * rows, &error)?;
        }
        return Ok(());
    }
    let unit = if let Change::Neighbours(head) = change { head } else { 1 };
    let step = (STEP / columns).max(1).next_multiple_of(unit);
    for first in (0..rows).step_by(step) {
        let count = step.min(rows - first);
        values.resize(count * columns, 0.0);
        checkpoint.read_f32_rows(info, first, count, &mut values)?;
        match change {
            Change::Neighbours(head) => {
                turned.clear();
                for head in values.chunks(head * columns) {
                    let (lower, upper) = head.split_at(head.len() / 2);
                    for (lower, upper) in lower.chunks(columns).zip(upper.chunks(columns)) {
                        turned.extend_from_slice(lower);
                        turned.extend_from_slice(upper);
                    }
                }
                std::mem::swap(&mut values, &mut turned);
            }
            Change::PlusOne => values.iter_mut().for_each(|x| *x += 1.0),
            Change::None | Change::Transpose => {}
        }
        store(&values, first * columns, &error)?;
    }
    Ok(())
}
