//! The recording: what one forward does, as plain data that is made once and replayed for every batch.

use std::collections::HashSet;

use super::batch::{Draw, Tile};
use super::edits::Change;
use super::sizes::{Bounds, Dim, Dims, Extent};
use crate::kernels::Variant;
use crate::stream::Point;

/// One 32-bit word of a kernel's parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Word {
    /// A fixed number.
    U32(u32),
    /// A fixed number.
    F32(f32),
    /// Filled in for each batch.
    Extent(Extent),
}

/// How many workgroups a dispatch needs: `times · ⌈extent / per⌉`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// What is counted.
    pub extent: Extent,
    /// How much of it a workgroup does.
    pub per: u64,
    /// Workgroups for each of those.
    pub times: u64,
}

impl Grid {
    /// One workgroup for each `per` of `extent`.
    pub const fn new(extent: Extent, per: u64) -> Self {
        Grid { extent, per, times: 1 }
    }

    /// Workgroups for a batch.
    pub fn count(&self, dims: &Dims) -> u64 {
        self.extent.of(dims).div_ceil(self.per) * self.times
    }
}

/// What is bound: each slot is one buffer of the model, the batch or the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The residual stream, f32 `[tokens, d_model]`: one buffer from the embedding to the head.
    Stream,
    /// A buffer of the model's weights, by its place.
    Weight(usize),
    /// A part of the batch's upload.
    Input(Input),
    /// A buffer between two kernels, by its place in [`Recording::scratch`].
    Scratch(usize),
    /// What comes back of a point, by its place in [`Recording::captures`], where a kernel writes it.
    Capture(usize),
    /// Keys and values of a block, f32 `[rows, 2, key and value heads, head_size]`, in the decoder's pool of pages.
    Cache(usize),
}

/// The parts of the batch's upload that kernels read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// `[id, position, type, row in the cache]` of each token.
    Tokens,
    /// `[first row, length, first pooled token, 0]` of each sequence of which a result is wanted.
    Sequences,
    /// A [`Tile`](super::Tile) each.
    Tiles,
    /// cos and sin of each token's pairs, f32 `[tokens, pairs, 2]`, of the model's first rotary embedding.
    Angles,
    /// The same of its second.
    LocalAngles,
    /// A [`Draw`](super::Draw) for each sequence of which a result is wanted.
    Draws,
    /// The sequences' page tables, one behind another.
    Pages,
    /// Token ids that a repetition penalty looks at, one sequence's behind another's.
    Seen,
    /// The first change of each token at each of the recording's sites, `[tokens, sites]`.
    Edits,
    /// A [`Change`](super::Change) each.
    Changes,
    /// What is set, added or projected out, f32.
    Vectors,
    /// `[token or u32::MAX, row that it is compared with]` of each token whose logits are read.
    Readings,
}

impl Input {
    /// All of them, in the order in which they are uploaded.
    pub const ALL: [Input; 12] = [
        Input::Tokens,
        Input::Sequences,
        Input::Tiles,
        Input::Angles,
        Input::LocalAngles,
        Input::Draws,
        Input::Pages,
        Input::Seen,
        Input::Edits,
        Input::Changes,
        Input::Vectors,
        Input::Readings,
    ];

    /// The rotary embedding's with that number.
    pub const ANGLES: [Input; 2] = [Input::Angles, Input::LocalAngles];

    /// How many there are.
    pub fn dim(self) -> Dim {
        match self {
            Input::Tokens | Input::Angles | Input::LocalAngles | Input::Edits | Input::Readings => Dim::Tokens,
            Input::Sequences | Input::Draws => Dim::Sequences,
            Input::Tiles => Dim::Tiles,
            Input::Pages => Dim::Pages,
            Input::Seen => Dim::Seen,
            Input::Changes => Dim::Changes,
            Input::Vectors => Dim::Vectors,
        }
    }
}

/// The arithmetic that a dispatch does, for the estimate of its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Floating-point operations for each unit of `dim`.
    pub flops: f64,
    /// The unit.
    pub dim: Dim,
}

/// One kernel, bound and sized.
#[derive(Clone, Debug, PartialEq)]
pub struct Dispatch {
    /// Which kernel, built how.
    pub variant: Variant,
    /// Its parameters, in the order of the WGSL struct.
    pub params: Vec<Word>,
    /// What is bound from binding 1 on.
    pub bindings: Vec<Slot>,
    /// How many workgroups.
    pub grid: Grid,
    /// What it costs.
    pub work: Work,
    /// The same in other tiles, for batches that these fit better.
    pub tilings: Vec<Tiling>,
}

/// A dispatch in another tile: parameters, bindings and, to the bit, outputs are the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiling {
    /// For which extents of the grid.
    pub sizes: std::ops::RangeInclusive<u64>,
    /// The kernel, built so.
    pub variant: Variant,
    /// How many workgroups.
    pub grid: Grid,
}

impl Dispatch {
    /// Which of its tilings a batch takes, if not its own.
    pub fn tiling(&self, dims: &Dims) -> Option<usize> {
        let size = self.grid.extent.of(dims);
        self.tilings.iter().position(|tiling| tiling.sizes.contains(&size))
    }

    /// Variant and grid for a batch.
    pub fn fitted(&self, dims: &Dims) -> (&Variant, Grid) {
        self.tiling(dims).map_or((&self.variant, self.grid), |i| (&self.tilings[i].variant, self.tilings[i].grid))
    }

    /// Every variant that some batch takes.
    pub fn variants(&self) -> impl Iterator<Item = &Variant> {
        std::iter::once(&self.variant).chain(self.tilings.iter().map(|tiling| &tiling.variant))
    }
}

/// A step of a recording.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every command is a dispatch")]
pub enum Command {
    /// Run a kernel.
    Dispatch(Dispatch),
    /// Copy a buffer's present content into [`Recording::captures`], by its place.
    Capture(usize),
    /// End of a block: the one place where a forward may be split into two submissions.
    Boundary,
}

/// A buffer between two kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// For labels and errors.
    pub name: &'static str,
    /// f32 elements.
    pub size: Extent,
}

/// What was in a buffer at some moment of the forward, and the points that it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// What is copied; nothing where a kernel writes the capture itself.
    pub from: Option<Slot>,
    /// f32 elements.
    pub size: Extent,
    /// Elements in a row; each point is a range of columns.
    pub columns: usize,
    /// Of a point with heads, which of them it shows; all, where nothing is said.
    pub heads: Option<std::ops::Range<usize>>,
    /// Whether it shows what [`Summarize`](crate::kernels::summarize::Summarize) tells of its point.
    pub summary: bool,
    /// The points, and the columns where each begins and ends.
    pub points: Vec<(Point, std::ops::Range<usize>)>,
}

/// A place where a forward can be edited: what of each token's row belongs to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The point.
    pub point: Point,
    /// What is edited, f32 `[tokens, stride]`.
    pub values: Slot,
    /// Elements in a row.
    pub stride: Extent,
    /// Where the point begins in a row.
    pub first: usize,
    /// Parts that follow one another there and that edits name: the heads of a pattern, else 1.
    pub parts: usize,
    /// Elements of each.
    pub columns: Extent,
}

impl Site {
    /// Elements of a point whose rows have the same length in every batch.
    pub fn rows(point: Point, values: Slot, stride: usize, columns: std::ops::Range<usize>) -> Self {
        let [stride, own] = [stride, columns.len()].map(|n| Extent::new(n as u64, Dim::One));
        Site { point, values, stride, first: columns.start, parts: 1, columns: own }
    }
}

/// A forward as plain data. Without captures and sites it is the plain fused one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What is done, in order.
    pub commands: Vec<Command>,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Buffers between kernels.
    pub scratch: Vec<Scratch>,
    /// Copies for instruments.
    pub captures: Vec<Capture>,
    /// Where batches may edit it, in order.
    pub sites: Vec<Site>,
    /// Tokens that every sequence of a batch must have: narrowed taps read so far.
    pub least: usize,
    /// Whether captures stay on the GPU.
    pub held: bool,
    /// Where it begins behind the embedding: the first so many sites, at which every row must be set.
    pub resumed: usize,
    /// What comes back, and its size in f32 elements; `None` where only captures do.
    pub output: Option<(Slot, Extent)>,
    /// Queries in an attention tile.
    pub tile: u32,
    /// Rows of the tables: a batch that needs more is refused.
    pub bounds: Bounds,
    /// Turned pairs of the model's rotary embeddings; 0 where there is none.
    pub pairs: [usize; 2],
}

impl Recording {
    /// The dispatches, in order.
    pub fn dispatches(&self) -> impl Iterator<Item = &Dispatch> {
        self.commands.iter().filter_map(|command| match command {
            Command::Dispatch(dispatch) => Some(dispatch),
            _ => None,
        })
    }

    /// The variants that it runs, each once.
    pub fn variants(&self) -> Vec<Variant> {
        let mut seen = HashSet::new();
        let variants = self.dispatches().flat_map(Dispatch::variants);
        variants.filter(|variant| seen.insert(&variant.label)).cloned().collect()
    }

    /// The sizes that its buffers depend on: keys only where a pattern is stored, splits only where their results are.
    pub fn sized_by(&self, dims: Dims) -> Dims {
        let sized = |dim| self.scratch.iter().any(|s| s.size.dim == dim);
        let kept = |dim, size| if sized(dim) { size } else { 0 };
        Dims { pairs: 0, keys: kept(Dim::Pattern, dims.keys), splits: kept(Dim::Partials, dims.splits), ..dims }
    }

    /// Whether it says what rows of logits say.
    pub(super) fn reads(&self) -> bool {
        self.dispatches().any(|dispatch| dispatch.bindings.contains(&Slot::Input(Input::Readings)))
    }

    /// The site of a point.
    pub fn site(&self, point: Point) -> Option<usize> {
        self.sites.iter().position(|site| site.point == point)
    }

    /// The sizes that kernels are told in their parameters; the others are in the batch's own tables.
    pub(super) fn told_by_parameters(&self, dims: Dims) -> Dims {
        let told = |dim| {
            let extents = |word: &Word| matches!(word, Word::Extent(extent) if extent.dim == dim);
            self.dispatches().any(|dispatch| dispatch.params.iter().any(extents))
        };
        let kept = |dim, size| if told(dim) { size } else { 0 };
        Dims {
            pairs: kept(Dim::Pairs, dims.pairs),
            keys: kept(Dim::Keys, dims.keys),
            pages: kept(Dim::Pages, dims.pages),
            seen: kept(Dim::Seen, dims.seen),
            changes: kept(Dim::Changes, dims.changes),
            vectors: kept(Dim::Vectors, dims.vectors),
            ..dims
        }
    }

    /// Bytes of one entry of an input.
    fn input_size(&self, input: Input) -> u64 {
        match input {
            Input::Tokens | Input::Sequences => 16,
            Input::Tiles => size_of::<Tile>() as u64,
            Input::Draws => size_of::<Draw>() as u64,
            Input::Angles => 8 * self.pairs[0] as u64,
            Input::LocalAngles => 8 * self.pairs[1] as u64,
            Input::Pages | Input::Seen | Input::Vectors => 4,
            Input::Edits => 4 * self.sites.len() as u64,
            Input::Readings if self.reads() => 8,
            Input::Readings => 0,
            Input::Changes => size_of::<Change>() as u64,
        }
    }

    /// Bytes of a workspace for batches of that size: the stream, buffers between kernels, captures, the upload and the
    /// readback.
    pub fn workspace_bytes(&self, dims: &Dims) -> u64 {
        let scratch: u64 = (0..self.scratch.len()).map(|i| self.bytes(Slot::Scratch(i), dims)).sum();
        let inputs: u64 = Input::ALL.iter().map(|&input| self.bytes(Slot::Input(input), dims)).sum();
        let output = self.output.map_or(0, |(_, extent)| 4 * extent.of(dims));
        // each capture is copied twice: into a buffer of its own, and into the one that is read
        let captures: u64 = self.captures.iter().map(|c| 8 * c.size.of(dims)).sum();
        let params = 256 * self.dispatches().count() as u64;
        self.bytes(Slot::Stream, dims) + scratch + inputs + output + captures + params
    }

    /// The arithmetic of a forward over a batch of that size.
    pub fn flops(&self, dims: &Dims) -> f64 {
        self.dispatches().map(|d| d.work.flops * f64::from(dims.get(d.work.dim))).sum()
    }

    /// Size of a slot that lives in a workspace, in bytes; weights have their own.
    pub fn bytes(&self, slot: Slot, dims: &Dims) -> u64 {
        match slot {
            Slot::Stream => 4 * self.d_model as u64 * u64::from(dims.tokens),
            Slot::Scratch(i) => 4 * self.scratch[i].size.of(dims),
            Slot::Capture(i) => 4 * self.captures[i].size.of(dims),
            Slot::Input(input) => self.input_size(input) * u64::from(dims.get(input.dim())),
            Slot::Weight(_) | Slot::Cache(_) => 0,
        }
    }
}
