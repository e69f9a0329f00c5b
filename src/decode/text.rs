//! Token ids, one after another, as text that is safe to print.

use std::ops::Deref;

use crate::files::Tokenizer;
use crate::{Error, Result};

/// The most tokens whose text may still change before a cut between them is looked for.
const LONGEST: usize = 12;

/// Turns ids that arrive one at a time into text: what it returns, one piece behind another, is what decoding all ids at
/// once gives, without special tokens, and up to the first stop string.
///
/// Only whole characters come out. What could become something else with the next token is held back: the bytes of an
/// unfinished character, the run of byte tokens that a SentencePiece-like decoder reads as a whole, and text that may be the
/// beginning of a stop string. [`TextStream::finish`] gives out what is left. A token costs the same wherever it stands.
#[derive(Debug)]
pub struct TextStream<T> {
    tokenizer: T,
    /// The ids that are still needed: `settled` ones whose text is out, and on which that of the others may depend, then
    /// those whose text is not, or not wholly.
    window: Vec<u32>,
    settled: usize,
    /// Bytes of the window's text that are out.
    out: usize,
    stops: Stops,
}

impl<T: Deref<Target = Tokenizer>> TextStream<T> {
    /// A stream that ends at the first of the stop strings; `tokenizer` is a reference to one, or an `Arc` of it.
    ///
    /// # Errors
    /// [`Error::Input`] for an empty stop string.
    pub fn new(tokenizer: T, stops: &[&str]) -> Result<Self> {
        Ok(TextStream { tokenizer, window: Vec::new(), settled: 0, out: 0, stops: Stops::new(stops)? })
    }

    /// Takes the next id and returns the text that is certain now, which may be none. After a stop string there is none.
    ///
    /// # Errors
    /// [`Error::File`] where the tokenizer's file makes the `tokenizers` crate fail.
    pub fn push(&mut self, id: u32) -> Result<String> {
        // what has no text must not become the token that the next one's text depends on
        if self.stops.stopped || self.tokenizer.token(id).is_none() || self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        self.window.push(id);
        if self.tokenizer.is_byte(id) {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.window, true)?;
        // the last character may be bytes to which others will be added: at most one, as what can be no beginning of a
        // character is replaced at once
        let unfinished = text.ends_with(char::REPLACEMENT_CHARACTER);
        let certain = if unfinished { text.len() - char::REPLACEMENT_CHARACTER.len_utf8() } else { text.len() };
        let piece = text.get(self.out..certain).unwrap_or_default().to_string();
        self.out = self.out.max(certain);
        if !unfinished {
            self.settle(self.window.len(), &text)?;
        } else if self.window.len() > LONGEST {
            // every 4 bytes begin a character somewhere
            for open in 4..8 {
                if self.settle(self.window.len() - open, &text)? {
                    break;
                }
            }
        }
        Ok(self.stops.filter(&piece))
    }

    /// The text that was held back, at the end of the ids: half characters become U+FFFD.
    ///
    /// # Errors
    /// As for [`TextStream::push`].
    pub fn finish(&mut self) -> Result<String> {
        if self.stops.stopped {
            return Ok(String::new());
        }
        let text = self.tokenizer.decode(&self.window, true)?;
        let piece = text.get(self.out..).unwrap_or_default();
        self.window.clear();
        (self.settled, self.out) = (0, 0);
        let mut piece = self.stops.filter(piece);
        piece.push_str(&self.stops.rest());
        Ok(piece)
    }

    /// Whether a stop string was complete.
    pub fn stopped(&self) -> bool {
        self.stops.stopped
    }

    /// Forgets the first `count` ids of the window but the last of them, where the text of the others does not change by it.
    fn settle(&mut self, count: usize, text: &str) -> Result<bool> {
        if count <= self.settled {
            return Ok(false);
        }
        let before = self.tokenizer.decode(&self.window[..count], true)?;
        let last = self.tokenizer.decode(&self.window[count - 1..count], true)?;
        let kept = self.tokenizer.decode(&self.window[count - 1..], true)?;
        let same = before.len() <= self.out
            && text.strip_prefix(&before[..]).is_some_and(|rest| kept.strip_prefix(&last[..]) == Some(rest));
        if same {
            self.window.drain(..count - 1);
            self.settled = 1;
            self.out = self.out - before.len() + last.len();
        }
        Ok(same)
    }
}

/// Finds the first stop string in text that comes in pieces.
#[derive(Debug)]
struct Stops {
    stops: Vec<String>,
    /// The beginning of a stop string, perhaps.
    held: String,
    stopped: bool,
}

impl Stops {
    fn new(stops: &[&str]) -> Result<Self> {
        let stops: Vec<_> = stops.iter().map(|stop| stop.to_string()).collect();
        if stops.iter().any(String::is_empty) {
            return Err(Error::Input("a stop string must not be empty".into()));
        }
        Ok(Stops { stops, held: String::new(), stopped: false })
    }

    /// What of the text so far is certain to be in front of any stop string.
    fn filter(&mut self, piece: &str) -> String {
        if piece.is_empty() || self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        // the one that is complete first, however the text was cut into pieces; of those, the one that began first
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at))).min();
        let end = match found {
            Some((_, at)) => at,
            None => self.held.len() - self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0),
        };
        self.stopped = found.is_some();
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, if self.stopped { String::new() } else { rest })
    }

    fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of the text that the stop string begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at).rev();
    lengths.filter(|&length| length <= text.len()).find(|&length| text.ends_with(&stop[..length])).unwrap_or(0)
}
