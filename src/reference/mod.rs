//! The oracle: every kernel's operation again in plain f64 loops, slow on purpose and never optimised.

mod attention;
mod attention_merge;
mod attention_scores;
mod attention_split;
mod embed;
mod gate;
mod kv_store;
mod l2_normalize;
mod layer_norm;
mod matmul;
mod matvec;
mod pool;
mod residual_add;
mod rms_norm;
mod rope;
mod sample;
mod soft_cap;
mod softmax;

pub use attention::{AttentionInput, Span, attention};
pub use attention_merge::attention_merge;
pub use attention_scores::attention_scores;
pub use attention_split::attention_split;
pub use embed::embed;
pub use gate::gate;
pub use kv_store::kv_store;
pub use l2_normalize::l2_normalize;
pub use layer_norm::layer_norm;
pub use matmul::{activate, matmul};
pub use matvec::matvec;
pub use pool::pool;
pub use residual_add::residual_add;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use sample::{Sampled, sample};
pub use soft_cap::soft_cap;
pub use softmax::softmax;
