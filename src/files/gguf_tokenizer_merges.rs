//! The merges of BPE: those of a GGUF file, and those that SentencePiece's scores stand for.

use super::gguf::{Metadata, Strings};
use super::gguf_tokenizer_vocab::{Kind, TOKENS, Vocabulary};
use super::quote;
use crate::Result;

/// The most merges of a tokenizer; those of today have a quarter of it.
pub(super) const MAX_MERGES: usize = 1 << 21;
/// The longest token that is put together from others, in bytes; no text becomes a longer one.
const LONGEST: usize = 512;
/// The most bytes that are hashed to find all ways to cut tokens in two: several times what those of today take.
const MAX_WORK: usize = 1 << 30;

/// The merges of the list at `key`, each two tokens with a space between.
pub(super) fn merges(
    meta: &Metadata,
    key: &str,
    strings: &Strings,
    vocabulary: &Vocabulary,
) -> Result<Vec<(String, String)>> {
    if strings.len() > MAX_MERGES {
        return Err(meta.error(key, format!("expected at most {MAX_MERGES} merges, found {}", strings.len())));
    }
    let merge = |(i, bytes): (usize, &[u8])| {
        let what = |what: &str| meta.error(key, format!("the merge at index {i} {what}"));
        let text = std::str::from_utf8(bytes).map_err(|_| what("is not UTF-8 text"))?;
        let two = || what(&format!("is {}, expected two tokens with a space between", quote(text)));
        // a token may begin with a space, but not be none
        let start = text.chars().next().map_or(0, char::len_utf8);
        let at = text[start..].find(' ').map(|at| at + start).ok_or_else(two)?;
        let (left, right) = (&text[..at], &text[at + 1..]);
        let together = [left, right].concat();
        let unknown = [left, right, &together].into_iter().find(|token| vocabulary.id(token).is_none());
        match unknown {
            Some(token) => Err(what(&format!("names {}, which is no token", quote(token)))),
            None => Ok((left.to_string(), right.to_string())),
        }
    };
    strings.iter().enumerate().map(merge).collect()
}

/// A way to put a token together, and what decides when it is done.
struct Way {
    score: f32,
    left: u32,
    right: u32,
    /// How many characters the halves have.
    lengths: (usize, usize),
}

/// All ways to put tokens together from two others, the highest score first. As transformers does it: of one score the
/// longest left half first, then the longest right half, then the lowest ids.
pub(super) fn from_scores(vocabulary: &Vocabulary) -> Result<Vec<(String, String)>> {
    let scores = scores(vocabulary)?;
    let put_together = |kind: Kind| matches!(kind, Kind::Normal | Kind::UserDefined);
    let tokens = || vocabulary.iter().filter(|(_, text, kind)| put_together(*kind) && text.len() <= LONGEST);
    if tokens().map(|(_, text, _)| text.len() * text.len()).sum::<usize>() > MAX_WORK {
        return Err(vocabulary.meta().error(TOKENS, "the tokens are too long to be put together from others"));
    }
    let mut ways = Vec::new();
    for (id, text, _) in tokens() {
        let begin = ways.len();
        cuts(vocabulary, text, scores[id as usize], &mut ways);
        ways[begin..].sort_by_key(|way| (way.left, way.right));
        if ways.len() > 4 * MAX_MERGES {
            return Err(vocabulary.meta().error(TOKENS, "the tokens can be put together in too many ways"));
        }
    }
    // stable, so that what is equal stays in the order of the ids
    ways.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.lengths.cmp(&a.lengths)));
    let text = |id: u32| vocabulary.text(id).unwrap_or_default().to_string();
    Ok(ways.iter().map(|way| (text(way.left), text(way.right))).collect())
}

/// Adds every way to cut `token` into two tokens.
fn cuts(vocabulary: &Vocabulary, token: &str, score: f32, ways: &mut Vec<Way>) {
    let count = token.chars().count();
    for (chars, (at, _)) in token.char_indices().enumerate().skip(1) {
        if let (Some(left), Some(right)) = (vocabulary.id(&token[..at]), vocabulary.id(&token[at..])) {
            ways.push(Way { score, left, right, lengths: (chars, count - chars) });
        }
    }
}

/// The tokens' scores, with 0 for those that are user-defined, as SentencePiece has it: writers replace it. Where no
/// token has a score of its own, tokens are worth the more the lower their id is.
fn scores(vocabulary: &Vocabulary) -> Result<Vec<f32>> {
    let mut scores = vocabulary.scores()?.unwrap_or_else(|| vec![0.0; vocabulary.len()]);
    let mut normal = vocabulary.iter().filter(|(_, _, kind)| *kind == Kind::Normal).map(|(id, _, _)| id as usize);
    let first = normal.next().map(|id| scores[id]);
    if normal.all(|id| Some(scores[id]) == first) {
        log::warn!("{}: the tokens have no scores: the order of ids stands for them", vocabulary.path().display());
        scores.iter_mut().enumerate().for_each(|(id, score)| *score = -(id as f32));
    }
    for (id, _, kind) in vocabulary.iter() {
        if kind == Kind::UserDefined {
            scores[id as usize] = 0.0;
        }
        // the two zeros are equal in the order of transformers
        if scores[id as usize] == 0.0 {
            scores[id as usize] = 0.0;
        }
    }
    Ok(scores)
}
