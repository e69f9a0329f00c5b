//! The oracle: every kernel's operation again in plain f64 loops, slow on purpose and never optimised.

mod attention;
mod attention_scores;
mod embed;
mod gate;
mod l2_normalize;
mod layer_norm;
mod matmul;
mod pool;
mod residual_add;
mod rms_norm;
mod rope;
mod softmax;

pub use attention::{AttentionInput, attention};
pub use attention_scores::attention_scores;
pub use embed::embed;
pub use gate::gate;
pub use l2_normalize::l2_normalize;
pub use layer_norm::layer_norm;
pub use matmul::{activate, matmul};
pub use pool::pool;
pub use residual_add::residual_add;
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use softmax::softmax;
