//! Models: a spec, a table of tensor names, and weights. A family is data: one file, no code of its own elsewhere.

mod bert;
mod distilbert;
mod layout;
mod mpnet;
mod relative;
mod spec;
mod weights;

pub use layout::{Block, Chunk, Dense, Layout, Linear, Matrix, Norm, Parameter, Tensors};
pub use spec::{Family, Names, Positions, RelativeBuckets, Spec};
pub use weights::{Dtype, upload};

/// Every family that can be loaded.
pub const FAMILIES: &[Family] = &[bert::FAMILY, distilbert::FAMILY, mpnet::FAMILY];
