//! The schedule: a recording of dispatches as plain data, and the engine that replays it over the residual stream.

mod batch;
mod compile;
mod edits;
mod pace;
mod profile;
mod program;
mod recording;
mod workspace;

pub use batch::{Batch, Draw, Tile};
pub use compile::{Choices, Head, Purpose, Watch, record};
pub use edits::{Change, Edits, Operation, RowEdit};
pub use profile::DispatchTime;
pub(crate) use profile::nanoseconds;
pub use program::{Outcome, Program};
pub(crate) use program::{Running, fold};
pub use recording::{
    Bounds, Capture, Command, Dim, Dims, Dispatch, Extent, Grid, Input, Recording, Scratch, Site, Slot, Tiling, Word,
    Work,
};
pub(crate) use workspace::CacheView;
