//! Tuning: which of the forms of kernels that give the same bits is the fastest on an adapter, found by timing, and kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::encode::{Encoder, purpose};
use crate::error::{Error, Result};
use crate::files::Encoded;
use crate::gpu::{Gpu, write_whole};
use crate::kernels::{attention, matmul};
use crate::model::{Model, Spec, Tensors};
use crate::schedule::{Batch, Choices, Program, Purpose, Recording, Watch, record};

/// What [`Encoder::tune`] or [`Decoder::tune`](crate::Decoder::tune) found.
#[derive(Clone, Debug, PartialEq)]
pub struct Tuning {
    /// What runs from now on.
    pub choices: Choices,
    /// The fastest forward with each form that was timed; the first are those that ran before.
    pub times: Vec<(Choices, Duration)>,
}

/// All timed forwards together, but for one of each form to warm up.
const BUDGET: Duration = Duration::from_millis(300);

/// A form must be so much faster than the one that runs, lest noise decides.
const GAIN: f64 = 1.05;

/// Times that a form is timed at least, whatever it takes, unless it is far behind another.
const LEAST: u32 = 3;

/// Times that a form should be timed within its share.
const SAMPLES: f64 = 4.0;

/// Tokens of a sequence that is timed.
const SEQUENCE: usize = 128;

impl Encoder {
    /// Times forwards of about so many tokens with each form of products and of attention on this adapter, and runs the fastest
    /// from then on; so do later loads of models of the same shape, since it is kept in the cache directory
    /// ([`LoadOptions::skip_tuning`](crate::LoadOptions::skip_tuning)). A form whose output is not the same to the bit is not
    /// taken, so that no vector changes.
    ///
    /// It takes 0.3 s, and what compiling and trying each form once takes; where so many tokens would take too long, fewer are timed.
    /// Nothing does it by itself. The pace that earlier forwards have shown decides how many, so embed something first.
    ///
    /// # Errors
    /// [`Error::Input`] where the model was loaded with choices of one's own; [`Error::DeviceLost`], [`Error::OutOfMemory`].
    pub async fn tune(&mut self, tokens: usize) -> Result<Tuning> {
        let purpose = purpose(&self.sentence, self.sentence.normalize);
        let tuning = self.model.fastest(&[purpose], tokens, &self.program).await?;
        if tuning.choices != self.model.choices {
            self.model.choices = tuning.choices;
            self.compile()?;
        }
        Ok(tuning)
    }

    /// [`Encoder::tune`], blocking the calling thread.
    pub fn tune_blocking(&mut self, tokens: usize) -> Result<Tuning> {
        pollster::block_on(self.tune(tokens))
    }
}

impl Model {
    /// The fastest forms for the first of some purposes, of those that are right for all of them; kept. `known` has shown how
    /// fast this adapter is.
    pub(crate) async fn fastest(&self, purposes: &[Purpose], tokens: usize, known: &Program) -> Result<Tuning> {
        if self.options.choices.is_some() {
            return Err(Error::Input("the model was loaded with choices that are to stay".into()));
        }
        let capabilities = self.gpu.capabilities();
        let before = self.choices;
        let matmuls: Vec<_> = matmul::Form::choices(capabilities).filter(|form| *form != before.matmul).collect();
        let attentions: Vec<_> = attention::Form::on(capabilities).filter(|form| *form != before.attention).collect();
        let share = BUDGET / (1 + matmuls.len() + attentions.len()) as u32;
        let recording = record(&self.spec, &self.tensors, &purposes[0], before, &Watch::default());
        let most = tokens.clamp(1, known.max_tokens());
        let mut batch = self.timed_batch(&recording, most)?;
        // a slow adapter gets fewer tokens, so that each form is timed a few times all the same
        let seconds = known.pace().seconds(recording.flops(&batch.dims()));
        let fewer = share.as_secs_f64() / SAMPLES / seconds;
        if fewer < 1.0 {
            batch = self.timed_batch(&recording, ((most as f64 * fewer) as usize).max(1))?;
        }
        let mut timer = Timer { model: self, purposes, batch, share, bits: None, times: Vec::new() };
        let mut best = (before, timer.time(before).await?.unwrap_or(Duration::MAX));
        let own = best;
        for matmul in matmuls {
            timer.try_on(Choices { matmul, ..before }, &mut best).await?;
        }
        for attention in attentions {
            timer.try_on(Choices { attention, ..best.0 }, &mut best).await?;
        }
        let times = timer.times;
        let choices = if best.1.mul_f64(GAIN) < own.1 { best.0 } else { before };
        Table::keep(&self.gpu, shape(&self.gpu, &self.spec, &self.tensors), choices);
        Ok(Tuning { choices, times })
    }

    /// Sequences of made-up tokens.
    fn timed_batch(&self, recording: &Recording, tokens: usize) -> Result<Batch> {
        let mut batch = Batch::of(recording);
        let length = tokens.min(SEQUENCE).min(self.spec.max_tokens());
        for _ in 0..tokens / length {
            let ids = (0..length).map(|i| (i * 7919 % self.spec.vocab_size) as u32).collect();
            let input = Encoded { ids, type_ids: vec![0; length], untruncated: length };
            self.push(&mut batch, &input, 0)?;
        }
        Ok(batch)
    }
}

/// Times a model's forwards over one batch.
struct Timer<'a> {
    model: &'a Model,
    /// The first is timed.
    purposes: &'a [Purpose],
    batch: Batch,
    /// For each form.
    share: Duration,
    /// Of the output, which all forms must give.
    bits: Option<Vec<u32>>,
    times: Vec<(Choices, Duration)>,
}

impl Timer<'_> {
    /// Makes it the best if it is.
    async fn try_on(&mut self, choices: Choices, best: &mut (Choices, Duration)) -> Result<()> {
        if let Some(time) = self.time(choices).await?.filter(|time| *time < best.1) {
            *best = (choices, time);
        }
        Ok(())
    }

    /// The fastest of a few forwards; none where the form is wrong here, or sums in another order.
    async fn time(&mut self, choices: Choices) -> Result<Option<Duration>> {
        let Model { gpu, spec, tensors, weights, options, .. } = self.model;
        let record = |purpose| record(spec, tensors, purpose, choices, &Watch::default());
        for purpose in self.purposes.iter().filter(|_| !options.skip_self_check) {
            if !gpu.self_check(&record(purpose).variants()).await?.is_empty() {
                return Ok(None);
            }
        }
        let program = Program::new(gpu, record(&self.purposes[0]), Arc::clone(weights))?;
        let bits: Vec<_> = program.run(&self.batch).await?.output.iter().map(|x| x.to_bits()).collect();
        if *self.bits.get_or_insert_with(|| bits.clone()) != bits {
            return Ok(None);
        }
        let (begin, mut fastest) = (Instant::now(), Duration::MAX);
        for run in 1.. {
            let start = Instant::now();
            program.run(&self.batch).await?;
            fastest = fastest.min(start.elapsed());
            // one sample is noise, unless it is far behind
            let behind = self.times.iter().any(|(_, time)| *time < fastest / 2);
            if behind || run >= LEAST && begin.elapsed() + fastest > self.share {
                break;
            }
        }
        self.times.push((choices, fastest));
        Ok(Some(fastest))
    }
}

/// The fastest forms of an adapter, by the shape of the model; a file of the cache directory.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    /// What the file is about, lest another adapter's is believed.
    about: String,
    shapes: HashMap<String, Forms>,
}

/// As they print.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Forms {
    matmul: String,
    attention: String,
}

impl Table {
    fn open(gpu: &Gpu) -> Self {
        let about = gpu.about();
        let kept = gpu.kept("tuning", "json").and_then(|path| std::fs::read(path).ok());
        let kept: Option<Table> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        kept.filter(|kept| kept.about == about).unwrap_or(Table { about, shapes: HashMap::new() })
    }

    /// These choices, with the forms that were the fastest for such a model, where that is known.
    pub fn choices(gpu: &Gpu, spec: &Spec, tensors: &Tensors, choices: Choices) -> Choices {
        let table = Table::open(gpu);
        let Some(forms) = table.shapes.get(&shape(gpu, spec, tensors)) else { return choices };
        let matmul = matmul::Form::choices(gpu.capabilities()).find(|form| format!("{form:?}") == forms.matmul);
        let attention = attention::Form::on(gpu.capabilities()).find(|form| format!("{form:?}") == forms.attention);
        Choices {
            matmul: matmul.unwrap_or(choices.matmul),
            attention: attention.unwrap_or(choices.attention),
            ..choices
        }
    }

    fn keep(gpu: &Gpu, shape: String, choices: Choices) {
        let mut table = Table::open(gpu);
        let forms = Forms { matmul: format!("{:?}", choices.matmul), attention: format!("{:?}", choices.attention) };
        table.shapes.insert(shape, forms);
        if let (Some(path), Ok(bytes)) = (gpu.kept("tuning", "json"), serde_json::to_vec(&table)) {
            write_whole(&path, &bytes);
        }
    }
}

/// What the times depend on, but for the number of blocks, which are all alike; and the forms that are the adapter's defaults,
/// since what was found has the bits of these.
fn shape(gpu: &Gpu, spec: &Spec, tensors: &Tensors) -> String {
    let Choices { matmul, attention, .. } = Choices::of(gpu.capabilities());
    let types = tensors.blocks.first().map(|block| {
        [&block.qkv, &block.o, &block.up, &block.down].map(|linear| {
            let chunk = linear.weight.chunks.first();
            let stored = chunk.map_or("nothing", |chunk| chunk.weight_type.name());
            format!("{} x {} {stored}", linear.weight.rows, linear.weight.columns)
        })
    });
    let products = types.map(|types| types.join(", ")).unwrap_or_default();
    let (heads, size) = (spec.num_attention_heads, spec.head_size);
    format!("{products}, {heads} heads of {size}, else {matmul:?} and {attention:?}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::gpu::GpuOptions;
    use crate::model::LoadOptions;
    use crate::{Decoder, SessionOptions};

    const MODEL: &str = "tests/fixtures/models/bert_odd";
    const TEXTS: [&str; 3] = ["to be", "or not to be, that is the question", "whether"];

    fn open(cache: &Path) -> Gpu {
        let options = GpuOptions { cache_dir: Some(cache.into()), ..Default::default() };
        Gpu::new_blocking(options).expect("an adapter")
    }

    fn load(gpu: &Gpu, skip_tuning: bool) -> Encoder {
        let options = LoadOptions { skip_tuning, ..Default::default() };
        pollster::block_on(Encoder::load_with(gpu, MODEL, options)).unwrap()
    }

    fn bits(encoder: &Encoder) -> Vec<Vec<u32>> {
        let vectors = encoder.embed_blocking(&TEXTS).unwrap();
        vectors.into_iter().map(|vector| vector.into_iter().map(f32::to_bits).collect()).collect()
    }

    #[test]
    fn tuning_changes_no_bit() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path());
        let mut encoder = load(&gpu, false);
        let (before, was) = (bits(&encoder), encoder.model.choices);
        let tuning = encoder.tune_blocking(40).unwrap();
        assert_eq!(tuning.times[0].0, was);
        let timed: Vec<_> = tuning.times.iter().map(|(choices, _)| *choices).collect();
        assert!(timed.len() > 1 && (0..timed.len()).all(|i| !timed[..i].contains(&timed[i])), "each once");
        assert_eq!(bits(&encoder), before);
        assert_eq!(encoder.model.choices, tuning.choices);
        // every form that was timed gives these bits, whichever was the fastest
        for (choices, _) in tuning.times {
            let choices = Some(choices);
            let options = LoadOptions { choices, ..Default::default() };
            let mut other = pollster::block_on(Encoder::load_with(&gpu, MODEL, options)).unwrap();
            assert_eq!(bits(&other), before, "{choices:?}");
            assert!(matches!(other.tune_blocking(40), Err(Error::Input(_))), "its choices stay");
        }
    }

    /// A prompt and what follows are the same with every form; a decoder that has sessions is left as it is.
    #[test]
    fn tuning_a_decoder_changes_no_bit() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path());
        let load = |choices| {
            let options = LoadOptions { choices, ..Default::default() };
            pollster::block_on(Decoder::load_with(&gpu, "tests/fixtures/decoders/llama_gqa", options)).unwrap()
        };
        let logits = |decoder: &Decoder| {
            let mut session = decoder.session(SessionOptions::default()).unwrap();
            session.prefill_blocking(&[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]).unwrap();
            session.logits_blocking().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let mut decoder = load(None);
        let before = logits(&decoder);
        let session = decoder.session(SessionOptions::default()).unwrap();
        assert!(matches!(decoder.tune_blocking(40), Err(Error::Input(_))), "it has a session");
        drop(session);
        let tuning = decoder.tune_blocking(40).unwrap();
        assert!(tuning.times.len() > 1);
        assert_eq!((decoder.model().choices, logits(&decoder)), (tuning.choices, before.clone()));
        for (choices, _) in tuning.times {
            assert_eq!(logits(&load(Some(choices))), before, "{choices:?}");
        }
    }

    /// A kept form is run from the load on, by name; what cannot be read, or is about something else, is left.
    #[test]
    fn what_was_found_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let gpu = open(folder.path());
        let usual = load(&gpu, false);
        let (before, default) = (bits(&usual), usual.model.choices);
        let matmul = matmul::Form::on(gpu.capabilities()).find(|form| {
            *form != default.matmul && (*form == matmul::Form::Register || *form == matmul::Form::Workgroup)
        });
        let other = Choices { matmul: matmul.expect("two forms run anywhere"), ..default };
        Table::keep(&gpu, shape(&gpu, &usual.model.spec, &usual.model.tensors), other);
        let tuned = load(&open(folder.path()), false);
        assert_eq!((tuned.model.choices, bits(&tuned)), (other, before));
        assert_eq!(load(&gpu, true).model.choices, default, "switched off");
        let path = gpu.kept("tuning", "json").unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        for damaged in [kept.replace(&gpu.about(), "another"), kept.replace("matmul\":\"", "matmul\":\"No"), "{".into()]
        {
            assert_ne!(damaged, kept);
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(load(&gpu, false).model.choices, default);
        }
    }
}
