//! Models: a spec, a table of tensor names, and weights. A family is data: one file, no code of its own elsewhere.

mod ahead;
mod bert;
mod distilbert;
mod finite;
mod from_gguf;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod layout;
mod llama;
mod mistral;
mod modernbert;
mod mpnet;
mod names;
mod olmo2;
mod open;
mod options;
mod phi3;
mod place;
mod qwen2;
mod qwen3;
mod read;
mod relative;
mod rope;
mod spec;
pub mod to_gguf;
mod weights;

pub use layout::{
    Block, Change, Chunk, Dense, Layout, Linear, LogitHead, Matrix, Norm, Parameter, Part, Tensors, Transform,
};
pub use names::{Family, MaskedNames, Names, QkvRows};
pub(crate) use open::Files;
pub use open::{LoadOptions, Model};
pub use rope::{Rope, Scaling};
pub use spec::{Biases, BlockSpec, LmHead, MaskedHead, NormKind, Placement, Positions, QkNorm, RelativeBuckets, Spec};
pub use weights::{Dtype, upload};

/// Every family that can be loaded.
pub const FAMILIES: &[Family] = &[
    bert::FAMILY,
    distilbert::FAMILY,
    mpnet::FAMILY,
    modernbert::FAMILY,
    gpt2::FAMILY,
    gpt_neox::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    phi3::FAMILY,
    olmo2::FAMILY,
];
