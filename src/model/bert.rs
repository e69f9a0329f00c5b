//! BERT, and RoBERTa and XLM-RoBERTa, which differ in how positions are numbered.

use super::names::{Family, MaskedNames, Names};
use super::options::{activation, head_size, layers, refuse_decoder};
use super::spec::{BlockSpec, MaskedHead, Positions, Spec};
use crate::error::Result;
use crate::files::Config;
use crate::kernels::matmul::Activation;

pub const FAMILY: Family = Family {
    model_types: &["bert", "roberta", "xlm-roberta", "camembert"],
    spec,
    names: Names {
        prefixes: &["", "bert.", "roberta."],
        words: "embeddings.word_embeddings",
        positions: "embeddings.position_embeddings",
        types: "embeddings.token_type_embeddings",
        embedding_norm: "embeddings.LayerNorm",
        block: "encoder.layer.{l}.",
        qkv: &["attention.self.query", "attention.self.key", "attention.self.value"],
        o: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: &["intermediate.dense"],
        down: "output.dense",
        mlp_norm: "output.LayerNorm",
        masked_heads: &[
            MaskedNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                decoder: "cls.predictions.decoder.weight",
                biases: &["cls.predictions.bias", "cls.predictions.decoder.bias"],
            },
            MaskedNames::ROBERTA,
        ],
        ..Names::NONE
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_decoder(config)?;
    let model_type = config.str("model_type")?;
    let hidden_size = config.usize("hidden_size")?;
    let num_attention_heads = config.usize("num_attention_heads")?;
    let head_size = head_size(config, hidden_size, num_attention_heads)?;
    let num_hidden_layers = layers(config, "num_hidden_layers")?;
    let activation = activation(config, "hidden_act", "gelu")?;
    Ok(Spec {
        model_type: model_type.into(),
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        num_key_value_heads: num_attention_heads,
        head_size,
        blocks: vec![BlockSpec::full(head_size); num_hidden_layers],
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        positions: match model_type {
            "bert" => Positions::FromZero,
            _ => Positions::AfterPadding { padding_idx: config.usize_or("pad_token_id", 1)? as u32 },
        },
        type_vocab_size: config.usize_or("type_vocab_size", 2)?,
        norm_eps: config.f32_or("layer_norm_eps", 1e-12)?,
        activation,
        masked_head: Some(MaskedHead {
            activation: if model_type == "bert" { activation } else { Activation::GeluErf },
            dense_bias: true,
            bias: true,
            tied: config.bool_or("tie_word_embeddings", true)?,
        }),
        ..Spec::neutral()
    })
}
