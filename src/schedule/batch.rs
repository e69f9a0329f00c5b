//! One ragged batch as it is uploaded: sequences stand one behind another, without padding.

use super::recording::{Bounds, Dims, Input, Recording};
use crate::error::{Error, Result};

/// What a forward is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Queries in an attention tile.
    tile: u32,
    /// One more than the largest id, position and type.
    needs: Bounds,
    tokens: Vec<[u32; 4]>,
    sequences: Vec<[u32; 4]>,
    tiles: Vec<[u32; 4]>,
    pairs: u32,
}

impl Batch {
    /// An empty batch whose attention works on tiles of so many queries: those of the [`Recording`] that it is for.
    pub fn new(tile: u32) -> Self {
        Batch {
            tile: tile.max(1),
            needs: Bounds::default(),
            tokens: Vec::new(),
            sequences: Vec::new(),
            tiles: Vec::new(),
            pairs: 0,
        }
    }

    /// Appends a sequence of `(id, position, type)`; `skip` tokens at its start are left out of pooling. An empty
    /// sequence is not appended.
    pub fn push(&mut self, tokens: impl IntoIterator<Item = (u32, u32, u32)>, skip: u32) {
        let first = self.tokens.len() as u32;
        for (id, position, kind) in tokens {
            self.tokens.push([id, position, kind, 0]);
            self.needs = self.needs.with(id, position, kind);
        }
        let length = self.tokens.len() as u32 - first;
        if length == 0 {
            return;
        }
        self.sequences.push([first, length, skip.min(length - 1), 0]);
        self.tiles.extend((0..length).step_by(self.tile as usize).map(|query| [first, length, query, 0]));
        self.pairs = self.pairs.saturating_add(length.saturating_mul(length));
    }

    /// Proves that a recording can run it: kernels check no index.
    pub(super) fn check(&self, recording: &Recording) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(Error::Input("a batch needs at least one token".into()));
        }
        if self.tile != recording.tile {
            return Err(Error::Input(format!("a batch of tiles of {}, for tiles of {}", self.tile, recording.tile)));
        }
        let (needs, has) = (self.needs, recording.bounds);
        if needs.ids > has.ids || needs.positions > has.positions || needs.types > has.types {
            return Err(Error::Input(format!("the batch needs tables of {needs:?}, and the model has {has:?}")));
        }
        Ok(())
    }

    /// Its sizes.
    pub fn dims(&self) -> Dims {
        Dims {
            tokens: self.tokens.len() as u32,
            sequences: self.sequences.len() as u32,
            tiles: self.tiles.len() as u32,
            pairs: self.pairs,
        }
    }

    /// The rows of each sequence.
    pub fn sequences(&self) -> Vec<std::ops::Range<usize>> {
        self.sequences.iter().map(|s| s[0] as usize..(s[0] + s[1]) as usize).collect()
    }

    /// Gives a token the id of another that has a different one, for checks of token locality.
    pub(crate) fn change_id(&mut self, token: usize) {
        let own = self.tokens[token][0];
        if let Some(other) = self.tokens.iter().map(|t| t[0]).find(|id| *id != own) {
            self.tokens[token][0] = other;
        }
    }

    /// A part of the upload.
    pub(crate) fn input(&self, input: Input) -> &[u8] {
        bytemuck::cast_slice(match input {
            Input::Tokens => &self.tokens,
            Input::Sequences => &self.sequences,
            Input::Tiles => &self.tiles,
        })
    }
}
