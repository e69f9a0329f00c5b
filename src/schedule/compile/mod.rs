//! From a model's spec to a recording: the list of dispatches of one forward, compiled for its purpose and for the points
//! asked of it.

mod blocks;
mod heads;
mod rows;
mod seen;

use super::recording::{Command, Dispatch, Recording, Scratch, Site, Slot, Word};
use super::sizes::{Bounds, Dim, Extent};
use crate::files::Pooling;
use crate::gpu::Capabilities;
use crate::kernels::attention;
use crate::kernels::edit::{self, Edit};
use crate::kernels::embed::Embed;
use crate::kernels::matmul;
use crate::kernels::matvec;
use crate::kernels::{Reduce, Rows};
use crate::model::{Spec, Tensors};
use crate::stream::{Kind, Point, Tap};

/// Which variants an adapter runs: the same for every batch, so that every batch sums in the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choices {
    /// Tiling of products.
    pub matmul: matmul::Form,
    /// Products of decode steps.
    pub matvec: matvec::Form,
    /// How keys reach queries.
    pub attention: attention::Form,
    /// Sums over a workgroup.
    pub reduce: Reduce,
    /// Who sums the rows of norms.
    pub sums: Rows,
}

impl Choices {
    /// The defaults of an adapter.
    pub fn of(capabilities: &Capabilities) -> Self {
        Choices {
            matmul: matmul::Form::choose(capabilities),
            matvec: matvec::Form::choose(capabilities),
            attention: attention::Form::choose(capabilities),
            reduce: Reduce::choose(capabilities),
            sums: Rows::choose(capabilities),
        }
    }
}

/// What a forward is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// Whole sequences, of which nothing but the captures comes back.
    Trace,
    /// Whole sequences become vectors.
    Embed(Head),
    /// Tokens' keys and values go into the cache, and nothing comes back.
    Prefill,
    /// One token of each sequence goes into the cache, and the id of the next comes back, as the bits of an f32.
    Decode,
    /// One token of each sequence goes into the cache, and the logits of the next come back.
    Logits,
    /// Whole sequences, of each of which the logits after its last token come back.
    Score,
    /// Rows of the stream, each a token as if it stood behind the last block: what `logit_stats` says of its logits comes
    /// back, so many of the likeliest tokens included. Of a model without a head nothing does.
    Lens {
        /// Of the likeliest tokens.
        top: usize,
    },
    /// Such rows of a model with a head, of which only -log p of the token that the batch names comes back.
    Surprise,
}

impl Purpose {
    /// Whether keys and values are in the cache, rather than in the batch's own rows.
    fn cached(&self) -> bool {
        matches!(self, Purpose::Prefill | Purpose::Decode | Purpose::Logits)
    }

    /// Whether every sequence has one token.
    fn steps(&self) -> bool {
        matches!(self, Purpose::Decode | Purpose::Logits)
    }
}

/// What becomes of the stream after the last block.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// Pooling modes, side by side.
    pub pooling: Vec<Pooling>,
    /// Whether the result is scaled to length 1.
    pub normalize: bool,
}

/// What instruments ask of a recording. The default is nothing, which is the plain fused forward.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// What comes back. A point that is edited too is seen as it is afterwards.
    pub taps: Vec<Tap>,
    /// Points of which only a [`Summary`](crate::stream::Summary) comes back, of each token and head.
    pub summaries: Vec<Tap>,
    /// How many of the largest elements a summary names, 64 at most.
    pub top: usize,
    /// Where batches may edit. A forward that never gets to a point has no site for it.
    pub edits: Vec<Point>,
    /// The forward begins with this block, and not with the embedding: its first site is the stream before that block, where
    /// a batch must set every row. The number of blocks leaves only what follows them.
    pub from: Option<usize>,
    /// What passes the taps stays on the GPU, for [`Probe::hold`](crate::stream::Probe::hold).
    pub held: bool,
    /// The attention of that block is done too, up to z, which comes with the batch as well, at the second site. Nothing in
    /// front of z is passed in the block then.
    pub attended: bool,
}

impl Watch {
    /// Points that come back, whole or narrowed.
    pub fn taps<T>(taps: &[T]) -> Self
    where
        for<'a> &'a T: Into<Tap>,
    {
        Watch { taps: taps.iter().map(Into::into).collect(), ..Watch::default() }
    }

    /// Everything that is watched.
    pub(crate) fn seen(&self) -> impl Iterator<Item = &Tap> {
        self.taps.iter().chain(&self.summaries)
    }

    /// Every point that is watched or edited.
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> {
        self.seen().map(|tap| tap.point).chain(self.edits.iter().copied())
    }
}

/// Records a forward.
pub fn record(spec: &Spec, tensors: &Tensors, purpose: &Purpose, choices: Choices, watch: &Watch) -> Recording {
    let recording = Recording {
        commands: Vec::new(),
        d_model: spec.hidden_size,
        scratch: Vec::new(),
        captures: Vec::new(),
        sites: Vec::new(),
        least: watch.seen().filter_map(|tap| tap.tokens.as_ref()).map(|tokens| tokens.end).max().unwrap_or(0),
        held: watch.held,
        resumed: usize::from(watch.from.is_some()) + usize::from(watch.attended),
        output: None,
        tile: attention::tile(spec.head_size),
        bounds: Bounds {
            ids: spec.vocab_size as u32,
            positions: match tensors.positions {
                Some(_) => spec.max_position_embeddings as u32,
                None => u32::MAX,
            },
            types: spec.type_vocab_size.max(1) as u32,
        },
        pairs: [0, 1].map(|i| spec.ropes.get(i).map_or(0, |rope| rope.pairs)),
    };
    let mut recorder = Recorder { spec, purpose, choices, watch, alone: None, recording };
    match watch.from {
        None => recorder.embed(tensors),
        Some(block) => recorder.resume(block),
    }
    recorder.blocks(tensors);
    match purpose {
        Purpose::Trace => recorder.traced_head(tensors),
        Purpose::Embed(head) => recorder.pooled(tensors, head),
        Purpose::Prefill if recorder.taps_behind_keys(spec.num_hidden_layers - 1) => recorder.traced_head(tensors),
        Purpose::Prefill => {}
        Purpose::Decode | Purpose::Logits => recorder.next_token(tensors),
        Purpose::Score => recorder.score(tensors),
        Purpose::Lens { top } => recorder.lens(tensors, *top),
        Purpose::Surprise => recorder.surprise(tensors),
    }
    recorder.count_sites();
    recorder.recording
}

struct Recorder<'a> {
    spec: &'a Spec,
    purpose: &'a Purpose,
    choices: Choices,
    watch: &'a Watch,
    /// From here on only one row of each sequence goes on, in this buffer instead of the stream.
    alone: Option<Slot>,
    recording: Recording,
}

impl Recorder<'_> {
    fn push(&mut self, mut dispatch: Dispatch) {
        if let Some(rows) = self.alone {
            dispatch.bindings.iter_mut().filter(|slot| **slot == Slot::Stream).for_each(|slot| *slot = rows);
            let extents = dispatch.params.iter_mut().filter_map(|word| match word {
                Word::Extent(extent) => Some(&mut extent.dim),
                _ => None,
            });
            let grids = dispatch.tilings.iter_mut().map(|tiling| &mut tiling.grid.extent.dim);
            let dims = extents.chain(grids).chain([&mut dispatch.grid.extent.dim, &mut dispatch.work.dim]);
            dims.filter(|dim| **dim == Dim::Tokens).for_each(|dim| *dim = Dim::Sequences);
        }
        self.recording.commands.push(Command::Dispatch(dispatch));
    }

    fn scratch(&mut self, name: &'static str, times: usize, dim: Dim) -> Slot {
        self.recording.scratch.push(Scratch { name, size: Extent::new(times as u64, dim) });
        Slot::Scratch(self.recording.scratch.len() - 1)
    }

    fn wants(&self, block: usize, kind: Kind) -> bool {
        self.watch.seen().any(|tap| tap.point == Point::new(block, kind))
    }

    /// Whether a point is watched or edited.
    fn touches(&self, block: usize, kind: Kind) -> bool {
        self.watch.points().any(|point| point == Point::new(block, kind))
    }

    fn edits(&self, block: usize, kind: Kind) -> bool {
        self.watch.edits.contains(&Point::new(block, kind))
    }

    /// Edits a point here, where that was asked for: `columns` of rows of `stride`.
    fn edit(&mut self, block: usize, kind: Kind, values: Slot, stride: usize, columns: std::ops::Range<usize>) {
        let point = Point::new(block, kind);
        if self.edits(block, kind) {
            self.site(Site::rows(point, values, stride, columns));
        }
    }

    fn site(&mut self, site: Site) {
        let Site { values, stride, columns: part, .. } = site;
        let reduce = self.choices.reduce;
        let number = self.recording.sites.len();
        self.recording.sites.push(site);
        self.push(Edit { reduce, values, stride, part, site: number, sites: 0 }.dispatch());
    }

    /// Edits are told how many sites there are, which is known at the end.
    fn count_sites(&mut self) {
        let sites = self.recording.sites.len() as u32;
        for command in &mut self.recording.commands {
            if let Command::Dispatch(dispatch) = command
                && dispatch.variant.kernel == edit::KERNEL.name
            {
                dispatch.params[edit::SITES] = Word::U32(sites);
            }
        }
    }

    /// The stream before a block comes with the batch.
    fn resume(&mut self, block: usize) {
        let columns = self.spec.hidden_size;
        let point = Point::new(block, Kind::ResidPre);
        self.site(Site::rows(point, Slot::Stream, columns, 0..columns));
        self.recording.commands.push(Command::Boundary);
    }

    /// Edits and captures the stream, or a term of its width.
    fn tap_row(&mut self, block: usize, from: Slot, kind: Kind) {
        let d = self.spec.hidden_size;
        self.tap(block, from, d, &[(kind, 0..d)]);
    }

    fn embed(&mut self, tensors: &Tensors) {
        let scale = self.spec.embedding_scale;
        // each table alone first, where it is asked for: the ids' weigh nothing where it is not theirs
        for (kind, scale, positions, types) in [
            (Kind::TokEmbed, scale, None, None),
            (Kind::PosEmbed, 0.0, tensors.positions, None),
            (Kind::TypeEmbed, 0.0, None, tensors.types),
        ] {
            if self.touches(0, kind) {
                self.embed_from(tensors, scale, positions, types);
                self.tap_row(0, Slot::Stream, kind);
            }
        }
        self.embed_from(tensors, scale, tensors.positions, tensors.types);
        if let Some(norm) = tensors.embedding_norm {
            self.norm_in_place(norm);
        }
        self.tap_row(0, Slot::Stream, Kind::Embed);
        self.recording.commands.push(Command::Boundary);
    }

    fn embed_from(&mut self, tensors: &Tensors, scale: f32, positions: Option<Slot>, types: Option<Slot>) {
        for chunk in &tensors.words.chunks {
            self.push(
                Embed {
                    weight: chunk.weight_type,
                    words: chunk.slot,
                    first_row: chunk.first_row,
                    rows: chunk.rows,
                    columns: self.spec.hidden_size,
                    positions,
                    types,
                    scale,
                }
                .dispatch(),
            );
        }
    }
}
