//! A model on the GPU: its spec, tokenizer and weights, and the traces that need no more than those.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::ahead::Ahead;
use super::from_gguf;
use super::layout::{Layout, Tensors};
use super::names::Names;
use super::spec::Spec;
use super::weights::{self, Dtype};
use crate::cache::find_model;
use crate::chat::ChatTemplate;
use crate::embedded;
use crate::error::{Error, Result};
use crate::files::{
    Checkpoint, Config, Encoded, Gguf, SentenceConfig, Source, Tokenizer, eos_ids, gguf_chat_templates, gguf_eos_ids,
};
use crate::gpu::Gpu;
use crate::schedule::{Batch, Choices, Head, Purpose, Recording, Watch, record};
use crate::stream::{Edit, Look, Probe, Tap, Trace, edited_points};
use crate::task::Task;
use crate::tune::Table;

/// How a model is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// How weights are stored on the GPU.
    pub dtype: Dtype,
    /// Decoders: tokens that the cache has room for at load; 2,048, or the model's limit where that is less, where nothing
    /// is said. The cache grows beyond when sessions need more.
    pub context: Option<usize>,
    /// Decoders: bytes that may be used on the GPU; where nothing is said, what the adapter says of itself, if it does.
    pub memory: Option<u64>,
    /// Which variants of kernels run; where nothing is said, those that suit the adapter's class.
    pub choices: Option<Choices>,
    /// Whether the kernels are run as they are, without trying on an adapter or driver that is new first whether their
    /// numbers are right there ([`Gpu::self_check`]). Choices of your own are not tried either.
    pub skip_self_check: bool,
    /// Whether the forms of kernels that [`Encoder::tune`](crate::Encoder::tune) has found to be the fastest here are left
    /// aside.
    pub skip_tuning: bool,
    /// Cancels and watches the load; progress is in bytes.
    pub task: Task,
}

impl LoadOptions {
    /// The variants that run on a GPU.
    pub(crate) fn choices(&self, gpu: &Gpu) -> Choices {
        self.choices.unwrap_or_else(|| Choices::of(gpu.capabilities()))
    }
}

/// A transformer of any family on the GPU, to be looked into. Encoders and decoders are made on one.
pub struct Model {
    pub(crate) gpu: Gpu,
    /// The folder or the file.
    pub(crate) path: PathBuf,
    /// What it was loaded by, and how: to load it again.
    pub(crate) origin: PathBuf,
    pub(crate) options: LoadOptions,
    pub(crate) spec: Spec,
    tokenizer: Option<Tokenizer>,
    template: Template,
    /// Most tokens of a text that is cut: the folder's own length, else the tokenizer's, and never more than positions.
    pub(crate) max_text: usize,
    pub(crate) tensors: Tensors,
    pub(crate) weights: Arc<[wgpu::Buffer]>,
    pub(crate) choices: Choices,
    weight_bytes: u64,
    /// What makes a vector of an encoder's stream.
    head: Head,
    /// Names the weights and how they are stored, for files that belong to them.
    pub(crate) fingerprint: String,
}

impl Model {
    /// Loads a Hugging Face or sentence-transformers folder, a GGUF file, or a model by its name from the user's cache.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Unsupported`] or [`Error::Io`] naming the file and tensor; [`Error::OutOfMemory`],
    /// [`Error::Cancelled`].
    pub async fn load(gpu: &Gpu, model: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        let files = Files::open(model.as_ref())?;
        let layout = files.layout(gpu, options.dtype)?;
        Self::open(gpu, files, layout, &[Purpose::Trace], &options).await
    }

    /// [`Model::load`], blocking the calling thread.
    pub fn load_blocking(gpu: &Gpu, model: impl AsRef<Path>, options: LoadOptions) -> Result<Self> {
        pollster::block_on(Self::load(gpu, model, options))
    }

    /// The model in its files, to be run for some purposes.
    pub(crate) async fn open(
        gpu: &Gpu,
        files: Files,
        layout: Layout,
        purposes: &[Purpose],
        options: &LoadOptions,
    ) -> Result<Self> {
        let (weight_bytes, fingerprint) = (layout.bytes(), files.fingerprint(&layout)?);
        let Files { path, origin, spec, sentence, tokenizer, template, max_text, sources, .. } = files;
        let Layout { parameters, tensors } = layout;
        let tried = options.choices.is_none() && !options.skip_self_check;
        let variants = {
            let (spec, tensors, purposes) = (spec.clone(), tensors.clone(), purposes.to_vec());
            let of = move |purpose: &Purpose, choices| {
                record(&spec, &tensors, purpose, choices, &Watch::default()).variants()
            };
            move |choices| purposes.iter().flat_map(|purpose| of(purpose, choices)).collect()
        };
        let begin = Instant::now();
        let choices = match options.choices {
            None if !options.skip_tuning => Table::choices(gpu, &spec, &tensors, options.choices(gpu)),
            _ => options.choices(gpu),
        };
        let ahead = Ahead::begin(gpu, choices, tried, variants)?;
        let weights = weights::upload(gpu, parameters.into(), sources.into(), &options.task).await?.into();
        log::debug!("{} MiB of weights were uploaded after {:.3} s", weight_bytes >> 20, begin.elapsed().as_secs_f64());
        let choices = ahead.finish().await?;
        log::debug!("their kernels were compiled and tried after {:.3} s", begin.elapsed().as_secs_f64());
        Ok(Model {
            gpu: gpu.clone(),
            path,
            origin,
            options: LoadOptions { task: Task::default(), ..options.clone() },
            spec,
            tokenizer,
            template,
            max_text,
            tensors,
            weights,
            choices,
            weight_bytes,
            head: Head { pooling: sentence.pooling, normalize: sentence.normalize },
            fingerprint,
        })
    }

    /// The same model on another [`Gpu`], as after [`Gpu::rebuild`]: its weights are read and uploaded again.
    ///
    /// # Errors
    /// As [`Model::load`]; [`Error::File`] where the files have changed since they were loaded.
    pub async fn rebuild(&self, gpu: &Gpu) -> Result<Self> {
        let again = Self::load(gpu, &self.origin, self.options.clone()).await?;
        self.is_again(&again)?;
        Ok(again)
    }

    /// [`Model::rebuild`], blocking the calling thread.
    pub fn rebuild_blocking(&self, gpu: &Gpu) -> Result<Self> {
        pollster::block_on(self.rebuild(gpu))
    }

    /// Fails where another model has taken the place of this one's files.
    pub(crate) fn is_again(&self, again: &Model) -> Result<()> {
        match again.fingerprint == self.fingerprint {
            true => Ok(()),
            false => Err(Error::file(&self.path, "has changed since it was loaded")),
        }
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its tokenizer.
    ///
    /// # Errors
    /// [`Error::File`] where there is none: such a model takes token ids only.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        let none = || Error::file(&self.path, "has no tokenizer, so that only token ids can be given");
        self.tokenizer.as_ref().ok_or_else(none)
    }

    /// Its chat template, `None` where it has none.
    ///
    /// # Errors
    /// As [`ChatTemplate::open`].
    pub fn chat_template(&self) -> Result<Option<ChatTemplate>> {
        let Template::Text(source) = &self.template else { return ChatTemplate::open(&self.path) };
        let Some(source) = source else { return Ok(None) };
        let token = |id: &Option<u32>| id.and_then(|id| self.tokenizer.as_ref()?.token(id));
        let specials: Vec<_> = source.specials.iter().filter_map(|(name, id)| Some((*name, token(id)?))).collect();
        let specials: Vec<_> = specials.iter().map(|(name, token)| (*name, token.as_str())).collect();
        ChatTemplate::new(&self.path, &source.text, &specials).map(Some)
    }

    /// A text's token ids as the model sees them: with special tokens, cut to the model's length.
    ///
    /// # Errors
    /// [`Error::File`] where there is no tokenizer, or it fails on the text.
    pub fn encode(&self, text: &str) -> Result<Encoded> {
        self.tokenizer()?.encode(text, self.max_text, true)
    }

    /// How the stream of an encoder becomes one vector, `None` of a language model.
    pub fn head(&self) -> Option<&Head> {
        Some(&self.head).filter(|_| !self.spec.is_decoder())
    }

    /// What names the model's weights and how they are stored, for files that belong to them.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Bytes of the weights on the GPU.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Runs one sequence of ids, taken as they are, and brings back what passed the points: [`Point`]s, or [`Tap`]s that are
    /// narrowed to some tokens and heads.
    ///
    /// # Errors
    /// [`Error::Input`] for no ids, too many, or one beyond the vocabulary, and as [`Tap::check`]; [`Error::OutOfMemory`],
    /// [`Error::DeviceLost`].
    pub async fn trace<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        self.trace_edited(ids, taps, &[]).await
    }

    /// [`Model::trace`], blocking the calling thread.
    pub fn trace_blocking<T>(&self, ids: &[u32], taps: &[T]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        pollster::block_on(self.trace(ids, taps))
    }

    /// [`Model::trace`] of a sequence in whose stream something is changed.
    ///
    /// # Errors
    /// As [`Model::trace`], and [`Error::Input`] for an edit that the model cannot have.
    pub async fn trace_edited<T>(&self, ids: &[u32], taps: &[T], edits: &[Edit]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        edits.iter().try_for_each(|edit| edit.check(&self.spec))?;
        let watch = Watch { edits: edited_points(edits), ..Watch::taps(taps) };
        let probe = Probe::new(self, &Purpose::Trace, watch).await?;
        let mut seen = probe.run(&[Look { edits, ..Look::new(ids) }]).await?;
        Ok(seen.remove(0).trace)
    }

    /// [`Model::trace_edited`], blocking the calling thread.
    pub fn trace_edited_blocking<T>(&self, ids: &[u32], taps: &[T], edits: &[Edit]) -> Result<Trace>
    where
        for<'a> &'a T: Into<Tap>,
    {
        pollster::block_on(self.trace_edited(ids, taps, edits))
    }

    /// Tries what a recording runs besides what was tried at load.
    pub(crate) async fn try_variants(&self, recording: &Recording) -> Result<()> {
        if self.options.choices.is_none() && !self.options.skip_self_check {
            self.gpu.all_right(&recording.variants()).await?;
        }
        Ok(())
    }

    /// A sequence has tokens, and no more than there are positions.
    pub(crate) fn check_length(&self, ids: &[u32]) -> Result<()> {
        let most = self.spec.max_tokens();
        if ids.is_empty() || ids.len() > most {
            return Err(Error::Input(format!("{} token ids were given, and this model takes 1 to {most}", ids.len())));
        }
        Ok(())
    }

    /// Appends a sequence to a batch, with errors that name what is wrong with its tokens.
    pub(crate) fn push(&self, batch: &mut Batch, input: &Encoded, skip: u32) -> Result<()> {
        if input.ids.is_empty() {
            return Err(Error::Input("a text has no tokens at all: this tokenizer adds none to an empty one".into()));
        }
        self.check_ids(&input.ids)?;
        let types = self.spec.type_vocab_size.max(1) as u32;
        if let Some(kind) = input.type_ids.iter().find(|&&kind| kind >= types) {
            return Err(Error::Input(format!("token type {kind} is beyond this model's {types}")));
        }
        let positions = self.spec.positions_of(&input.ids);
        for (i, rope) in self.spec.ropes.iter().enumerate() {
            let frequencies = rope.frequencies(input.ids.len());
            let mut angles = Vec::new();
            positions.iter().for_each(|&position| rope.angles(&frequencies, position, &mut angles));
            batch.push_angles(i, &angles);
        }
        let tokens = input.ids.iter().zip(positions).zip(&input.type_ids);
        batch.push(tokens.map(|((&id, position), &kind)| (id, position, kind)), skip);
        Ok(())
    }

    /// Every id must be a row of the word table.
    pub(crate) fn check_ids(&self, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= self.spec.vocab_size) {
            None => Ok(()),
            Some(id) => Err(Error::Input(format!(
                "token id {id} is beyond the vocabulary of {} ids of {}",
                self.spec.vocab_size,
                self.path.display()
            ))),
        }
    }
}

/// Where a model's chat template is.
enum Template {
    /// In its folder.
    Folder,
    /// In a GGUF file, where there is one.
    Text(Option<TemplateText>),
}

/// A chat template, and the ids of the tokens that it may name.
struct TemplateText {
    text: String,
    specials: [(&'static str, Option<u32>); 4],
}

impl Template {
    fn of_gguf(gguf: &Gguf) -> Result<Self> {
        let metadata = gguf.metadata();
        let templates = gguf_chat_templates(gguf)?;
        let Some((_, text)) = templates.iter().find(|(name, _)| *name == "default") else {
            return Ok(Self::Text(None));
        };
        let id = |name| metadata.opt_u32(&format!("tokenizer.ggml.{name}_token_id"));
        let specials = [
            ("bos_token", id("bos")?),
            ("eos_token", id("eos")?),
            ("unk_token", id("unknown")?),
            ("pad_token", id("padding")?),
        ];
        Ok(Self::Text(Some(TemplateText { text: text.to_string(), specials })))
    }
}

/// A path that stays right when the program changes its folder.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// What a model is made of, opened and checked before anything is allocated.
pub(crate) struct Files {
    /// The folder or the file.
    pub path: PathBuf,
    /// The same, or the folder of sentence-transformers around it.
    origin: PathBuf,
    pub spec: Spec,
    names: Names,
    /// What makes vectors of an encoder's stream.
    pub sentence: SentenceConfig,
    /// None where there is none.
    pub tokenizer: Option<Tokenizer>,
    template: Template,
    /// Ids that end a text.
    pub eos: Vec<u32>,
    /// Most tokens of a text that is cut.
    pub max_text: usize,
    /// The transformer's, then those of the dense layers.
    pub sources: Vec<Source>,
}

impl Files {
    /// A model by its path, or by its name in the user's cache.
    pub fn open(model: &Path) -> Result<Self> {
        let path = find_model(model)?;
        match embedded::open(&path) {
            Some(file) => Self::open_gguf(file?),
            None if path.is_dir() => Self::open_folder(&path),
            None => Self::open_gguf(Gguf::open(&path)?).map(|files| Files { origin: absolute(&path), ..files }),
        }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let sentence = SentenceConfig::open(folder)?;
        let path = sentence.transformer_dir.clone();
        let config = Config::open(&path)?;
        let (spec, family) = Spec::read(&config)?;
        let mut tokenizer = Tokenizer::is_in(&path).then(|| Tokenizer::open(&path)).transpose()?;
        if let Some(tokenizer) = tokenizer.as_mut().filter(|_| sentence.do_lower_case) {
            tokenizer.lower_case()?;
        }
        let own = sentence.max_seq_length.or(tokenizer.as_ref().and_then(Tokenizer::model_max_length));
        let max_text = own.unwrap_or(usize::MAX).min(spec.max_tokens());
        let eos = if spec.is_decoder() { eos_ids(&path, &config)? } else { Vec::new() };
        let mut sources = vec![Source::Folder(Checkpoint::open(&path)?)];
        let masked_head = spec.masked_head.filter(|_| family.names.masked_head(&sources[0]).is_some());
        let spec = Spec { masked_head, ..spec };
        for dense in &sentence.dense {
            sources.push(Source::Folder(Checkpoint::open(&dense.dir)?));
        }
        let template = Template::Folder;
        let origin = absolute(folder);
        Ok(Files { path, origin, spec, names: family.names, sentence, tokenizer, template, eos, max_text, sources })
    }

    fn open_gguf(file: Gguf) -> Result<Self> {
        let path = file.path().to_path_buf();
        let origin = path.clone();
        let (spec, names) = from_gguf::read(&file)?;
        let sentence = from_gguf::sentence(&file)?;
        let tokenizer = Tokenizer::from_gguf(&file)?;
        let eos = if spec.is_decoder() { gguf_eos_ids(&file)? } else { Vec::new() };
        let max_text = spec.max_tokens();
        let template = Template::of_gguf(&file)?;
        let sources = vec![Source::Gguf(file)];
        Ok(Files { path, origin, spec, names, sentence, tokenizer, template, eos, max_text, sources })
    }

    /// A hash (FNV-1a) of the spec, and of each tensor's name and first bytes: other weights of the same shape differ.
    fn fingerprint(&self, layout: &Layout) -> Result<String> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        mix(format!("{:?}", self.spec).as_bytes());
        for parameter in &layout.parameters {
            mix(parameter.label.as_bytes());
            mix(parameter.weight_type.name().as_bytes());
            let source = &self.sources[parameter.source];
            if let Some(stored) = parameter.parts.first().and_then(|part| source.get(&part.tensor)) {
                let mut bytes = [0; 64];
                let length = (stored.bytes as usize).min(bytes.len());
                stored.read(0, &mut bytes[..length])?;
                mix(&bytes);
            }
        }
        Ok(format!("{hash:016x}"))
    }

    /// Where the weights will lie.
    pub fn layout(&self, gpu: &Gpu, dtype: Dtype) -> Result<Layout> {
        let limits = &gpu.capabilities().limits;
        let limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
        Layout::new(&self.spec, &self.names, &self.sources, &self.sentence.dense, dtype, limit)
    }
}
