//! The residual stream's points: where it can be watched, by the field's names.

mod points;
mod trace;

pub use points::{Kind, Point, parse_points};
pub use trace::{Tensor, Trace};
