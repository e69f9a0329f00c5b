//! The benchmark: how fast an adapter is, and how near to its own ceilings each kernel and each model comes. [`run`] measures,
//! [`Report`] is what came of it, [`Comparison`] sets two of them side by side.
//!
//! Nothing is reported as a number whose output was not verified: kernels beside the f64 references, as in
//! [`check`](mod@crate::check), whole models beside a forward on the host.

mod ceilings;
mod compare;
mod kernels;
mod models;
mod probes;
mod report;
mod rotation;
mod run;
mod session;
mod shapes;
mod start;
mod statistics;
mod subject;
mod timing;

pub use ceilings::{Ceiling, Ceilings};
pub use compare::{Comparison, Ratio};
pub use probes::PROBES;
pub use report::{Adapter, Format, Measured, Report, Skipped, Wrong};
pub use run::{Options, Suite, run};
pub use start::{Start, model_name, start};
pub use statistics::Statistics;
