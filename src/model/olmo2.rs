//! OLMo 2: Llama with norms after the sublayers instead of before, and norms over whole rows of queries and keys.

use super::names::{Family, Names};
use super::options::{
    LLAMA, LLAMA_NAMES, Missing, ROTARY, attention_biases, causal, gated_decoder, inverse_sqrt, rope,
};
use super::spec::{BlockSpec, Placement, QkNorm, Spec};
use crate::error::Result;
use crate::files::Config;

pub const FAMILY: Family = Family {
    model_types: &["olmo2"],
    spec,
    names: Names {
        attention_norm: "",
        attention_post_norm: "post_attention_layernorm",
        mlp_norm: "",
        mlp_post_norm: "post_feedforward_layernorm",
        ..LLAMA_NAMES
    },
};

fn spec(config: &Config) -> Result<Spec> {
    let spec = gated_decoder(config, &Missing { norm_eps: 1e-5, ..LLAMA })?;
    let blocks = causal(&vec![false; spec.num_hidden_layers], None, inverse_sqrt(spec.head_size as f64), config)?;
    Ok(Spec {
        ropes: vec![rope(config, spec.head_size, &ROTARY)?],
        blocks: blocks.into_iter().map(|block| BlockSpec { attention_norm: false, ..block }).collect(),
        placement: Placement::After,
        qk_norm: QkNorm::Row,
        biases: attention_biases(config, false, false)?,
        ..spec
    })
}
