//! What a batch changes at the recording's sites: a chain of changes for each token and site, as the kernel reads it.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::recording::{Recording, Site};
use super::sizes::Dims;
use crate::error::{Error, Result};

/// One change of some of a row's elements, as the kernel reads it.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Change {
    /// The change after it, or `u32::MAX`.
    pub next: u32,
    /// Element of the token's row, or of the part of it, at which it begins.
    pub first: u32,
    /// Elements.
    pub columns: u32,
    /// An [`Operation`], by its number.
    pub operation: u32,
    /// α.
    pub alpha: f32,
    /// Where its vector begins.
    pub vector: u32,
    /// Which of the site's parts.
    pub part: u32,
    /// Fills up to whole groups of 16 bytes.
    pub unused: u32,
}

/// What is done to a row x with a vector v and a number α.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// x = v.
    Set,
    /// x + α·v.
    Add,
    /// α·x.
    Scale,
    /// x - α·(x·v)·v, with v of length 1.
    Project,
}

impl Operation {
    /// All of them, by their numbers.
    pub const ALL: [Operation; 4] = [Operation::Set, Operation::Add, Operation::Scale, Operation::Project];
}

/// A change of one token's row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowEdit {
    /// Row of the token in the batch.
    pub token: usize,
    /// Which of the site's parts: a head of a pattern, else 0.
    pub part: usize,
    /// Which of its elements.
    pub columns: Range<usize>,
    /// What is done.
    pub operation: Operation,
    /// α.
    pub alpha: f32,
    /// Where the vector begins, as [`Batch::vector`](super::Batch::vector) said.
    pub vector: u32,
}

/// The changes of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    sites: usize,
    firsts: Vec<u32>,
    changes: Vec<Change>,
    /// The site and the token of each change.
    places: Vec<(usize, usize)>,
    vectors: Vec<f32>,
}

/// No change.
const NONE: u32 = u32::MAX;

impl Edits {
    pub(super) fn new(sites: usize) -> Self {
        Edits { sites, ..Edits::default() }
    }

    /// One more token, of which nothing is said yet.
    pub(super) fn token(&mut self) {
        self.firsts.extend(std::iter::repeat_n(NONE, self.sites));
    }

    pub(super) fn vector(&mut self, elements: &[f32]) -> u32 {
        let first = self.vectors.len() as u32;
        self.vectors.extend(elements);
        first
    }

    pub(super) fn push(&mut self, sites: &[Site], site: usize, edit: RowEdit) {
        let RowEdit { token, part, columns, operation, alpha, vector } = edit;
        // what is beyond a u32 is beyond the row too, and is refused by `check`
        let [part, first] = [part, sites[site].first + columns.start].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let (operation, columns) = (operation as u32, columns.len() as u32);
        let place = self.changes.len() as u32;
        self.changes.push(Change { next: NONE, first, columns, operation, alpha, vector, part, unused: 0 });
        self.places.push((site, token));
        let first = token * self.sites + site;
        if self.firsts[first] == NONE {
            self.firsts[first] = place;
            return;
        }
        let mut last = self.firsts[first] as usize;
        while self.changes[last].next != NONE {
            last = self.changes[last].next as usize;
        }
        self.changes[last].next = place;
    }

    /// The first change of each token at each site, `[tokens, sites]`; `u32::MAX` where there is none.
    pub fn firsts(&self) -> &[u32] {
        &self.firsts
    }

    /// The first change of each token at one site.
    pub fn chains(&self, site: usize) -> Vec<u32> {
        self.firsts.iter().skip(site).step_by(self.sites).copied().collect()
    }

    /// The changes, each of which names the one after it.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// What is set, added or projected out.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Proves that a recording can do them: every element is of the token's own row, and every vector is there. Chains end,
    /// since each change was appended behind those before it.
    pub(super) fn check(&self, recording: &Recording, dims: &Dims) -> Result<()> {
        let sites = &recording.sites;
        if self.sites != sites.len() {
            let (own, has) = (self.sites, sites.len());
            return Err(Error::Input(format!("a batch for {own} edited points, and the recording has {has}")));
        }
        for (change, &(site, token)) in self.changes.iter().zip(&self.places) {
            let Site { stride, first, parts, columns, values, .. } = sites[site];
            let (begin, columns) = (first as u64, columns.of(dims));
            let (from, end) = (u64::from(change.first), u64::from(change.first) + u64::from(change.columns));
            let count = u64::from(change.columns);
            let inside = u64::from(change.part) < parts as u64 && from >= begin && end <= begin + columns;
            let last = token as u64 * stride.of(dims) + u64::from(change.part) * columns + end;
            if !inside || 4 * last > recording.bytes(values, dims) {
                return Err(Error::Input(format!("an edit of token {token} is beyond its row of {columns} elements")));
            }
            let reads = change.operation != Operation::Scale as u32;
            if reads && u64::from(change.vector) + count > self.vectors.len() as u64 {
                return Err(Error::Input(format!("the vector of an edit of token {token} is not in the batch")));
            }
        }
        (0..recording.resumed).try_for_each(|site| self.check_resumed(site, &sites[site]))
    }

    /// Where a forward begins behind the embedding, every row comes from the batch.
    fn check_resumed(&self, number: usize, site: &Site) -> Result<()> {
        let set = |first: &u32| {
            let change = self.changes.get(*first as usize);
            change.is_some_and(|c| c.operation == Operation::Set as u32 && u64::from(c.columns) == site.columns.times)
        };
        match self.chains(number).iter().position(|first| !set(first)) {
            None => Ok(()),
            Some(token) => {
                Err(Error::Input(format!("a forward that begins at {} needs the rows of token {token}", site.point)))
            }
        }
    }
}
