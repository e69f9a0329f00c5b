//! Sizes that differ from batch to batch, and what is measured in them.

/// A size that differs from batch to batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always 1.
    One,
    /// Tokens in the batch.
    Tokens,
    /// Sequences in the batch of which a result is wanted.
    Sequences,
    /// Attention tiles: groups of up to [`Recording::tile`] queries of one sequence.
    Tiles,
    /// Pairs of a query and a key that it may see.
    Pairs,
    /// Keys of the longest sequence.
    Keys,
    /// Tokens times keys: what one head's weights of attention are stored in.
    Pattern,
    /// Sequences times keys: what one head's weights of one token of each sequence are stored in.
    SequencePattern,
    /// Entries of the page tables.
    Pages,
    /// Pieces of [`SPLIT`] keys of the longest sequence.
    ///
    /// [`SPLIT`]: crate::kernels::attention::SPLIT
    Splits,
    /// Tiles times splits.
    Partials,
    /// Tiles, where some sequence has several such pieces; else none.
    Merges,
    /// Token ids that a repetition penalty looks at.
    Seen,
    /// Changes of rows.
    Changes,
    /// Elements of what is set, added or projected out.
    Vectors,
}

/// The sizes of one batch, or the capacities of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Dims {
    /// Tokens.
    pub tokens: u32,
    /// Sequences of which a result is wanted.
    pub sequences: u32,
    /// Attention tiles.
    pub tiles: u32,
    /// Pairs of a query and a key that it may see.
    pub pairs: u32,
    /// Keys of the longest sequence.
    pub keys: u32,
    /// Entries of the page tables.
    pub pages: u32,
    /// Pieces of keys of the longest sequence.
    pub splits: u32,
    /// Token ids that a repetition penalty looks at.
    pub seen: u32,
    /// Changes of rows.
    pub changes: u32,
    /// Elements of what is set, added or projected out.
    pub vectors: u32,
}

impl Dims {
    /// One of the sizes.
    pub fn get(&self, dim: Dim) -> u32 {
        match dim {
            Dim::One => 1,
            Dim::Tokens => self.tokens,
            Dim::Sequences => self.sequences,
            Dim::Tiles => self.tiles,
            Dim::Pairs => self.pairs,
            Dim::Keys => self.keys,
            Dim::Pattern => self.tokens.saturating_mul(self.keys),
            Dim::SequencePattern => self.sequences.saturating_mul(self.keys),
            Dim::Pages => self.pages,
            Dim::Splits => self.splits,
            Dim::Partials => self.tiles.saturating_mul(self.splits),
            Dim::Merges if self.splits > 1 => self.tiles,
            Dim::Merges => 0,
            Dim::Seen => self.seen,
            Dim::Changes => self.changes,
            Dim::Vectors => self.vectors,
        }
    }

    fn all(&self) -> [u32; 10] {
        let Dims { tokens, sequences, tiles, pairs, keys, pages, splits, seen, changes, vectors } = *self;
        [tokens, sequences, tiles, pairs, keys, pages, splits, seen, changes, vectors]
    }

    /// Whether every size is at most the other's.
    pub fn fits(&self, capacity: &Dims) -> bool {
        self.all().iter().zip(capacity.all()).all(|(size, most)| *size <= most)
    }

    /// The larger of each size.
    pub fn max(&self, other: &Dims) -> Dims {
        Dims {
            tokens: self.tokens.max(other.tokens),
            sequences: self.sequences.max(other.sequences),
            tiles: self.tiles.max(other.tiles),
            pairs: self.pairs.max(other.pairs),
            keys: self.keys.max(other.keys),
            pages: self.pages.max(other.pages),
            splits: self.splits.max(other.splits),
            seen: self.seen.max(other.seen),
            changes: self.changes.max(other.changes),
            vectors: self.vectors.max(other.vectors),
        }
    }
}

/// Rows of the tables that tokens are looked up in, or are needed for a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Of the word table.
    pub ids: u32,
    /// Of the position table.
    pub positions: u32,
    /// Of the type table; 1 where there is none.
    pub types: u32,
}

impl Bounds {
    /// Enough for one more token.
    pub(super) fn with(self, id: u32, position: u32, kind: u32) -> Bounds {
        Bounds {
            ids: self.ids.max(id.saturating_add(1)),
            positions: self.positions.max(position.saturating_add(1)),
            types: self.types.max(kind.saturating_add(1)),
        }
    }
}

/// A product of a constant and a size of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The constant.
    pub times: u64,
    /// The size.
    pub dim: Dim,
}

impl Extent {
    /// `times · dim`.
    pub const fn new(times: u64, dim: Dim) -> Self {
        Extent { times, dim }
    }

    /// Elements of that many rows of so many columns, which are as many in every batch or whole rows of keys.
    pub(crate) fn of_rows(self, columns: Extent) -> Extent {
        let dim = match (self.dim, columns.dim) {
            (rows, Dim::One) => rows,
            (Dim::Sequences, _) => Dim::SequencePattern,
            _ => Dim::Pattern,
        };
        Extent::new(self.times * columns.times, dim)
    }

    /// Its value for a batch.
    pub fn of(&self, dims: &Dims) -> u64 {
        self.times * u64::from(dims.get(self.dim))
    }
}
