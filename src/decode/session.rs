//! A session: the tokens of one text, and the pages that hold their keys and values.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::{Decoder, Sampling};
use crate::error::{Error, Result};
use crate::kernels::attention::PAGE;
use crate::schedule::{Batch, Recording};
use crate::stream::{Captured, Edit, Tap, Trace, Uploaded, enter};
use crate::task::Task;

/// How a session goes on.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Whether the tokens that end a text are taken like any other.
    pub ignore_eos: bool,
    /// Pages are reserved for so many tokens at once; the cache grows by itself beyond them.
    pub reserve: usize,
    /// What is changed in the stream, of prompt and continuation alike, at positions in the whole text.
    pub edits: Arc<[Edit]>,
    /// Points of the stream that are watched as the text is read and written, for [`Session::captured`]; narrowed ones at
    /// positions in the whole text.
    pub taps: Arc<[Tap]>,
    /// Cancels prefill and decoding, and watches prefill; progress is in tokens.
    pub task: Task,
}

/// A text that is being written. It owns its pages of the decoder's cache; the last token's keys and values are made when
/// the next token is asked for.
pub struct Session {
    pub(super) decoder: Decoder,
    pub(super) options: SessionOptions,
    pub(super) tokens: Vec<u32>,
    /// How many of the tokens, from the first, are in the cache.
    pub(super) cached: usize,
    pub(super) pages: Vec<u32>,
    /// The frequencies of each rotary embedding that the cache was made with, and the epochs that they belong to.
    frequencies: Vec<Vec<f32>>,
    pub(super) epochs: Vec<usize>,
    /// Each token once, for the repetition penalty.
    seen: Vec<u32>,
    known: HashSet<u32>,
    pub(super) ended: bool,
    captured: Captured,
}

impl Session {
    pub(super) fn new(decoder: Decoder, options: SessionOptions) -> Self {
        Session {
            decoder,
            options,
            tokens: Vec::new(),
            cached: 0,
            pages: Vec::new(),
            frequencies: Vec::new(),
            epochs: Vec::new(),
            seen: Vec::new(),
            known: HashSet::new(),
            ended: false,
            captured: Captured::default(),
        }
    }

    /// All tokens so far: those that were put in, and those that were chosen.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Whether the text has come to its end: a token that ends a text was chosen. It is not among the tokens.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// How tokens are chosen from now on.
    ///
    /// # Errors
    /// [`Error::Input`] naming the option that is out of its range.
    pub fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        sampling.validate()?;
        self.options.sampling = sampling;
        Ok(())
    }

    /// Changes the stream in another way from now on, and for the whole text: the cache is made anew with the next call.
    ///
    /// # Errors
    /// [`Error::Input`] naming an edit that the model cannot have.
    pub fn set_edits(&mut self, edits: Arc<[Edit]>) -> Result<()> {
        self.decoder.check_edits(&edits)?;
        self.options.edits = edits;
        self.cached = 0;
        self.keep_pages();
        Ok(())
    }

    /// Cancels and watches from now on.
    pub fn set_task(&mut self, task: Task) {
        self.options.task = task;
    }

    /// Appends tokens, and brings all but the last into the cache, in chunks that keep the GPU busy for less than 50 ms
    /// each by estimate. When it is cancelled the tokens stay, and the cache catches up with the next call.
    ///
    /// # Errors
    /// [`Error::Input`] for an id beyond the vocabulary, [`Error::TooLong`] where the model takes no more, both without
    /// any change; [`Error::Cancelled`], [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<()> {
        self.decoder.model().check_ids(ids)?;
        self.decoder.fits(self.tokens.len() + ids.len())?;
        for &id in ids {
            self.append(id);
        }
        self.ended = false;
        self.catch_up().await
    }

    /// [`Session::prefill`], blocking the calling thread.
    pub fn prefill_blocking(&mut self, ids: &[u32]) -> Result<()> {
        pollster::block_on(self.prefill(ids))
    }

    /// Chooses the next token and appends it; `None` where the text has come to its end.
    ///
    /// # Errors
    /// [`Error::Input`] before any token was put in, [`Error::TooLong`] where the model takes no more; else as
    /// [`Session::prefill`].
    pub async fn next_token(&mut self) -> Result<Option<u32>> {
        let decoder = self.decoder.clone();
        Ok(decoder.step(&mut [self]).await?[0])
    }

    /// [`Session::next_token`], blocking the calling thread.
    pub fn next_token_blocking(&mut self) -> Result<Option<u32>> {
        pollster::block_on(self.next_token())
    }

    /// The logits of the token that would come next, `[vocabulary]`; nothing is chosen.
    ///
    /// # Errors
    /// As [`Session::next_token`].
    pub async fn logits(&mut self) -> Result<Vec<f32>> {
        let decoder = self.decoder.clone();
        decoder.logits_of(self).await
    }

    /// [`Session::logits`], blocking the calling thread.
    pub fn logits_blocking(&mut self) -> Result<Vec<f32>> {
        pollster::block_on(self.logits())
    }

    /// What has passed the [taps](SessionOptions::taps) since the last time, and the position of its first token: a row for each
    /// token that was run since, so all but the last, which runs when the next is asked for. A token that is run again,
    /// after the text was truncated or its edits were changed, takes the place of what is there, and of what follows it. Of
    /// a pattern, `[heads, tokens, keys]`, keys are all tokens up to the last of these. Of a narrowed tap there are only its own
    /// tokens, and nothing where none of them was run.
    pub fn captured(&mut self) -> (usize, Trace) {
        std::mem::take(&mut self.captured).trace(&self.tokens, self.decoder.model().spec())
    }

    /// Keeps what passed this session's taps of the tokens behind the cached ones, which stand in some of a batch's rows.
    pub(super) fn capture(&mut self, recording: &Recording, captures: &[Vec<f32>], rows: Range<usize>, all: usize) {
        let (taps, spec) = (&self.options.taps, self.decoder.model().spec());
        if !taps.is_empty() {
            self.captured.push(spec, taps, recording, captures, rows, all, self.cached);
        }
    }

    /// The taps that watch the token which is run next.
    pub(super) fn tapped(&self) -> impl Iterator<Item = Tap> {
        let watches = |tap: &&Tap| tap.tokens.as_ref().is_none_or(|tokens| tokens.contains(&self.cached));
        self.options.taps.iter().filter(watches).cloned()
    }

    /// How many of the next tokens, so many at most, are watched by the same taps.
    fn alike(&self, count: usize) -> usize {
        let ranges = self.options.taps.iter().filter_map(|tap| tap.tokens.as_ref());
        let edges = ranges.flat_map(|tokens| [tokens.start, tokens.end]).filter(|&edge| edge > self.cached);
        edges.map(|edge| edge - self.cached).chain([count]).min().unwrap_or(count)
    }

    /// Another session with the same tokens, which goes its own way. Pages are shared until one of the two writes. What was
    /// captured stays here.
    pub fn fork(&self) -> Session {
        self.decoder.pool().share(&self.pages);
        Session {
            decoder: self.decoder.clone(),
            options: self.options.clone(),
            tokens: self.tokens.clone(),
            cached: self.cached,
            pages: self.pages.clone(),
            frequencies: self.frequencies.clone(),
            epochs: self.epochs.clone(),
            seen: self.seen.clone(),
            known: self.known.clone(),
            ended: self.ended,
            captured: Captured::default(),
        }
    }

    /// The same tokens in another decoder of the same model, as after [`Decoder::rebuild`]. The cache stays behind: it is
    /// computed again, by prefill, with the next call that needs it.
    ///
    /// # Errors
    /// [`Error::Input`] where the decoder's weights are not this session's.
    pub fn rebuild(&self, decoder: &Decoder) -> Result<Session> {
        if decoder.fingerprint() != self.decoder.fingerprint() {
            return Err(Error::Input("a session can only go on with the weights that it began with".into()));
        }
        let mut session = Session::new(decoder.clone(), self.options.clone());
        self.tokens.iter().for_each(|&id| session.append(id));
        session.ended = self.ended;
        Ok(session)
    }

    /// Forgets all tokens from the `length`-th on.
    pub fn truncate(&mut self, length: usize) {
        if length >= self.tokens.len() {
            return;
        }
        self.tokens.truncate(length);
        self.ended = false;
        self.seen.clear();
        self.known.clear();
        for i in 0..length {
            self.see(self.tokens[i]);
        }
        self.cached = self.cached.min(length);
        self.captured.end_at(length);
        self.keep_pages();
    }

    pub(super) fn append(&mut self, id: u32) {
        self.tokens.push(id);
        self.see(id);
    }

    fn see(&mut self, id: u32) {
        if self.known.insert(id) {
            self.seen.push(id);
        }
    }

    /// Gives pages back that hold no token in the cache.
    pub(super) fn keep_pages(&mut self) {
        let needed = self.cached.div_ceil(PAGE as usize);
        if needed < self.pages.len() {
            self.decoder.pool().release(&self.pages[needed..]);
            self.pages.truncate(needed);
        }
    }

    /// Brings all tokens but the last into the cache.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        self.turn();
        let target = self.tokens.len().saturating_sub(1);
        // after a text has ended or was truncated, its last token may be in the cache already: it is put in again
        self.cached = self.cached.min(target);
        let start = self.cached;
        while self.cached < target {
            self.options.task.check()?;
            let count = self.alike(self.decoder.chunk(self.cached, target - self.cached));
            let decoder = self.decoder.clone();
            decoder.prefill(self, count).await?;
            self.options.task.report((self.cached - start) as u64, (target - start) as u64);
        }
        Ok(())
    }

    /// Takes over a cache that was made with the frequencies of those epochs, if they are still the present ones.
    pub(super) fn resume(&mut self, epochs: Vec<usize>) -> bool {
        self.turn();
        self.epochs == epochs
    }

    /// Takes the frequencies of the present length; where they are others than the cache's, the cache is made anew.
    fn turn(&mut self) {
        let ropes = &self.decoder.model().spec().ropes;
        let tokens = self.tokens.len();
        let epochs: Vec<_> = ropes.iter().map(|rope| rope.epoch(tokens)).collect();
        if epochs == self.epochs {
            return;
        }
        self.frequencies = ropes.iter().map(|rope| rope.frequencies(tokens)).collect();
        self.epochs = epochs;
        self.cached = 0;
        self.keep_pages();
    }

    /// Pages for the next `count` rows of the cache that nobody else holds; [`Error::OutOfMemory`] leaves all as it was.
    pub(super) fn make_room(&mut self, count: usize) -> Result<()> {
        let page = PAGE as usize;
        let decoder = self.decoder.clone();
        let mut pool = decoder.pool();
        let needed = (self.cached + count).div_ceil(page);
        let first = self.cached / page;
        let shared = self.pages[first.min(self.pages.len())..].iter().filter(|&&page| pool.is_shared(page)).count();
        pool.reserve(needed.saturating_sub(self.pages.len()) + shared)?;
        for place in first..self.pages.len() {
            let old = self.pages[place];
            if pool.is_shared(old) {
                let own = pool.take()?;
                if place * page < self.cached {
                    pool.copy(old, own)?;
                }
                pool.release(&[old]);
                self.pages[place] = own;
            }
        }
        while self.pages.len() < needed {
            self.pages.push(pool.take()?);
        }
        Ok(())
    }

    /// Appends the next `count` tokens to a batch; with a draw, what follows them is chosen.
    pub(super) fn push(
        &self,
        batch: &mut Batch,
        uploaded: &mut Uploaded,
        recording: &Recording,
        count: usize,
        chosen: bool,
    ) -> Result<()> {
        let first = batch.dims().tokens as usize;
        let sampling = &self.options.sampling;
        let draw = if chosen { Some(sampling.draw(self.tokens.len() as u32)?) } else { None };
        let seen = if sampling.needs_seen() { &self.seen[..] } else { &[] };
        let ids = &self.tokens[self.cached..self.cached + count];
        let past = self.cached as u32;
        batch.push_cached(ids, past, &self.pages, draw, seen);
        for (i, (rope, frequencies)) in self.decoder.model().spec().ropes.iter().zip(&self.frequencies).enumerate() {
            let mut angles = Vec::with_capacity(2 * rope.pairs * count);
            (past..past + count as u32).for_each(|position| rope.angles(frequencies, position, &mut angles));
            batch.push_angles(i, &angles);
        }
        let spec = self.decoder.model().spec();
        enter(&self.options.edits, spec, recording, batch, uploaded, first..first + count, self.cached);
        Ok(())
    }

    /// Fails where the next token cannot be asked for.
    pub(super) fn ready(&self) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(Error::Input("a session needs at least one token before the next can be chosen".into()));
        }
        self.decoder.fits(self.tokens.len())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.decoder.pool().release(&self.pages);
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tokens", &self.tokens.len()).field("cached", &self.cached).finish()
    }
}
