//! A sentence-transformers folder: which modules follow the transformer, as plain data.
//!
//! The semantics are those of sentence-transformers 6.2: old and new spellings, defaults, and what each module means.
//! What this engine cannot do exactly so is refused by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::{Config, MAX_CONFIG_BYTES};
use super::{found, quote, read_json};
use crate::{Error, Result};

/// How the tokens' vectors become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The first token's (after the prompt's, where prompts are excluded).
    Cls,
    /// The largest value of each component.
    Max,
    /// The mean.
    Mean,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLenTokens,
    /// The mean with weights 1, 2, 3 … by position; a prompt that is excluded leaves the others' weights as they are.
    WeightedMean,
    /// The last token's.
    LastToken,
}

impl Pooling {
    /// Every mode with its name in `pooling_mode` and its old boolean key, in sentence-transformers' order.
    pub const ALL: [(Pooling, &'static str, &'static str); 6] = [
        (Pooling::Cls, "cls", "pooling_mode_cls_token"),
        (Pooling::Max, "max", "pooling_mode_max_tokens"),
        (Pooling::Mean, "mean", "pooling_mode_mean_tokens"),
        (Pooling::MeanSqrtLenTokens, "mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens"),
        (Pooling::WeightedMean, "weightedmean", "pooling_mode_weightedmean_tokens"),
        (Pooling::LastToken, "lasttoken", "pooling_mode_lasttoken"),
    ];

    /// The mode's name in sentence-transformers.
    pub fn name(self) -> &'static str {
        Pooling::ALL.iter().find(|(mode, ..)| *mode == self).map_or("", |(_, name, _)| name)
    }
}

/// What follows a dense layer's product, by the name of PyTorch's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// The hyperbolic tangent.
    Tanh,
    /// `max(x, 0)`.
    ReLU,
    /// The Gaussian error linear unit, by erf.
    Gelu,
    /// The logistic function.
    Sigmoid,
    /// `x * sigmoid(x)`.
    SiLU,
}

/// A `Dense` module: a linear layer on the pooled vector, and an activation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseConfig {
    /// The folder with its weights: `linear.weight` of `[out_features, in_features]`, `linear.bias` of `[out_features]`.
    pub dir: PathBuf,
    /// Length of its input.
    pub in_features: usize,
    /// Length of its output.
    pub out_features: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// What follows.
    pub activation: Activation,
}

/// A sentence-transformers model, but for the transformer itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentenceConfig {
    /// The folder of the transformer: its config.json, weights and tokenizer.
    pub transformer_dir: PathBuf,
    /// The pooling modes whose results are concatenated, in this order; never empty.
    pub pooling: Vec<Pooling>,
    /// Length of the tokens' vectors, as far as the pooling's config says it; the model checks it.
    pub word_embedding_dimension: Option<usize>,
    /// Whether the prompt's tokens take part in the pooling.
    pub include_prompt: bool,
    /// The dense layers after the pooling, in order.
    pub dense: Vec<DenseConfig>,
    /// Whether the result is divided by its length (by 1e-12, if it is shorter than that).
    pub normalize: bool,
    /// The most tokens of a text, special ones included. `None`: the smaller of the tokenizer's `model_max_length`
    /// and the config's `max_position_embeddings`.
    pub max_seq_length: Option<usize>,
    /// Whether the text is lower-cased before the tokenizer's own normalisation; see `Tokenizer::lower_case`.
    pub do_lower_case: bool,
    /// Texts by name that are put in front of an input. `query` and `document` are always there, if only empty.
    pub prompts: BTreeMap<String, String>,
    /// Which prompt is used where the caller names none; one of `prompts`.
    pub default_prompt_name: Option<String>,
    /// Where given, only so many components of the result are kept, after the normalisation.
    pub truncate_dim: Option<usize>,
}

impl SentenceConfig {
    /// Reads `modules.json` and what it refers to in the folder `dir`. Without that file the folder is a plain
    /// transformer, which gets mean pooling and is normalised.
    ///
    /// # Errors
    /// [`Error::Unsupported`] that names the module or setting which this engine does not do, [`Error::File`] for
    /// anything damaged or contradictory, [`Error::Io`] where a file cannot be read.
    pub fn open(dir: &Path) -> Result<Self> {
        let mut config = Self::plain(dir);
        let path = dir.join("modules.json");
        if !path.exists() {
            // as in sentence-transformers, the other files are read only beside a modules.json
            return Ok(config);
        }
        config.normalize = false;
        config.pooling.clear();
        config.read_model_config(dir)?;
        let modules = read_modules(&path)?;
        for (position, module) in modules.iter().enumerate() {
            config.add_module(dir, &path, position, module)?;
        }
        if config.pooling.is_empty() {
            return Err(Error::unsupported(&path, "a model without a Pooling module"));
        }
        Ok(config)
    }

    /// What a plain transformer gets.
    pub(crate) fn plain(path: &Path) -> Self {
        SentenceConfig {
            transformer_dir: path.into(),
            pooling: vec![Pooling::Mean],
            word_embedding_dimension: None,
            include_prompt: true,
            dense: Vec::new(),
            normalize: true,
            max_seq_length: None,
            do_lower_case: false,
            prompts: BTreeMap::new(),
            default_prompt_name: None,
            truncate_dim: None,
        }
    }

    /// `config_sentence_transformers.json`: the prompts.
    fn read_model_config(&mut self, dir: &Path) -> Result<()> {
        for name in ["query", "document"] {
            self.prompts.insert(name.into(), String::new());
        }
        let path = dir.join("config_sentence_transformers.json");
        if !path.exists() {
            return Ok(());
        }
        let config = Config::open_file(&path)?;
        if config.str_or("model_type", "SentenceTransformer")? != "SentenceTransformer" {
            return Err(config.unsupported("model_type"));
        }
        if let Some(prompts) = config.opt_object("prompts")? {
            for name in prompts.keys() {
                self.prompts.insert(name.into(), prompts.str_or(name, "")?.into());
            }
        }
        self.default_prompt_name = config.opt_str("default_prompt_name")?.map(Into::into);
        if let Some(name) = self.default_prompt_name.as_ref().filter(|name| !self.prompts.contains_key(*name)) {
            let what = format!("expected the name of one of the prompts, found {}", quote(name));
            return Err(config.error("default_prompt_name", what));
        }
        self.truncate_dim = config.opt_usize("truncate_dim")?;
        if self.truncate_dim == Some(0) {
            return Err(config.error("truncate_dim", "expected at least 1, found 0"));
        }
        Ok(())
    }

    fn add_module(&mut self, dir: &Path, list: &Path, position: usize, module: &Module) -> Result<()> {
        let folder = if module.path.is_empty() { dir.into() } else { dir.join(&module.path) };
        let refuse = |what: &str| Err(Error::unsupported(list, format!("{} {what}", quote(&module.kind))));
        let pooled = !self.pooling.is_empty();
        match class_of(&module.kind) {
            Some("Transformer") if position != 0 => refuse("after another module"),
            Some("Transformer") => self.read_transformer(folder),
            Some(_) if position == 0 => refuse("as the first module"),
            Some("Pooling") if pooled => refuse("twice"),
            Some("Pooling") => self.read_pooling(&folder),
            Some("Dense") if !pooled => refuse("before Pooling"),
            Some("Dense") if self.normalize => refuse("after Normalize"),
            Some("Dense") => self.read_dense(folder),
            Some("Normalize") if !pooled => refuse("before Pooling"),
            Some("Normalize") if self.normalize => refuse("twice"),
            Some("Normalize") => self.read_normalize(&folder),
            // does nothing outside of training
            Some("Dropout") => Ok(()),
            _ => Err(Error::unsupported(list, format!("module type {}", quote(&module.kind)))),
        }
    }

    /// The `Transformer` module's own config; the first of these names that is there and not empty counts.
    fn read_transformer(&mut self, folder: PathBuf) -> Result<()> {
        const NAMES: [&str; 7] = ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"];
        self.transformer_dir = folder;
        for name in NAMES {
            let path = self.transformer_dir.join(format!("sentence_{name}_config.json"));
            if !path.exists() {
                continue;
            }
            let config = Config::open_file(&path)?;
            if config.keys().next().is_some() {
                return self.read_transformer_config(&config);
            }
        }
        Ok(())
    }

    fn read_transformer_config(&mut self, config: &Config) -> Result<()> {
        self.max_seq_length = config.opt_usize("max_seq_length")?;
        self.do_lower_case = config.bool_or("do_lower_case", false)?;
        if config.str_or("transformer_task", "feature-extraction")? != "feature-extraction" {
            return Err(config.unsupported("transformer_task"));
        }
        if config.str_or("module_output_name", "token_embeddings")? != "token_embeddings" {
            return Err(config.unsupported("module_output_name"));
        }
        if let Some(modality) = config.opt_object("modality_config")? {
            if let Some(key) = modality.keys().find(|key| *key != "text") {
                return Err(modality.unsupported(key));
            }
            if let Some(text) = modality.opt_object("text")? {
                for (key, plain) in [("method", "forward"), ("method_output_name", "last_hidden_state")] {
                    if text.str_or(key, plain)? != plain {
                        return Err(text.unsupported(key));
                    }
                }
            }
        }
        if config.has("tokenizer_name_or_path") {
            return Err(config.unsupported("tokenizer_name_or_path"));
        }
        // of what these may override, only settings that leave the numbers alone are let through
        const HARMLESS: [&str; 9] = [
            "trust_remote_code",
            "use_fast",
            "padding_side",
            "clean_up_tokenization_spaces",
            "use_cache",
            "torch_dtype",
            "dtype",
            "attn_implementation",
            "_attn_implementation",
        ];
        for section in ["processing_kwargs", "config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"] {
            let Some(section) = config.opt_object(section)? else { continue };
            for key in section.keys().filter(|key| section.has(key) && !HARMLESS.contains(key)) {
                if key != "model_max_length" {
                    return Err(section.unsupported(key));
                }
                // it goes before max_seq_length, which would otherwise have become model_max_length
                self.max_seq_length = section.opt_usize(key)?;
            }
        }
        if self.max_seq_length == Some(0) {
            return Err(config.error("max_seq_length", "expected at least 1, found 0"));
        }
        Ok(())
    }

    fn read_pooling(&mut self, folder: &Path) -> Result<()> {
        let config = Config::open(folder)?;
        let size = if config.has("embedding_dimension") { "embedding_dimension" } else { "word_embedding_dimension" };
        self.word_embedding_dimension = config.opt_usize(size)?;
        self.include_prompt = config.bool_or("include_prompt", true)?;
        let known = ["embedding_dimension", "word_embedding_dimension", "include_prompt", "pooling_mode"];
        let old = |key: &str| Pooling::ALL.iter().any(|(_, _, old)| *old == key);
        if let Some(key) = config.keys().find(|key| !known.contains(key) && !old(key)) {
            return Err(config.unsupported(key));
        }
        // the new key wins over the old ones, and its list has the order of the concatenation
        self.pooling = match config.value("pooling_mode") {
            Some(Value::String(name)) => vec![pooling_mode(&config, name)?],
            Some(_) => {
                let names = config.opt_strings("pooling_mode")?.unwrap_or_default();
                names.into_iter().map(|name| pooling_mode(&config, name)).collect::<Result<_>>()?
            }
            None => {
                let mut modes = Vec::new();
                for (mode, _, key) in Pooling::ALL {
                    if config.bool_or(key, false)? {
                        modes.push(mode);
                    }
                }
                if modes.is_empty() { vec![Pooling::Mean] } else { modes }
            }
        };
        // a mode twice would only be the same numbers twice, but a long list would be a vector without bound
        if self.pooling.is_empty() || self.pooling.len() > Pooling::ALL.len() {
            return Err(config.error("pooling_mode", format!("expected 1 to 6 modes, found {}", self.pooling.len())));
        }
        Ok(())
    }

    fn read_dense(&mut self, dir: PathBuf) -> Result<()> {
        let config = Config::open(&dir)?;
        on_sentence_embedding(&config)?;
        if config.bool_or("use_residual", false)? {
            return Err(config.unsupported("use_residual"));
        }
        let name = config.str_or("activation_function", "torch.nn.modules.activation.Tanh")?;
        // a class outside of torch is run by sentence-transformers only for those who trust the folder's code
        let class = name.starts_with("torch.nn.").then(|| name.rsplit('.').next()).flatten();
        let activation = match class {
            Some("Identity") => Activation::Identity,
            Some("Tanh") => Activation::Tanh,
            Some("ReLU") => Activation::ReLU,
            Some("GELU") => Activation::Gelu,
            Some("Sigmoid") => Activation::Sigmoid,
            Some("SiLU") => Activation::SiLU,
            _ => return Err(config.unsupported("activation_function")),
        };
        let (in_features, out_features) = (config.usize("in_features")?, config.usize("out_features")?);
        for (key, value) in [("in_features", in_features), ("out_features", out_features)] {
            if value == 0 {
                return Err(config.error(key, "expected at least 1, found 0"));
            }
        }
        let bias = config.bool_or("bias", true)?;
        self.dense.push(DenseConfig { dir, in_features, out_features, bias, activation });
        Ok(())
    }

    fn read_normalize(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join("config.json");
        // at the root that file is the transformer's
        if folder != self.transformer_dir && path.exists() {
            on_sentence_embedding(&Config::open_file(&path)?)?;
        }
        self.normalize = true;
        Ok(())
    }
}

fn pooling_mode(config: &Config, name: &str) -> Result<Pooling> {
    let mode = Pooling::ALL.iter().find(|(_, known, _)| *known == name);
    mode.map(|(mode, ..)| *mode)
        .ok_or_else(|| Error::unsupported(config.path(), format!("pooling_mode {}", quote(name))))
}

/// Modules may be pointed at other vectors than the pooled one, as in multi-vector models.
fn on_sentence_embedding(config: &Config) -> Result<()> {
    for key in ["module_input_name", "module_output_name"] {
        if config.str_or(key, "sentence_embedding")? != "sentence_embedding" {
            return Err(config.unsupported(key));
        }
    }
    Ok(())
}

/// An entry of modules.json.
struct Module {
    path: String,
    kind: String,
}

fn read_modules(path: &Path) -> Result<Vec<Module>> {
    let bad = |what: String| Error::file(path, what);
    let Value::Array(list) = read_json(path, MAX_CONFIG_BYTES)? else {
        return Err(bad("expected a list of modules".into()));
    };
    let mut names = Vec::new();
    let mut modules = Vec::new();
    if list.len() > 64 {
        return Err(bad(format!("expected at most 64 modules, found {}", list.len())));
    }
    for (i, entry) in list.iter().enumerate() {
        let text = |key: &str| match entry.get(key) {
            Some(Value::String(s)) => Ok(s.clone()),
            other => {
                let other = other.map_or_else(|| "nothing".into(), found);
                Err(bad(format!("module {i}: key `{key}`: expected a string, found {other}")))
            }
        };
        // the list's order counts; `idx` is never looked at. The name is the module's key in an ordered dictionary
        let (name, module) = (text("name")?, Module { path: text("path")?, kind: text("type")? });
        if names.contains(&name) {
            return Err(bad(format!("module {i}: the name {} is taken by another module", quote(&name))));
        }
        names.push(name);
        if !is_relative(&module.path) {
            let found = quote(&module.path);
            return Err(bad(format!("module {i}: expected a path inside the model's folder, found {found}")));
        }
        modules.push(module);
    }
    Ok(modules)
}

/// Whether a path stays inside the folder that it is joined to, on any platform.
fn is_relative(path: &str) -> bool {
    !path.starts_with(['/', '\\']) && !path.contains([':', '\0']) && !path.split(['/', '\\']).any(|part| part == "..")
}

/// The class that a module's `type` names, for classes in sentence-transformers' own packages. Over time it has been
/// spelled `sentence_transformers.models.Pooling`, `sentence_transformers.models.Pooling.Pooling` and
/// `sentence_transformers.sentence_transformer.modules.pooling.Pooling`.
fn class_of(kind: &str) -> Option<&str> {
    const PACKAGES: [&str; 3] = [
        "sentence_transformers.models.",
        "sentence_transformers.sentence_transformer.modules.",
        "sentence_transformers.base.modules.",
    ];
    let rest = PACKAGES.iter().find_map(|package| kind.strip_prefix(package))?;
    match rest.split_once('.') {
        None => Some(rest),
        Some((file, class)) if file == class || file == class.to_lowercase() => Some(class),
        Some(_) => None,
    }
}
