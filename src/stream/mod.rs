//! Instruments on the residual stream: its points by the field's names, what passes them, and what is changed there.

mod attribute;
mod edit;
mod lens;
mod measure;
mod parts;
mod points;
mod probe;
pub mod report;
mod trace;

pub use attribute::{Attribution, Question};
pub use edit::{Action, Edit};
pub(crate) use edit::{Uploaded, edited_points, enter};
pub use lens::{Distribution, Guess, Lens, LensRow, LensView, Reading};
pub use measure::{Activation, BlockMeasures, Contribution, Measures, rank_residual};
pub use parts::{Part, Parts};
pub use points::{Kind, Point, parse_points};
pub use probe::{Held, HeldPoint, Look, Probe, Seen};
pub use report::Report;
pub use trace::{Tensor, Trace};
