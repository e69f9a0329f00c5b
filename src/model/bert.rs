//! BERT, and RoBERTa and XLM-RoBERTa, which differ in how positions are numbered.

use super::spec::{Family, Names, Positions, Spec, activation, head_size, refuse_decoder};
use crate::error::Result;
use crate::files::Config;

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
        q: "attention.self.query",
        k: "attention.self.key",
        v: "attention.self.value",
        o: "attention.output.dense",
        attention_norm: "attention.output.LayerNorm",
        up: "intermediate.dense",
        down: "output.dense",
        mlp_norm: "output.LayerNorm",
        relative_bias: "",
    },
};

fn spec(config: &Config) -> Result<Spec> {
    refuse_decoder(config)?;
    let model_type = config.str("model_type")?;
    let hidden_size = config.usize("hidden_size")?;
    let num_attention_heads = config.usize("num_attention_heads")?;
    Ok(Spec {
        model_type: model_type.into(),
        hidden_size,
        num_hidden_layers: config.usize("num_hidden_layers")?,
        num_attention_heads,
        head_size: head_size(config, hidden_size, num_attention_heads)?,
        intermediate_size: config.usize("intermediate_size")?,
        vocab_size: config.usize("vocab_size")?,
        max_position_embeddings: config.usize("max_position_embeddings")?,
        positions: match model_type {
            "bert" => Positions::FromZero,
            _ => Positions::AfterPadding { padding_idx: config.usize_or("pad_token_id", 1)? as u32 },
        },
        type_vocab_size: config.usize_or("type_vocab_size", 2)?,
        layer_norm_eps: config.f32_or("layer_norm_eps", 1e-12)?,
        activation: activation(config, "hidden_act")?,
        relative_bias: None,
    })
}
