//! The forms of the pieces: specs of small models, one for each way that blocks differ, with sizes that are no multiples of
//! anything where no quantised weight asks for whole blocks.

use crate::kernels::attention::Mask;
use crate::kernels::matmul::Activation;
use crate::model::{
    Biases, BlockSpec, LmHead, MaskedHead, NormKind, Placement, Positions, QkNorm, RelativeBuckets, Rope, Scaling, Spec,
};

/// Ids of a vocabulary of this many.
pub const VOCABULARY: usize = 97;

/// An encoder's block, post-norm, with sizes that are no multiples of anything.
pub fn bert(layers: usize) -> Spec {
    let head_size = 13;
    Spec {
        model_type: "post-norm".into(),
        hidden_size: 52,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_size,
        intermediate_size: 101,
        vocab_size: VOCABULARY,
        max_position_embeddings: 64,
        type_vocab_size: 2,
        blocks: vec![BlockSpec::full(head_size); layers],
        ..Spec::neutral()
    }
}

/// The same with a bias of the scores by relative position.
pub fn mpnet(layers: usize) -> Spec {
    let buckets = RelativeBuckets { buckets: 32, max_distance: 128 };
    Spec { model_type: "relative positions".into(), relative_bias: Some(buckets), ..bert(layers) }
}

/// An encoder with a head for masked tokens, with all biases there are; its decoder is the word table.
pub fn masked_bert(layers: usize) -> Spec {
    let head = MaskedHead { activation: Activation::GeluErf, dense_bias: true, bias: true, tied: true };
    Spec { model_type: "masked tokens".into(), masked_head: Some(head), ..bert(layers) }
}

/// The same behind a final norm, without biases and with a decoder of its own.
pub fn masked_modernbert(layers: usize) -> Spec {
    let head = MaskedHead { activation: Activation::GeluErf, dense_bias: false, bias: false, tied: false };
    Spec { model_type: "masked tokens, pre-norm".into(), masked_head: Some(head), ..modernbert(layers) }
}

/// A decoder's: rotary, without biases, heads that share keys.
pub fn llama(layers: usize) -> Spec {
    let (head_size, pairs) = (16, 8);
    let scale = 0.25;
    let rope = Rope { pairs, dims: 2 * pairs, theta: 1e4, scaling: Scaling::None, attention_factor: 1.0 };
    Spec {
        model_type: "pre-norm".into(),
        hidden_size: 60,
        num_hidden_layers: layers,
        num_attention_heads: 6,
        num_key_value_heads: 2,
        head_size,
        intermediate_size: 77,
        vocab_size: VOCABULARY,
        max_position_embeddings: 512,
        positions: Positions::Rotary,
        embedding_norm: false,
        norm: NormKind::Rms,
        norm_eps: 1e-6,
        placement: Placement::Pre,
        blocks: vec![BlockSpec { mask: Mask::CAUSAL, rope: Some(0), scale, attention_norm: true }; layers],
        ropes: vec![rope],
        activation: Activation::Silu,
        gated: true,
        biases: Biases { qkv: false, o: false, mlp: false },
        final_norm: true,
        head: Some(LmHead { tied: true, cap: None }),
        ..Spec::neutral()
    }
}

/// Norms on both sides, caps, windows in every other block, γ stored less 1.
pub fn gemma(layers: usize) -> Spec {
    let mut spec = Spec {
        model_type: "norms around".into(),
        embedding_scale: 60f32.sqrt(),
        norm: NormKind::RmsPlusOne,
        placement: Placement::Around,
        attention_cap: Some(5.0),
        activation: Activation::GeluTanh,
        head: Some(LmHead { tied: true, cap: Some(3.0) }),
        ..llama(layers)
    };
    for block in spec.blocks.iter_mut().step_by(2) {
        block.mask = Mask::window(9);
    }
    spec
}

/// Norms after the sublayers, and over whole rows of queries and keys; biases in the FFN, so that its gate is apart.
pub fn olmo(layers: usize) -> Spec {
    let spec = llama(layers);
    let blocks = spec.blocks.iter().map(|block| BlockSpec { attention_norm: false, ..*block }).collect();
    let biases = Biases { qkv: false, o: false, mlp: true };
    Spec { model_type: "norms after".into(), placement: Placement::After, qk_norm: QkNorm::Row, biases, blocks, ..spec }
}

/// Attention and the FFN side by side, a part of each head turned, biases, a head of its own.
pub fn neox(layers: usize) -> Spec {
    let rope = Rope { pairs: 3, dims: 6, theta: 1e4, scaling: Scaling::None, attention_factor: 1.0 };
    Spec {
        model_type: "parallel".into(),
        num_key_value_heads: 6,
        norm: NormKind::Layer,
        placement: Placement::Parallel,
        ropes: vec![rope],
        activation: Activation::GeluErf,
        gated: false,
        biases: Biases { qkv: true, o: true, mlp: true },
        head: Some(LmHead { tied: false, cap: None }),
        ..llama(layers)
    }
}

/// Learned positions, LayerNorm and biases before, a scale of each block's own.
pub fn gpt2(layers: usize) -> Spec {
    let own = |(l, block): (usize, &BlockSpec)| BlockSpec { rope: None, scale: block.scale / (l + 1) as f32, ..*block };
    let blocks = llama(layers).blocks.iter().enumerate().map(own).collect();
    Spec {
        model_type: "learned positions".into(),
        positions: Positions::FromZero,
        placement: Placement::Pre,
        ropes: Vec::new(),
        activation: Activation::GeluTanh,
        head: Some(LmHead { tied: true, cap: None }),
        blocks,
        ..neox(layers)
    }
}

/// An encoder with gates, local attention in two blocks of three, and a rotation of their own there.
pub fn modernbert(layers: usize) -> Spec {
    let local = BlockSpec { mask: Mask { before: 7, after: 7 }, rope: Some(1), scale: 0.25, attention_norm: true };
    let global = BlockSpec { mask: Mask::NONE, rope: Some(0), ..local };
    let rope = |theta| Rope { pairs: 8, dims: 16, theta, scaling: Scaling::None, attention_factor: 1.0 };
    Spec {
        model_type: "local".into(),
        num_key_value_heads: 6,
        norm: NormKind::LayerNoBias,
        embedding_norm: true,
        ropes: vec![rope(1.6e5), rope(1e4)],
        blocks: (0..layers).map(|l| if l % 3 == 0 { global } else { local }).collect(),
        activation: Activation::GeluErf,
        head: None,
        ..llama(layers)
    }
}

/// Queries and keys normalised head by head, and rows of whole blocks for quantised weights.
pub fn qwen3(layers: usize) -> Spec {
    Spec {
        model_type: "norms of heads".into(),
        hidden_size: 256,
        head_size: 64,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        intermediate_size: 512,
        qk_norm: QkNorm::Head,
        ropes: vec![Rope { pairs: 32, dims: 64, theta: 1e6, scaling: Scaling::None, attention_factor: 1.0 }],
        ..llama(layers)
    }
}
