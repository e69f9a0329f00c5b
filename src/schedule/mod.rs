//! The schedule: a recording of dispatches as plain data, and the engine that replays it over the residual stream.

mod batch;
mod compile;
mod edits;
mod pace;
mod profile;
mod program;
mod recording;
mod sizes;
mod workspace;

pub use batch::{Batch, Draw, Tile};
pub use compile::{Choices, Head, Purpose, Watch, record};
pub use edits::{Change, Edits, Operation, RowEdit};
pub use profile::DispatchTime;
pub(crate) use profile::nanoseconds;
pub use program::{Outcome, Program};
pub(crate) use program::{Running, fold};
pub use recording::{Capture, Command, Dispatch, Grid, Input, Recording, Scratch, Site, Slot, Tiling, Word, Work};
pub use sizes::{Bounds, Dim, Dims, Extent};
pub(crate) use workspace::CacheView;
