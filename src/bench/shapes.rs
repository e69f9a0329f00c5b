//! The shapes of real models, as specs without weights: what is measured at their sizes is said of them.

use crate::check::models;
use crate::kernels::activation::Activation;
use crate::kernels::attention::Mask;
use crate::model::{BlockSpec, Positions, Rope, Scaling, Spec};

/// A model's name and its sizes.
pub(super) struct Shape {
    pub name: &'static str,
    pub spec: fn() -> Spec,
}

/// From the smallest on.
pub(super) const SHAPES: [Shape; 6] = [
    Shape { name: "MiniLM", spec: minilm },
    Shape { name: "BERT-base", spec: bert_base },
    Shape { name: "GPT-2", spec: gpt2 },
    Shape { name: "SmolLM-135M", spec: smollm },
    Shape { name: "Llama-1B", spec: llama_1b },
    Shape { name: "Llama-8B", spec: llama_8b },
];

fn minilm() -> Spec {
    bert(6, 384, 12)
}

fn bert_base() -> Spec {
    bert(12, 768, 12)
}

fn bert(layers: usize, width: usize, heads: usize) -> Spec {
    let head_size = width / heads;
    Spec {
        hidden_size: width,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_size,
        intermediate_size: 4 * width,
        vocab_size: 30522,
        max_position_embeddings: 512,
        blocks: vec![BlockSpec::full(head_size); layers],
        ..models::bert(layers)
    }
}

fn gpt2() -> Spec {
    let layers = 12;
    let block = BlockSpec { mask: Mask::CAUSAL, rope: None, scale: 0.125, attention_norm: true };
    Spec {
        hidden_size: 768,
        num_attention_heads: 12,
        num_key_value_heads: 12,
        head_size: 64,
        intermediate_size: 3072,
        vocab_size: 50257,
        max_position_embeddings: 1024,
        positions: Positions::FromZero,
        activation: Activation::GeluTanh,
        blocks: vec![block; layers],
        ..models::gpt2(layers)
    }
}

fn smollm() -> Spec {
    llama(30, 576, [9, 3, 64], 1536, 49152)
}

fn llama_1b() -> Spec {
    llama(16, 2048, [32, 8, 64], 8192, 128_256)
}

fn llama_8b() -> Spec {
    llama(32, 4096, [32, 8, 128], 14336, 128_256)
}

fn llama(
    layers: usize,
    width: usize,
    [heads, kv_heads, head_size]: [usize; 3],
    intermediate_size: usize,
    vocab_size: usize,
) -> Spec {
    let rope =
        Rope { pairs: head_size / 2, dims: head_size, theta: 5e5, scaling: Scaling::None, attention_factor: 1.0 };
    let scale = 1.0 / (head_size as f32).sqrt();
    Spec {
        hidden_size: width,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_size,
        intermediate_size,
        vocab_size,
        max_position_embeddings: 8192,
        ropes: vec![rope],
        blocks: vec![BlockSpec { mask: Mask::CAUSAL, rope: Some(0), scale, attention_norm: true }; layers],
        ..models::llama(layers)
    }
}
