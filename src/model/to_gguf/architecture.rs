//! The architectures of llama.cpp that can be written, and what each can say.

use crate::kernels::matmul::Activation;
use crate::model::{Biases, Spec};

/// Which blocks of an architecture may have a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None.
    None,
    /// All or none. The window stands in the file, but llama.cpp lets every token of these see all before it.
    All,
    /// Any.
    Pattern,
}

/// An architecture of llama.cpp.
#[derive(Debug)]
pub struct Architecture {
    /// Its name there.
    pub name: &'static str,
    /// The values of `model_type` that it serves.
    pub model_types: &'static [&'static str],
    /// Of the FFN. BERT's GELU is computed with tanh there, which is the habit of all files of that kind.
    pub activations: &'static [Activation],
    /// Which biases it has room for.
    pub biases: Biases,
    /// Whether both soft caps must be there.
    pub capped: bool,
    /// Whether heads must be as wide as the model together.
    pub square: bool,
    /// Which blocks may have a window.
    pub windows: Windows,
    /// Whether the rows of queries and keys are stored in pairs of neighbours.
    pub neighbours: bool,
    /// The number of blocks of the one model whose scores are scaled by the width of its heads' share instead of their
    /// size.
    pub odd_one: Option<usize>,
}

const PLAIN: Architecture = Architecture {
    name: "",
    model_types: &[],
    activations: &[Activation::Silu],
    biases: Biases { qkv: false, o: false, mlp: false },
    capped: false,
    square: false,
    windows: Windows::None,
    neighbours: false,
    odd_one: None,
};

const ALL: Biases = Biases { qkv: true, o: true, mlp: true };

/// Every architecture that can be written.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        model_types: &["llama", "mistral"],
        biases: ALL,
        windows: Windows::All,
        neighbours: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen2",
        model_types: &["qwen2"],
        biases: Biases { qkv: true, o: false, mlp: false },
        ..PLAIN
    },
    Architecture { name: "qwen3", model_types: &["qwen3"], ..PLAIN },
    Architecture {
        name: "gemma2",
        model_types: &["gemma2"],
        activations: &[Activation::GeluTanh],
        capped: true,
        windows: Windows::Pattern,
        odd_one: Some(46),
        ..PLAIN
    },
    Architecture {
        name: "gemma3",
        model_types: &["gemma3_text"],
        activations: &[Activation::GeluTanh],
        windows: Windows::Pattern,
        odd_one: Some(62),
        ..PLAIN
    },
    Architecture { name: "phi3", model_types: &["phi3"], square: true, windows: Windows::All, ..PLAIN },
    Architecture {
        name: "gpt2",
        model_types: &["gpt2"],
        activations: &[Activation::GeluTanh],
        biases: ALL,
        square: true,
        ..PLAIN
    },
    Architecture {
        name: "bert",
        model_types: &["bert"],
        activations: &[Activation::GeluErf, Activation::GeluTanh],
        biases: ALL,
        square: true,
        ..PLAIN
    },
];

impl Architecture {
    /// What scores are multiplied by.
    pub fn scale(&self, spec: &Spec) -> f32 {
        let size = match self.odd_one {
            Some(blocks) if blocks == spec.num_hidden_layers => spec.hidden_size / spec.num_attention_heads,
            _ => spec.head_size,
        };
        (size as f64).sqrt().recip() as f32
    }
}
