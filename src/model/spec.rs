//! What a model is, apart from its weights: the numbers of its config and the choices of its family, as plain data.

use super::names::Family;
use super::rope::{Rope, Scaling};
use crate::error::{Error, Result};
use crate::files::Config;
use crate::kernels::attention::{MAX_HEAD_SIZE, Mask};
use crate::kernels::matmul::Activation;

/// A transformer: an embedding sum, blocks of attention and FFN that add into the residual stream, and what follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// `model_type` of the config.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of queries.
    pub num_attention_heads: usize,
    /// Heads of keys and values, which as many heads of queries share each.
    pub num_key_value_heads: usize,
    /// Elements in a head.
    pub head_size: usize,
    /// Width of the FFN.
    pub intermediate_size: usize,
    /// Rows of the word table.
    pub vocab_size: usize,
    /// Rows of the position table; with rotary positions, the length that the model was made for.
    pub max_position_embeddings: usize,
    /// How positions are numbered.
    pub positions: Positions,
    /// Rows of the type table; 0 where there is none.
    pub type_vocab_size: usize,
    /// The embedding sum is multiplied by this.
    pub embedding_scale: f32,
    /// Whether a norm follows the embedding sum.
    pub embedding_norm: bool,
    /// All norms of the stream.
    pub norm: NormKind,
    /// Added to the variance in every norm.
    pub norm_eps: f32,
    /// Where the norms of a block stand.
    pub placement: Placement,
    /// What differs from block to block; one for each.
    pub blocks: Vec<BlockSpec>,
    /// Rotary embeddings that blocks refer to; two at most.
    pub ropes: Vec<Rope>,
    /// RMS norm of queries and keys before the rotation.
    pub qk_norm: QkNorm,
    /// Scores are bent to cap · tanh(score / cap).
    pub attention_cap: Option<f32>,
    /// Bias of the scores by relative position, shared by all blocks.
    pub relative_bias: Option<RelativeBuckets>,
    /// Of the FFN.
    pub activation: Activation,
    /// Whether the FFN is down(activation(gate(x)) · up(x)).
    pub gated: bool,
    /// Which products have a bias.
    pub biases: Biases,
    /// Whether a norm follows the last block.
    pub final_norm: bool,
    /// The language model's head; none in encoders.
    pub head: Option<LmHead>,
    /// An encoder's head for masked tokens, where its folder holds one that is loaded.
    pub masked_head: Option<MaskedHead>,
}

/// The most positions that a model may have.
const MOST_TOKENS: usize = 1 << 24;

/// What differs from block to block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockSpec {
    /// What a query sees.
    pub mask: Mask,
    /// Which of [`Spec::ropes`] turns queries and keys.
    pub rope: Option<usize>,
    /// Scores are multiplied by this.
    pub scale: f32,
    /// Whether attention's input is normalised (pre-norm blocks; ModernBERT's first is not).
    pub attention_norm: bool,
}

/// How a norm works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// LayerNorm with γ and β.
    Layer,
    /// LayerNorm with γ alone.
    LayerNoBias,
    /// RMSNorm.
    Rms,
    /// RMSNorm whose γ is stored less 1.
    RmsPlusOne,
}

/// Where the norms of a block stand; F is attention or the FFN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// x = Norm(x + F(x)): BERT.
    Post,
    /// x = x + F(Norm(x)): GPT-2, Llama.
    Pre,
    /// x = x + Norm(F(Norm(x))): Gemma 2 and 3.
    Around,
    /// x = x + Norm(F(x)): OLMo 2.
    After,
    /// x = x + Attention(Norm(x)) + FFN(Norm'(x)): GPT-NeoX.
    Parallel,
}

/// What the RMS norm of queries and keys spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// There is none.
    None,
    /// Each head, with one weight for all of them: Qwen 3, Gemma 3.
    Head,
    /// All heads together: OLMo 2.
    Row,
}

/// Which products have a bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Biases {
    /// W_Q, W_K and W_V.
    pub qkv: bool,
    /// W_O.
    pub o: bool,
    /// The FFN's.
    pub mlp: bool,
}

/// The head of a language model. It has no bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LmHead {
    /// Whether its weight is the word table. A head of its own that is stored all the same, and differs, wins.
    pub tied: bool,
    /// Logits are bent to cap · tanh(logit / cap).
    pub cap: Option<f32>,
}

/// The head of a masked language model: decoder(norm(activation(dense(x)))).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskedHead {
    /// Of the dense layer.
    pub activation: Activation,
    /// Whether the dense layer has a bias.
    pub dense_bias: bool,
    /// Whether the decoder has one.
    pub bias: bool,
    /// Whether the decoder's weight is the word table. One of its own that is stored all the same, and differs, wins.
    pub tied: bool,
}

/// How positions are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// 0, 1, 2 …, looked up in a table.
    FromZero,
    /// RoBERTa's: tokens other than the padding id count up from `padding_idx + 1`; the padding id itself, which a text
    /// may spell out, gets `padding_idx` and is not counted.
    AfterPadding {
        /// The padding id.
        padding_idx: u32,
    },
    /// 0, 1, 2 …, by rotation: there is no table.
    Rotary,
}

/// T5's buckets for relative positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelativeBuckets {
    /// Rows of the table, half of them for each direction.
    pub buckets: usize,
    /// Distances from here on share the last bucket.
    pub max_distance: usize,
}

impl BlockSpec {
    /// Of an encoder whose tokens all see each other, with heads of that size.
    pub fn full(head_size: usize) -> Self {
        let scale = 1.0 / (head_size as f32).sqrt();
        BlockSpec { mask: Mask::NONE, rope: None, scale, attention_norm: true }
    }
}

impl Spec {
    /// Reads a config.
    ///
    /// # Errors
    /// [`Error::Unsupported`] by name for what this engine does not do, [`Error::File`] for a damaged config.
    pub fn read(config: &Config) -> Result<(Self, &'static Family)> {
        let model_type = config.str("model_type")?;
        let Some(family) = super::FAMILIES.iter().find(|f| f.model_types.contains(&model_type)) else {
            let known: Vec<_> = super::FAMILIES.iter().flat_map(|f| f.model_types).copied().collect();
            return Err(Error::unsupported(
                config.path(),
                format!("model_type {model_type:?}; supported are {}", known.join(", ")),
            ));
        };
        if config.has("quantization_config") {
            return Err(config.unsupported("quantization_config"));
        }
        let spec = (family.spec)(config)?;
        spec.check(config)?;
        Ok((spec, family))
    }

    /// What most encoders are, without any size: a family fills in what it has and what differs.
    pub fn neutral() -> Self {
        Spec {
            model_type: String::new(),
            hidden_size: 0,
            num_hidden_layers: 0,
            num_attention_heads: 0,
            num_key_value_heads: 0,
            head_size: 0,
            intermediate_size: 0,
            vocab_size: 0,
            max_position_embeddings: 0,
            positions: Positions::FromZero,
            type_vocab_size: 0,
            embedding_scale: 1.0,
            embedding_norm: true,
            norm: NormKind::Layer,
            norm_eps: 1e-12,
            placement: Placement::Post,
            blocks: Vec::new(),
            ropes: Vec::new(),
            qk_norm: QkNorm::None,
            attention_cap: None,
            relative_bias: None,
            activation: Activation::GeluErf,
            gated: false,
            biases: Biases { qkv: true, o: true, mlp: true },
            final_norm: false,
            head: None,
            masked_head: None,
        }
    }

    /// Elements in a row of queries, keys and values.
    pub fn qkv_width(&self) -> usize {
        (self.num_attention_heads + 2 * self.num_key_value_heads) * self.head_size
    }

    /// Whether its output is text.
    pub fn is_decoder(&self) -> bool {
        self.head.is_some()
    }

    /// Whether its stream ends in logits.
    pub fn has_logits(&self) -> bool {
        self.head.is_some() || self.masked_head.is_some()
    }

    /// Most tokens that the positions serve.
    pub fn max_tokens(&self) -> usize {
        match self.positions {
            Positions::FromZero => self.max_position_embeddings,
            Positions::Rotary => match self.ropes.first().map(|rope| &rope.scaling) {
                // dynamic scaling has no end of its own
                Some(Scaling::Dynamic { .. }) => MOST_TOKENS,
                _ => self.max_position_embeddings,
            },
            Positions::AfterPadding { padding_idx } => {
                self.max_position_embeddings.saturating_sub(padding_idx as usize + 1)
            }
        }
    }

    /// Positions of a sequence's tokens.
    pub fn positions_of(&self, ids: &[u32]) -> Vec<u32> {
        match self.positions {
            Positions::FromZero | Positions::Rotary => (0..ids.len() as u32).collect(),
            Positions::AfterPadding { padding_idx } => {
                let mut last = padding_idx;
                let mut next = |id| {
                    if id == padding_idx {
                        return padding_idx;
                    }
                    last += 1;
                    last
                };
                ids.iter().map(|&id| next(id)).collect()
            }
        }
    }

    fn check(&self, config: &Config) -> Result<()> {
        let damaged = |what: String| Err(Error::file(config.path(), what));
        let unsupported = |what: String| Err(Error::unsupported(config.path(), what));
        let sizes = [
            ("hidden size", self.hidden_size, 1 << 16),
            ("number of heads", self.num_attention_heads, 1 << 10),
            ("number of key and value heads", self.num_key_value_heads, 1 << 10),
            ("head size", self.head_size, MAX_HEAD_SIZE),
            ("FFN size", self.intermediate_size, 1 << 18),
            ("vocabulary size", self.vocab_size, 1 << 22),
            (
                "number of positions",
                self.max_tokens(),
                if self.positions == Positions::Rotary { MOST_TOKENS } else { 1 << 16 },
            ),
        ];
        // the bounds keep every product of sizes that kernels index with below 2^32
        for (name, size, most) in sizes {
            if size == 0 {
                return damaged(format!("the {name} is 0"));
            }
            if size > most {
                return unsupported(format!("a {name} of {size}, above {most}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            let (heads, shared) = (self.num_attention_heads, self.num_key_value_heads);
            return damaged(format!("{heads} attention heads cannot share {shared} heads of keys and values"));
        }
        if self.blocks.len() != self.num_hidden_layers {
            let (blocks, stated) = (self.blocks.len(), self.num_hidden_layers);
            return damaged(format!("{blocks} kinds of blocks are listed for {stated} blocks"));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return damaged(format!("a norm epsilon of {}", self.norm_eps));
        }
        for (name, cap) in [("attention", self.attention_cap), ("logit", self.head.and_then(|h| h.cap))] {
            if cap.is_some_and(|cap| cap <= 0.0) {
                return damaged(format!("an {name} soft cap that is not above 0"));
            }
        }
        Ok(())
    }
}
