//! Encoders: texts to vectors, exactly as the model's sentence-transformers folder says.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::error::{Error, Result};
use crate::files::{Encoded, SentenceConfig, Tokenizer};
use crate::gpu::Gpu;
use crate::model::{Files, LoadOptions, Model, Spec};
use crate::schedule::{Batch, Head, Outcome, Program, Purpose, Running, Watch, record};
use crate::stream::{Tap, Trace};
use crate::task::Task;

/// How texts are embedded.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// Whether vectors are scaled to length 1, where the model says so.
    pub normalize: bool,
    /// Most tokens of a batch; a longer text gets a batch of its own.
    pub batch_tokens: usize,
    /// What is put in front of each text.
    pub prompt: Prompt,
    /// Cancels and watches; progress is in texts.
    pub task: Task,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions { normalize: true, batch_tokens: BATCH_TOKENS, prompt: Prompt::Default, task: Task::default() }
    }
}

/// Tokens of a batch where nothing else is said: what a load reserves buffers for.
pub(crate) const BATCH_TOKENS: usize = 2048;

/// Fewer texts are tokenised before a thread has begun.
const TEXTS_A_THREAD: usize = 16;

/// Which of the model's prompts is put in front of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Prompt {
    /// The one that the folder names as its default, if any.
    #[default]
    Default,
    /// None.
    None,
    /// The one of that name.
    Named(String),
}

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Tokens that went through the model, special ones included.
    pub tokens: usize,
    /// Tokens that the whole text has: more than `tokens` where it was truncated.
    pub untruncated: usize,
    /// The vector.
    pub vector: Vec<f32>,
}

/// An encoder on the GPU. `Send + Sync`, used by `&self`: threads embed side by side.
pub struct Encoder {
    pub(crate) model: Model,
    pub(crate) sentence: SentenceConfig,
    /// As the model says.
    pub(crate) program: Program,
    /// Without the model's normalisation, where it has one; its buffers are made when it is first used.
    plain: Option<Program>,
}

impl Encoder {
    /// Loads a Hugging Face or sentence-transformers folder, or a model by its name from the user's cache.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unsupported`] or [`Error::Io`] naming the file and tensor; [`Error::OutOfMemory`].
    pub async fn load(gpu: &Gpu, model: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(gpu, model, LoadOptions::default()).await
    }

    /// [`Encoder::load`], blocking the calling thread.
    pub fn load_blocking(gpu: &Gpu, model: impl AsRef<Path>) -> Result<Self> {
        pollster::block_on(Self::load(gpu, model))
    }

    /// Loads with options.
    ///
    /// # Errors
    /// As [`Encoder::load`], and [`Error::Cancelled`].
    pub async fn load_with(gpu: &Gpu, model: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let mut files = Files::open(model.as_ref())?;
        files.spec.masked_head = None; // vectors need none of it
        let sentence = files.sentence.clone();
        if files.spec.is_decoder() {
            let what = format!("embeddings of {:?}, a language model", files.spec.model_type);
            return Err(Error::unsupported(&files.path, what));
        }
        check_sentence(&files.path, &files.spec, &sentence)?;
        if files.tokenizer.is_none() {
            if files.path.is_dir() {
                Tokenizer::open(&files.path)?; // says what is missing
            }
            return Err(Error::file(&files.path, "has no tokenizer"));
        }
        let layout = files.layout(gpu, options.dtype)?;
        let model = Model::open(gpu, files, layout, &[purpose(&sentence, sentence.normalize)], &options).await?;
        let (program, plain) = programs(&model, &sentence)?;
        Ok(Encoder { model, sentence, program, plain })
    }

    /// Compiles the programs again, with the model's choices as they are now.
    pub(crate) fn compile(&mut self) -> Result<()> {
        (self.program, self.plain) = programs(&self.model, &self.sentence)?;
        Ok(())
    }

    /// The same encoder on another [`Gpu`], as after [`Gpu::rebuild`].
    ///
    /// # Errors
    /// As [`Model::rebuild`].
    pub async fn rebuild(&self, gpu: &Gpu) -> Result<Self> {
        let again = Self::load_with(gpu, &self.model.origin, self.model.options.clone()).await?;
        self.model.is_again(&again.model)?;
        Ok(again)
    }

    /// [`Encoder::rebuild`], blocking the calling thread.
    pub fn rebuild_blocking(&self, gpu: &Gpu) -> Result<Self> {
        pollster::block_on(self.rebuild(gpu))
    }

    /// Embeds texts, in their order. Texts that are too long for the model are cut, which is logged as a warning;
    /// [`Encoder::embed_with`] says of each.
    ///
    /// # Errors
    /// As [`Encoder::embed_with`].
    pub async fn embed<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>> {
        let embeddings = self.embed_with(texts, &EmbedOptions::default()).await?;
        let cut = embeddings.iter().filter(|e| e.untruncated > e.tokens).count();
        if cut > 0 {
            log::warn!("{cut} of {} texts had more than {} tokens and were cut", texts.len(), self.max_tokens());
        }
        Ok(embeddings.into_iter().map(|e| e.vector).collect())
    }

    /// [`Encoder::embed`], blocking the calling thread.
    pub fn embed_blocking<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<Vec<f32>>> {
        pollster::block_on(self.embed(texts))
    }

    /// Embeds texts, in their order, in ragged batches of similar lengths. A text's vector has the same bits whatever
    /// else is embedded beside it.
    ///
    /// # Errors
    /// [`Error::Input`] for a prompt that the model does not have, [`Error::Cancelled`], [`Error::DeviceLost`],
    /// [`Error::OutOfMemory`].
    pub async fn embed_with<S: AsRef<str>>(&self, texts: &[S], options: &EmbedOptions) -> Result<Vec<Embedding>> {
        let (prompt, skip) = self.prompt(&options.prompt)?;
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let inputs = self.encode_all(&prompt, &texts, &options.task)?;
        let program = self.plain.as_ref().filter(|_| !options.normalize).unwrap_or(&self.program);
        let most = options.batch_tokens.clamp(1, program.max_tokens());
        let mut vectors = vec![Vec::new(); inputs.len()];
        let mut done = 0;
        // the GPU has the next batch before it is through with the one before
        let mut before: Option<(Running<'_>, Vec<usize>)> = None;
        for members in pack(&inputs, most).into_iter().map(Some).chain([None]) {
            options.task.check()?;
            let mut next = None;
            if let Some(members) = members {
                let mut batch = Batch::of(program.recording());
                for &i in &members {
                    self.model.push(&mut batch, &inputs[i], skip)?;
                }
                next = Some((program.start(&batch, None), batch, members));
            }
            if let Some((running, members)) = before.take() {
                let Outcome { output, .. } = running.finish().await?;
                let width = output.len() / members.len();
                for (&i, vector) in members.iter().zip(output.chunks_exact(width)) {
                    if vector.iter().any(|x| !x.is_finite()) {
                        return Err(self.model.not_finite(&inputs[i].ids).await);
                    }
                    let keep = self.sentence.truncate_dim.unwrap_or(width).min(width);
                    vectors[i] = vector[..keep].to_vec();
                }
                done += members.len();
                options.task.report(done as u64, inputs.len() as u64);
            }
            before = match next {
                // no room for both at once
                Some((Err(Error::OutOfMemory(_)), batch, members)) => Some((program.start(&batch, None)?, members)),
                Some((started, _, members)) => Some((started?, members)),
                None => None,
            };
        }
        let embedding = |(input, vector): (Encoded, Vec<f32>)| Embedding {
            tokens: input.ids.len(),
            untruncated: input.untruncated,
            vector,
        };
        Ok(inputs.into_iter().zip(vectors).map(embedding).collect())
    }

    /// The token ids of texts behind a prompt, in their order, by a few threads where there are many.
    fn encode_all(&self, prompt: &str, texts: &[&str], task: &Task) -> Result<Vec<Encoded>> {
        let encode = |texts: &[&str]| -> Result<Vec<Encoded>> {
            let encode = |text: &&str| task.check().and_then(|()| self.encode(&format!("{prompt}{text}")));
            texts.iter().map(encode).collect()
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(texts.len() / TEXTS_A_THREAD);
        if threads < 2 {
            return encode(texts);
        }
        thread::scope(|scope| {
            let parts = texts.chunks(texts.len().div_ceil(threads));
            let parts: Vec<_> = parts.map(|part| scope.spawn(move || encode(part))).collect();
            let parts = parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok(parts.collect::<Result<Vec<_>>>()?.concat())
        })
    }

    /// A text's token ids as the model sees them: with special tokens, cut to the model's length.
    ///
    /// # Errors
    /// [`Error::File`] where the tokenizer fails on the text.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        self.model.encode(text)
    }

    /// Runs one sequence of ids, taken as they are, and brings back what passed the points.
    ///
    /// # Errors
    /// As [`Model::trace`].
    pub async fn trace<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        self.model.trace(ids, taps).await
    }

    /// [`Encoder::trace`], blocking the calling thread.
    pub fn trace_blocking<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        self.model.trace_blocking(ids, taps)
    }

    /// The prompt's text, and how many tokens of an input it takes that pooling leaves out.
    fn prompt(&self, prompt: &Prompt) -> Result<(String, u32)> {
        let name = match prompt {
            Prompt::None => None,
            Prompt::Default => self.sentence.default_prompt_name.as_ref(),
            Prompt::Named(name) => Some(name),
        };
        let Some(name) = name else { return Ok((String::new(), 0)) };
        let Some(text) = self.sentence.prompts.get(name) else {
            let known: Vec<_> = self.sentence.prompts.keys().map(String::as_str).collect();
            return Err(Error::Input(format!("the model has no prompt {name:?}, but {}", known.join(", "))));
        };
        if self.sentence.include_prompt || text.is_empty() {
            return Ok((text.clone(), 0));
        }
        // as sentence-transformers counts: the prompt's own tokens, without the one that ends a text
        let ids = self.encode(text)?.ids;
        let ends = ids.last().is_some_and(|&id| self.model.tokenizer().is_ok_and(|t| t.is_special(id)));
        Ok((text.clone(), ids.len() as u32 - u32::from(ends)))
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        &self.model.spec
    }

    /// The model without what makes vectors of its stream.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Its sentence-transformers configuration.
    pub fn sentence(&self) -> &SentenceConfig {
        &self.sentence
    }

    /// Most tokens of a text, special ones included; what is beyond is cut.
    pub fn max_tokens(&self) -> usize {
        self.model.max_text
    }

    /// Bytes of the weights on the GPU.
    pub fn weight_bytes(&self) -> u64 {
        self.model.weight_bytes()
    }

    /// The program that embeds, for benchmarks and tests.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A batch of texts as the program takes it, for benchmarks and tests.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn batch<S: AsRef<str>>(&self, texts: &[S]) -> Result<Batch> {
        let mut batch = Batch::of(self.program().recording());
        for text in texts {
            self.model.push(&mut batch, &self.encode(text.as_ref())?, 0)?;
        }
        Ok(batch)
    }
}

/// What a program of an encoder is for.
pub(crate) fn purpose(sentence: &SentenceConfig, normalize: bool) -> Purpose {
    Purpose::Embed(Head { pooling: sentence.pooling.clone(), normalize })
}

/// The program that does as the model says, and the one without its normalisation, where it has one.
fn programs(model: &Model, sentence: &SentenceConfig) -> Result<(Program, Option<Program>)> {
    let compile = |normalize| {
        let recording =
            record(&model.spec, &model.tensors, &purpose(sentence, normalize), model.choices, &Watch::default());
        Program::new(&model.gpu, recording, Arc::clone(&model.weights))
    };
    let program = compile(sentence.normalize)?;
    program.reserve(BATCH_TOKENS)?;
    let plain = sentence.normalize.then(|| compile(false)).transpose()?;
    Ok((program, plain))
}

/// What the sentence part says of the transformer must be true of it.
fn check_sentence(folder: &Path, spec: &Spec, sentence: &SentenceConfig) -> Result<()> {
    if let Some(width) = sentence.word_embedding_dimension.filter(|&width| width != spec.hidden_size) {
        let what = format!("the pooling is for vectors of {width}, and the model's are {}", spec.hidden_size);
        return Err(Error::file(folder, what));
    }
    let mut width = spec.hidden_size * sentence.pooling.len();
    for dense in &sentence.dense {
        if dense.in_features != width {
            let what = format!("in_features is {}, and what comes before makes {width}", dense.in_features);
            return Err(Error::file(&dense.dir, what));
        }
        width = dense.out_features;
    }
    Ok(())
}

/// Batches of at most `most` tokens out of inputs of similar lengths, the longest first.
fn pack(inputs: &[Encoded], most: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..inputs.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(inputs[i].ids.len()), i));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for i in order {
        let length = inputs[i].ids.len();
        match batches.last_mut() {
            Some(batch) if tokens + length <= most => batch.push(i),
            _ => {
                tokens = 0;
                batches.push(vec![i]);
            }
        }
        tokens += length;
    }
    batches
}
