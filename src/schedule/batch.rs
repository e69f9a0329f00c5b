//! One ragged batch as it is uploaded: sequences stand one behind another, without padding.

use bytemuck::{Pod, Zeroable};

use super::edits::{Edits, RowEdit};
use super::recording::{Input, Recording, Site, Slot};
use super::sizes::{Bounds, Dims};
use crate::error::{Error, Result};
use crate::kernels::attention::{PAGE, SPLIT};

/// What a forward is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Queries in an attention tile.
    tile: u32,
    /// One more than the largest id, position and type.
    needs: Bounds,
    /// One more than the largest row of the cache; 0 where none is used.
    cache_rows: u32,
    tokens: Vec<[u32; 4]>,
    sequences: Vec<[u32; 4]>,
    tiles: Vec<Tile>,
    angles: [Vec<f32>; 2],
    draws: Vec<Draw>,
    pages: Vec<u32>,
    seen: Vec<u32>,
    edits: Edits,
    readings: Vec<[u32; 2]>,
    pairs: u32,
    keys: u32,
    splits: u32,
}

/// Queries of one sequence that attention takes together, as kernels read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tile {
    /// Row of the first query in the batch.
    pub row: u32,
    /// Queries.
    pub queries: u32,
    /// Position of the first query in its sequence.
    pub position: u32,
    /// Keys of the sequence, the batch's own included.
    pub length: u32,
    /// Row of the sequence's first key; with a cache, the place of its page table in the pages.
    pub keys: u32,
    /// Fills up to whole groups of 16 bytes.
    pub unused: [u32; 3],
}

/// How a sequence's next token is drawn, as the sampler reads it.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Draw {
    /// Logits are divided by this; 0 takes the largest.
    pub temperature: f32,
    /// Only so many of the largest logits count; 0 is all.
    pub top_k: u32,
    /// Only the most probable tokens that make up this much count; 1 is all.
    pub top_p: f32,
    /// Only tokens at least this probable, relative to the most probable, count; 0 is all.
    pub min_p: f32,
    /// Logits of seen tokens are divided (or, below 0, multiplied) by this; 1 is none.
    pub penalty: f32,
    /// Seed of the noise, lower half.
    pub seed_low: u32,
    /// Upper half.
    pub seed_high: u32,
    /// Number of the token in its sequence: another noise for each.
    pub position: u32,
    /// Place of the sequence's first id in the seen ones.
    pub first_seen: u32,
    /// How many are its own.
    pub seen: u32,
    /// Fills up to whole groups of 16 bytes.
    pub unused: [u32; 2],
}

impl Batch {
    /// An empty batch whose attention works on tiles of so many queries: those of the [`Recording`] that it is for.
    pub fn new(tile: u32) -> Self {
        Self::editing(tile, 0)
    }

    /// An empty batch for a recording: of its tiles and its sites.
    pub fn of(recording: &Recording) -> Self {
        Self::editing(recording.tile, recording.sites.len())
    }

    /// An empty batch for a recording of so many sites.
    pub(crate) fn editing(tile: u32, sites: usize) -> Self {
        Batch {
            tile: tile.max(1),
            needs: Bounds::default(),
            cache_rows: 0,
            tokens: Vec::new(),
            sequences: Vec::new(),
            tiles: Vec::new(),
            angles: [Vec::new(), Vec::new()],
            draws: Vec::new(),
            pages: Vec::new(),
            seen: Vec::new(),
            edits: Edits::new(sites),
            readings: Vec::new(),
            pairs: 0,
            keys: 0,
            splits: 0,
        }
    }

    /// Appends a whole sequence of `(id, position, type)`, whose tokens are each other's keys; `skip` tokens at its start
    /// are left out of pooling. An empty sequence is not appended.
    pub fn push(&mut self, tokens: impl IntoIterator<Item = (u32, u32, u32)>, skip: u32) {
        let first = self.tokens.len() as u32;
        for (id, position, kind) in tokens {
            self.token(id, position, kind, 0);
        }
        let length = self.tokens.len() as u32 - first;
        if length == 0 {
            return;
        }
        self.sequences.push([first, length, skip.min(length - 1), 0]);
        self.tile(first, length, 0, length, first);
    }

    /// The result that is wanted of the last sequence is of its tokens up to that position.
    pub(crate) fn end_at(&mut self, position: usize) {
        if let Some([_, length, ..]) = self.sequences.last_mut() {
            *length = (*length).min(position as u32 + 1);
        }
    }

    /// Appends tokens of a sequence whose first `past` are in the cache, and whose own keys and values go there: row
    /// `i % PAGE` of page `pages[i / PAGE]` for the i-th. `draw` says how the token after them is chosen, where it is;
    /// `seen` are the ids that its penalty is for, each of them once.
    pub fn push_cached(&mut self, ids: &[u32], past: u32, pages: &[u32], draw: Option<Draw>, seen: &[u32]) {
        let first = self.tokens.len() as u32;
        let table = self.pages.len() as u32;
        self.pages.extend(pages);
        for (id, position) in ids.iter().zip(past..) {
            // a page that is missing gives a row that `check` refuses
            let page = pages.get((position / PAGE) as usize).copied().unwrap_or(u32::MAX / PAGE);
            let row = page.saturating_mul(PAGE).saturating_add(position % PAGE);
            self.token(*id, position, 0, row);
            self.cache_rows = self.cache_rows.max(row.saturating_add(1));
        }
        let own = self.tokens.len() as u32 - first;
        if own == 0 {
            return;
        }
        for page in pages.iter().take((past + own).div_ceil(PAGE) as usize) {
            self.cache_rows = self.cache_rows.max(page.saturating_add(1).saturating_mul(PAGE));
        }
        if let Some(draw) = draw {
            self.sequences.push([first, own, 0, 0]);
            let (first_seen, count) = (self.seen.len() as u32, seen.len() as u32);
            self.seen.extend(seen);
            self.draws.push(Draw { first_seen, seen: count, ..draw });
        }
        self.tile(first, own, past, past + own, table);
    }

    /// Appends queries that stand at `position` and behind it among keys that need not be their own: `length` of them, the
    /// first in row `keys` or, with a cache, in the first page of the table at that place.
    pub(crate) fn push_queries(&mut self, queries: u32, position: u32, length: u32, keys: u32) {
        let first = self.tokens.len() as u32;
        for i in 0..queries {
            self.token(0, position + i, 0, 0);
        }
        self.tile(first, queries, position, length, keys);
    }

    /// Appends a page table, and says its place.
    pub(crate) fn push_pages(&mut self, pages: &[u32]) -> u32 {
        let place = self.pages.len() as u32;
        self.pages.extend(pages);
        place
    }

    /// Appends the angles of the tokens that were pushed since the last time, of the rotary embedding with that number.
    pub fn push_angles(&mut self, rope: usize, angles: &[f32]) {
        self.angles[rope].extend(angles);
    }

    fn token(&mut self, id: u32, position: u32, kind: u32, row: u32) {
        self.tokens.push([id, position, kind, row]);
        self.needs = self.needs.with(id, position, kind);
        self.edits.token();
    }

    /// Appends elements of what is set, added or projected out, and says where they begin.
    pub fn vector(&mut self, elements: &[f32]) -> u32 {
        self.edits.vector(elements)
    }

    /// Edits a token's row at a site, after what was said of it there before.
    pub fn edit(&mut self, sites: &[Site], site: usize, edit: RowEdit) {
        self.edits.push(sites, site, edit);
    }

    /// Says of the next token whose logits are read which token of the vocabulary is looked for (the likeliest of the other
    /// row, where none is named) and the row that its own is compared with.
    pub fn read(&mut self, token: Option<u32>, row: usize) {
        self.readings.push([token.unwrap_or(u32::MAX), u32::try_from(row).unwrap_or(u32::MAX)]);
    }

    /// What is changed.
    pub fn edits(&self) -> &Edits {
        &self.edits
    }

    fn tile(&mut self, first: u32, own: u32, past: u32, length: u32, keys: u32) {
        self.tiles.extend((0..own).step_by(self.tile as usize).map(|query| Tile {
            row: first + query,
            queries: self.tile.min(own - query),
            position: past + query,
            length,
            keys,
            unused: [0; 3],
        }));
        self.pairs = self.pairs.saturating_add(own.saturating_mul(length));
        self.keys = self.keys.max(length);
        self.splits = self.splits.max(length.div_ceil(SPLIT));
    }

    /// Proves that a recording can run it, with a cache of so many rows: kernels check no index.
    pub(super) fn check(&self, recording: &Recording, cache_rows: u32) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(Error::Input("a batch needs at least one token".into()));
        }
        if self.tile != recording.tile {
            return Err(Error::Input(format!("a batch of tiles of {}, for tiles of {}", self.tile, recording.tile)));
        }
        let (least, tokens) = (recording.least, self.tokens.len());
        let ends = self.sequences.iter().skip(1).map(|next| next[0] as usize).chain([tokens]);
        let mut lengths = self.sequences.iter().zip(ends).map(|(own, end)| end - own[0] as usize);
        if let Some(short) = lengths.find(|&length| length < least) {
            return Err(Error::Input(format!("{least} tokens are watched in each text, and one has {short}")));
        }
        let (needs, has) = (self.needs, recording.bounds);
        if needs.ids > has.ids || needs.positions > has.positions || needs.types > has.types {
            return Err(Error::Input(format!("the batch needs tables of {needs:?}, and the model has {has:?}")));
        }
        if self.cache_rows > cache_rows {
            let rows = self.cache_rows;
            return Err(Error::Input(format!("the batch needs a cache of {rows} rows, and there are {cache_rows}")));
        }
        for (angles, pairs) in self.angles.iter().zip(recording.pairs) {
            let expected = 2 * pairs * self.tokens.len();
            if angles.len() != expected {
                return Err(Error::Input(format!("the batch has {} angles instead of {expected}", angles.len())));
            }
        }
        // sequences of `push` have no draw: the sampler would read past the draws' end
        let samples = recording.dispatches().any(|d| d.bindings.contains(&Slot::Input(Input::Draws)));
        if samples && self.draws.len() != self.sequences.len() {
            let (draws, sequences) = (self.draws.len(), self.sequences.len());
            return Err(Error::Input(format!("the batch has {draws} draws for {sequences} sequences")));
        }
        self.check_readings(if recording.reads() { self.tokens.len() } else { 0 }, has.ids)?;
        if self.seen.iter().any(|&id| id >= has.ids) {
            return Err(Error::Input(format!("a seen token beyond the vocabulary of {}", has.ids)));
        }
        self.edits.check(recording, &self.dims())
    }

    /// Every token has a reading where there are any, of a row and a token that there are.
    fn check_readings(&self, count: usize, ids: u32) -> Result<()> {
        let rows = self.tokens.len();
        if self.readings.len() != count {
            let readings = self.readings.len();
            return Err(Error::Input(format!("the batch has {readings} readings instead of {count}")));
        }
        let wrong = |&&[token, row]: &&[u32; 2]| (token != u32::MAX && token >= ids) || row as usize >= rows;
        match self.readings.iter().find(wrong) {
            None => Ok(()),
            Some([token, row]) => {
                Err(Error::Input(format!("a reading of token {token} of {ids}, beside row {row} of {rows}")))
            }
        }
    }

    /// Its sizes.
    pub fn dims(&self) -> Dims {
        Dims {
            tokens: self.tokens.len() as u32,
            sequences: self.sequences.len() as u32,
            tiles: self.tiles.len() as u32,
            pairs: self.pairs,
            keys: self.keys,
            pages: self.pages.len() as u32,
            splits: self.splits,
            seen: self.seen.len() as u32,
            changes: self.edits.changes().len() as u32,
            vectors: self.edits.vectors().len() as u32,
        }
    }

    /// The rows of each sequence of which a result is wanted.
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
        match input {
            Input::Tokens => bytemuck::cast_slice(&self.tokens),
            Input::Sequences => bytemuck::cast_slice(&self.sequences),
            Input::Tiles => bytemuck::cast_slice(&self.tiles),
            Input::Angles => bytemuck::cast_slice(&self.angles[0]),
            Input::LocalAngles => bytemuck::cast_slice(&self.angles[1]),
            Input::Draws => bytemuck::cast_slice(&self.draws),
            Input::Pages => bytemuck::cast_slice(&self.pages),
            Input::Seen => bytemuck::cast_slice(&self.seen),
            Input::Edits => bytemuck::cast_slice(self.edits.firsts()),
            Input::Changes => bytemuck::cast_slice(self.edits.changes()),
            Input::Vectors => bytemuck::cast_slice(self.edits.vectors()),
            Input::Readings => bytemuck::cast_slice(&self.readings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Reduce;
    use crate::kernels::logit_stats::LogitStats;
    use crate::kernels::sample::Sample;
    use crate::schedule::{Command, Dispatch};

    /// A recording of one dispatch, over a vocabulary of 4.
    fn recording(dispatch: Dispatch) -> Recording {
        Recording {
            commands: vec![Command::Dispatch(dispatch)],
            d_model: 4,
            scratch: Vec::new(),
            captures: Vec::new(),
            sites: Vec::new(),
            least: 0,
            held: false,
            resumed: 0,
            output: None,
            tile: 32,
            bounds: Bounds { ids: 4, positions: 4, types: 1 },
            pairs: [0, 0],
        }
    }

    fn refused(recording: &Recording, batch: &Batch) -> String {
        match batch.check(recording, PAGE) {
            Err(Error::Input(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sequence_without_a_draw_is_refused_where_tokens_are_drawn() {
        let mut recording =
            recording(Sample { logits: Slot::Scratch(0), vocab_size: 4, ids: Slot::Scratch(1) }.dispatch());
        let mut batch = Batch::new(32);
        batch.push_cached(&[1], 0, &[0], Some(Draw::zeroed()), &[3]);
        batch.check(&recording, PAGE).unwrap();
        batch.push([(0, 0, 0)], 0);
        assert!(refused(&recording, &batch).contains("1 draws for 2 sequences"));
        recording.commands.clear();
        batch.check(&recording, PAGE).unwrap();
        batch.push_cached(&[1], 0, &[0], Some(Draw::zeroed()), &[4]);
        assert!(refused(&recording, &batch).contains("vocabulary of 4"));
    }

    #[test]
    fn readings_are_of_rows_and_tokens_that_there_are() {
        let (reduce, logits, stats) = (Reduce::Workgroup, Slot::Scratch(0), Slot::Scratch(1));
        let mut recording = recording(LogitStats { reduce, logits, columns: 4, top: 1, stats }.dispatch());
        let mut batch = Batch::new(32);
        batch.push([(0, 0, 0), (0, 1, 0)], 0);
        batch.read(None, 1);
        assert!(refused(&recording, &batch).contains("1 readings instead of 2"));
        for (token, row) in [(Some(4), 1), (None, 2), (Some(0), usize::MAX)] {
            let mut batch = batch.clone();
            batch.read(token, row);
            assert!(refused(&recording, &batch).contains("of 4, beside row"));
        }
        batch.read(Some(3), 0);
        batch.check(&recording, PAGE).unwrap();
        recording.commands.clear();
        assert!(refused(&recording, &batch).contains("2 readings instead of 0"));
    }
}
