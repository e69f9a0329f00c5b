//! One ragged batch as it is uploaded: sequences stand one behind another, without padding.

use super::recording::{Dims, Input};

/// What a forward is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    tokens: Vec<[u32; 4]>,
    sequences: Vec<[u32; 4]>,
    tiles: Vec<[u32; 4]>,
    pairs: u32,
}

impl Batch {
    /// Appends a sequence of `(id, position, type)`; `skip` tokens at its start are left out of pooling, and attention
    /// works on tiles of `tile` queries. An empty sequence is not appended.
    pub fn push(&mut self, tokens: impl IntoIterator<Item = (u32, u32, u32)>, skip: u32, tile: u32) {
        let first = self.tokens.len() as u32;
        self.tokens.extend(tokens.into_iter().map(|(id, position, kind)| [id, position, kind, 0]));
        let length = self.tokens.len() as u32 - first;
        if length == 0 {
            return;
        }
        self.sequences.push([first, length, skip.min(length - 1), 0]);
        self.tiles.extend((0..length).step_by(tile as usize).map(|query| [first, length, query, 0]));
        self.pairs = self.pairs.saturating_add(length.saturating_mul(length));
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
