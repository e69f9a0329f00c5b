//! Taps: points that are watched, whole or narrowed to some tokens and heads, and the `--points` syntax.

use std::fmt;
use std::ops::Range;

use super::{Kind, Point};
use crate::error::{Error, Result};
use crate::model::Spec;

/// A point that is watched. What it is narrowed to is all that is copied, stays on the GPU, or comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// Where.
    pub point: Point,
    /// The tokens whose rows are seen, by their positions in the sequence: every sequence must have them. Of a pattern these
    /// are queries, which are seen with all their keys. `None` is all of them.
    pub tokens: Option<Range<usize>>,
    /// The heads that are seen, of points that have heads; `None` is all of them.
    pub heads: Option<Range<usize>>,
}

impl From<Point> for Tap {
    fn from(point: Point) -> Self {
        Tap { point, tokens: None, heads: None }
    }
}

impl From<&Tap> for Tap {
    fn from(tap: &Tap) -> Self {
        tap.clone()
    }
}

impl From<&Point> for Tap {
    fn from(point: &Point) -> Self {
        Tap::from(*point)
    }
}

impl fmt::Display for Tap {
    /// As [`parse_taps`] takes it: `blocks.3.attn.hook_z#0..2:4..9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.point)?;
        self.heads.as_ref().map_or(Ok(()), |heads| write!(f, "#{heads:?}"))?;
        self.tokens.as_ref().map_or(Ok(()), |tokens| write!(f, ":{tokens:?}"))
    }
}

impl Tap {
    /// The same of some tokens.
    pub fn of_tokens(self, tokens: Range<usize>) -> Self {
        Tap { tokens: Some(tokens), ..self }
    }

    /// The same of some heads.
    pub fn of_heads(self, heads: Range<usize>) -> Self {
        Tap { heads: Some(heads), ..self }
    }

    /// Proves that it is one of a model's.
    ///
    /// # Errors
    /// [`Error::Input`] for a point or a head that the model does not have, heads of a point that has none, and no tokens, more
    /// than the model takes, or no heads at all.
    pub fn check(&self, spec: &Spec) -> Result<()> {
        let (point, wrong) = (self.point, |what: String| Err(Error::Input(what)));
        if !Point::of_model(spec).contains(&point) {
            return wrong(format!("{point} is no stream point of this model"));
        }
        if let Some(heads) = &self.heads {
            let there = point.heads(spec);
            if !point.kind.has_heads() {
                return wrong(format!("{self} is of heads, and {point} has none"));
            }
            if heads.is_empty() || heads.end > there {
                return wrong(format!("{self} is of the heads {heads:?}, and {point} has {there}"));
            }
        }
        match &self.tokens {
            Some(tokens) if tokens.is_empty() => wrong(format!("{self} is of no token")),
            Some(tokens) if tokens.end > spec.max_tokens() => {
                wrong(format!("{self} is of the tokens {tokens:?}, and this model takes {}", spec.max_tokens()))
            }
            _ => Ok(()),
        }
    }

    /// Proves that taps are a model's, and that none is there twice.
    pub(crate) fn check_all(taps: &[Tap], spec: &Spec) -> Result<()> {
        taps.iter().try_for_each(|tap| tap.check(spec))?;
        let twice = |(i, tap): &(usize, &Tap)| taps[..*i].iter().any(|other| other.point == tap.point);
        match taps.iter().enumerate().find(twice) {
            None => Ok(()),
            Some((_, tap)) => Err(Error::Input(format!("{} is tapped twice", tap.point))),
        }
    }

    /// The heads of its rows, from the first of all; 0..1 where the point has none.
    pub fn heads(&self, spec: &Spec) -> Range<usize> {
        self.heads.clone().unwrap_or(0..self.point.heads(spec))
    }

    /// Its tokens, of so many.
    pub fn rows(&self, tokens: usize) -> Range<usize> {
        self.tokens.clone().unwrap_or(0..tokens)
    }

    /// Elements of a head's row, of a point that is no pattern.
    pub(crate) fn columns(&self, spec: &Spec) -> usize {
        self.point.width(spec) / self.point.heads(spec)
    }

    /// Its shape for a sequence of that many tokens: that of its point, with fewer rows and heads.
    pub fn shape(&self, spec: &Spec, tokens: usize) -> Vec<usize> {
        self.shape_of(spec, self.rows(tokens).len(), tokens)
    }

    /// The same, of so many rows.
    pub(crate) fn shape_of(&self, spec: &Spec, rows: usize, keys: usize) -> Vec<usize> {
        let heads = self.heads(spec).len();
        match self.point.kind {
            Kind::Pattern => vec![heads, rows, keys],
            kind if kind.has_heads() => vec![rows, heads, self.columns(spec)],
            _ => vec![rows, self.columns(spec)],
        }
    }
}

/// Taps from a comma-separated list of `NAME[@BLOCKS][#HEADS][:TOKENS]`. A name is a full one, a kind (`resid_post`,
/// `attn.hook_q`, `t1`…`t5`, `h`), or `all` (all but patterns and what only instruments ask for); a kind without blocks is that of every block. Blocks,
/// heads and tokens are a number or a range `A..B` without its end, all from 0: `resid_post@3`, `z@0..2#5`,
/// `pattern@1#0..4:8..12`. The order is the stream's, without repeats.
///
/// # Errors
/// [`Error::Input`] naming the first entry that is no point of the model, a range that is none, and as [`Tap::check`]; also for
/// a point that is named in two ways.
pub fn parse_taps(text: &str, spec: &Spec) -> Result<Vec<Tap>> {
    let (model, blocks) = (Point::of_model(spec), spec.num_hidden_layers);
    let mut taps: Vec<Tap> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (rest, tokens) = narrowed(entry, ':')?;
        let (name, heads) = narrowed(rest, '#')?;
        let found: Vec<_> = model.iter().copied().filter(|point| point.is_named(name, blocks)).collect();
        if found.is_empty() {
            return Err(Error::Input(format!(
                "{name} is no stream point of this {} of {blocks} blocks: use all, resid_post, resid_post@3, t1 to t5 \
                 (t3 and h in post-norm models only), or a full name such as blocks.0.hook_attn_out",
                spec.model_type
            )));
        }
        taps.extend(found.into_iter().map(|point| Tap { point, tokens: tokens.clone(), heads: heads.clone() }));
    }
    if taps.is_empty() {
        return Err(Error::Input("no stream points were given".into()));
    }
    taps.sort_by_key(|tap| model.iter().position(|p| *p == tap.point));
    taps.dedup();
    Tap::check_all(&taps, spec)?;
    Ok(taps)
}

/// Whole points from a list as [`parse_taps`] takes it, none of them narrowed.
///
/// # Errors
/// As [`parse_taps`], and [`Error::Input`] for an entry that names heads or tokens.
pub fn parse_points(text: &str, spec: &Spec) -> Result<Vec<Point>> {
    let taps = parse_taps(text, spec)?;
    match taps.iter().find(|tap| tap.tokens.is_some() || tap.heads.is_some()) {
        None => Ok(taps.into_iter().map(|tap| tap.point).collect()),
        Some(tap) => Err(Error::Input(format!("{tap} is a part of a point, and only whole points are taken here"))),
    }
}

/// What is in front of a sign, and the range behind it.
fn narrowed(text: &str, sign: char) -> Result<(&str, Option<Range<usize>>)> {
    let Some((rest, range)) = text.split_once(sign) else { return Ok((text, None)) };
    let none = || Error::Input(format!("{range:?} in {text:?} is no number and no range such as 4..9"));
    super::points::range(range).map(|range| (rest, Some(range))).ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LmHead, Placement};

    fn spec(placement: Placement) -> Spec {
        let head = Some(LmHead { tied: true, cap: None });
        Spec {
            placement,
            num_hidden_layers: 3,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            hidden_size: 8,
            head_size: 2,
            max_position_embeddings: 64,
            head,
            ..Spec::neutral()
        }
    }

    fn names(text: &str) -> Vec<String> {
        parse_taps(text, &spec(Placement::Post)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn syntax() {
        assert_eq!(names("resid_post@1..3"), ["blocks.1.hook_resid_post", "blocks.2.hook_resid_post"]);
        assert_eq!(names("q@1, hook_embed:3"), ["hook_embed:3..4", "blocks.1.attn.hook_q"]);
        assert_eq!(names("z@1#2"), ["blocks.1.attn.hook_z#2..3"]);
        assert_eq!(names("blocks.0.attn.hook_pattern#1..4:8..12"), ["blocks.0.attn.hook_pattern#1..4:8..12"]);
        assert_eq!(names("t1@0:2..3,t1@0:2"), ["blocks.0.hook_attn_out:2..3"]);
        assert_eq!(names("k#0..2").len(), 3);
        assert_eq!(names("all:0..1").len(), names("all").len());
    }

    #[test]
    fn selections_of_nothing() {
        let wrong = [
            ("resid_post#0", "has none"),
            ("all#0", "has none"),
            ("z#4", "has 4"),
            ("k#2", "has 2"),
            ("z#2..2", "heads 2..2"),
            ("z#3..1", "heads 3..1"),
            ("z:5..5", "no token"),
            ("z:0..1000000000", "this model takes"),
            ("z#", "no range"),
            ("z:", "no range"),
            ("z:a..b", "no range"),
            ("z#-1", "no range"),
            ("z@0..9", "no stream point"),
            ("z@1..1", "no stream point"),
            ("z@0#1,z@0#2", "tapped twice"),
            ("all,q@0:1", "tapped twice"),
        ];
        for (text, what) in wrong {
            let found = parse_taps(text, &spec(Placement::Post));
            assert!(matches!(found, Err(Error::Input(ref said)) if said.contains(what)), "{text}: {found:?}");
        }
    }

    #[test]
    fn shapes() {
        let spec = spec(Placement::Pre);
        let shape = |kind, tap: fn(Tap) -> Tap| tap(Point::new(0, kind).into()).shape(&spec, 9);
        assert_eq!(shape(Kind::Pattern, |tap| tap.of_heads(1..3).of_tokens(2..7)), [2, 5, 9]);
        assert_eq!(shape(Kind::K, |tap| tap.of_heads(1..2)), [9, 1, spec.head_size]);
        assert_eq!(shape(Kind::ResidPost, |tap| tap.of_tokens(2..3)), [1, spec.hidden_size]);
        assert_eq!(shape(Kind::Result, |tap| tap), [9, 4, spec.hidden_size]);
    }
}
