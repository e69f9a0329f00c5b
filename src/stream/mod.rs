//! Instruments on the residual stream: its points by the field's names, what passes them, and what is changed there.

mod ablate;
mod attribute;
mod captured;
mod edit;
mod edit_file;
mod lens;
mod measure;
mod metric;
mod parts;
mod patch;
mod points;
mod probe;
pub mod report;
mod steer;
mod surprise;
mod sweep;
mod tap;
mod trace;

pub use ablate::{Ablation, Component, Replacement, ablations};
pub use attribute::{Attribution, Question};
pub(crate) use captured::Captured;
pub use edit::{Action, Edit};
pub(crate) use edit::{Uploaded, edited_points, enter};
pub use edit_file::{load_edits, save_edits};
pub use lens::{Distribution, Guess, Lens, LensRow, LensView, Reading};
pub use measure::{Activation, BlockMeasures, Contribution, Measures, rank_residual};
pub use metric::Metric;
pub use parts::{Part, Parts};
pub use patch::{Patching, Place, patch, patch_blocking};
pub use points::{Kind, Point};
pub use probe::{Held, HeldPoint, Look, Probe, Seen};
pub use report::Report;
pub use steer::{Over, Steering};
pub use sweep::Sweep;
pub use tap::{Tap, parse_points, parse_taps};
pub use trace::{Summary, Tensor, Trace};
