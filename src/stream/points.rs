//! Stream points, with TransformerLens' spelling: the table of all kinds, their names.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::files::quote;
use crate::model::{Placement, Positions, Spec};

/// What is seen at a point. Shapes are without a batch dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What enters block 0, `[tokens, d_model]`.
    Embed,
    /// The embedding of each token's id, as it is added, `[tokens, d_model]`; not part of `all`.
    TokEmbed,
    /// The embedding of its position; models with a table of positions only, not part of `all`.
    PosEmbed,
    /// The embedding of its type; models with a table of types only, not part of `all`.
    TypeEmbed,
    /// The stream before a block, `[tokens, d_model]`.
    ResidPre,
    /// Queries after the bias, before QK norm and RoPE, `[tokens, heads, d_head]`.
    Q,
    /// Keys, likewise.
    K,
    /// Values, likewise.
    V,
    /// Attention's result for each head, before W_O, `[tokens, heads, d_head]`.
    Z,
    /// Attention weights, `[heads, tokens, tokens]` by query and key; not part of `all`.
    Pattern,
    /// What each head adds through its columns of W_O, before bias and post-norm, `[tokens, heads, d_model]`; not part of
    /// `all`.
    Result,
    /// What the residual connection carries past attention, `[tokens, d_model]`; not part of `all`.
    AttnSkip,
    /// t1: exactly what attention adds to the stream, `[tokens, d_model]`.
    AttnOut,
    /// t2: the stream after attention was added, `[tokens, d_model]`.
    ResidMid,
    /// t3: t2 normalised; post-norm blocks only.
    NormalizedResidMid,
    /// What the residual connection carries past the FFN, `[tokens, d_model]`; not part of `all`.
    MlpSkip,
    /// t4: exactly what the FFN adds to the stream, `[tokens, d_model]`.
    MlpOut,
    /// t5: the stream after the FFN was added, `[tokens, d_model]`.
    ResidPost,
    /// h: t5 normalised; post-norm blocks only.
    NormalizedResidPost,
    /// The stream after the final norm, γ and β included, `[tokens, d_model]`.
    FinalNormalized,
    /// What the head makes of it, after its soft cap, `[tokens, vocabulary]`.
    Logits,
}

/// A kind's row in the table of points.
struct Row {
    kind: Kind,
    /// Name within its block, or the whole name where it has none.
    name: &'static str,
    /// The name of the theory's table.
    short: Option<&'static str>,
    per_block: bool,
    in_all: bool,
}

const fn row(kind: Kind, name: &'static str, short: Option<&'static str>, per_block: bool, in_all: bool) -> Row {
    Row { kind, name, short, per_block, in_all }
}

/// Every kind there is, in the order in which the stream passes it.
const TABLE: &[Row] = &[
    row(Kind::TokEmbed, "hook_tok_embed", None, false, false),
    row(Kind::PosEmbed, "hook_pos_embed", None, false, false),
    row(Kind::TypeEmbed, "hook_type_embed", None, false, false),
    row(Kind::Embed, "hook_embed", None, false, true),
    row(Kind::ResidPre, "hook_resid_pre", None, true, true),
    row(Kind::Q, "attn.hook_q", None, true, true),
    row(Kind::K, "attn.hook_k", None, true, true),
    row(Kind::V, "attn.hook_v", None, true, true),
    row(Kind::Z, "attn.hook_z", None, true, true),
    row(Kind::Pattern, "attn.hook_pattern", None, true, false),
    row(Kind::Result, "attn.hook_result", None, true, false),
    row(Kind::AttnSkip, "hook_attn_skip", None, true, false),
    row(Kind::AttnOut, "hook_attn_out", Some("t1"), true, true),
    row(Kind::ResidMid, "hook_resid_mid", Some("t2"), true, true),
    row(Kind::NormalizedResidMid, "hook_normalized_resid_mid", Some("t3"), true, true),
    row(Kind::MlpSkip, "hook_mlp_skip", None, true, false),
    row(Kind::MlpOut, "hook_mlp_out", Some("t4"), true, true),
    row(Kind::ResidPost, "hook_resid_post", Some("t5"), true, true),
    row(Kind::NormalizedResidPost, "hook_normalized_resid_post", Some("h"), true, true),
    row(Kind::FinalNormalized, "ln_final.hook_normalized", None, false, true),
    row(Kind::Logits, "logits", None, false, true),
];

impl Kind {
    fn row(self) -> &'static Row {
        // the table has a row for every kind, which a test checks
        TABLE.iter().find(|r| r.kind == self).unwrap_or(&TABLE[0])
    }

    /// Whether its rows have heads.
    pub fn has_heads(self) -> bool {
        matches!(self, Kind::Q | Kind::K | Kind::V | Kind::Z | Kind::Pattern | Kind::Result)
    }

    /// Whether it can be edited: all but what is only made to be seen.
    pub fn is_editable(self) -> bool {
        !matches!(self, Kind::Result | Kind::TokEmbed | Kind::PosEmbed | Kind::TypeEmbed)
    }

    /// Whether every block has one.
    pub fn is_per_block(self) -> bool {
        self.row().per_block
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        TABLE.iter().map(|r| r.kind)
    }
}

/// A kind in a block (0 for the kinds that belong to none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// The block, from 0.
    pub block: usize,
    /// What is seen.
    pub kind: Kind,
}

impl Point {
    /// A point.
    pub const fn new(block: usize, kind: Kind) -> Self {
        Point { block, kind }
    }

    /// Heads of its rows; 1 where it has none.
    pub fn heads(&self, spec: &Spec) -> usize {
        match self.kind {
            Kind::K | Kind::V => spec.num_key_value_heads,
            kind if kind.has_heads() => spec.num_attention_heads,
            _ => 1,
        }
    }

    /// Elements of a token's row; of a pattern there are no such rows.
    pub fn width(&self, spec: &Spec) -> usize {
        match self.kind {
            Kind::Q | Kind::K | Kind::V | Kind::Z => self.heads(spec) * spec.head_size,
            Kind::Result => self.heads(spec) * spec.hidden_size,
            Kind::Logits => spec.vocab_size,
            _ => spec.hidden_size,
        }
    }

    /// Its shape for a sequence of that many tokens.
    pub fn shape(&self, spec: &Spec, tokens: usize) -> Vec<usize> {
        let heads = self.heads(spec);
        match self.kind {
            Kind::Pattern => vec![heads, tokens, tokens],
            kind if kind.has_heads() => vec![tokens, heads, self.width(spec) / heads],
            _ => vec![tokens, self.width(spec)],
        }
    }

    /// Every point of a model, in the order in which the stream passes them.
    pub fn of_model(spec: &Spec) -> Vec<Point> {
        let has = |kind: Kind| match kind {
            Kind::NormalizedResidMid | Kind::NormalizedResidPost => spec.placement == Placement::Post,
            // where both sublayers add to the block's input, there is no stream between them
            Kind::ResidMid => spec.placement != Placement::Parallel,
            Kind::PosEmbed => spec.positions != Positions::Rotary,
            Kind::TypeEmbed => spec.type_vocab_size > 0,
            Kind::FinalNormalized => spec.final_norm,
            Kind::Logits => spec.has_logits(),
            _ => true,
        };
        let rows = || TABLE.iter().filter(|row| has(row.kind));
        let whole = |row: &&Row| !row.per_block;
        let after = |row: &Row| matches!(row.kind, Kind::FinalNormalized | Kind::Logits);
        let mut points: Vec<_> =
            rows().filter(whole).filter(|row| !after(row)).map(|row| Point::new(0, row.kind)).collect();
        for block in 0..spec.num_hidden_layers {
            points.extend(rows().filter(|row| row.per_block).map(|row| Point::new(block, row.kind)));
        }
        points.extend(rows().filter(whole).filter(|row| after(row)).map(|row| Point::new(0, row.kind)));
        points
    }
}

impl Point {
    /// Whether an entry of a list of points names it, in a model of so many blocks: `all`, its full name, or its kind's, with
    /// blocks or without.
    pub(super) fn is_named(&self, entry: &str, blocks: usize) -> bool {
        let row = self.kind.row();
        if entry == "all" {
            return row.in_all;
        }
        if entry == self.to_string() {
            return true;
        }
        let (kind, of) = match entry.split_once('@') {
            Some((kind, of)) => (kind, Some(range(of).filter(|of| of.end <= blocks))),
            None => (entry, None),
        };
        let last = row.name.rsplit("hook_").next();
        let named = kind == row.name || Some(kind) == last || Some(kind) == row.short;
        let inside = |of: Option<Range<usize>>| of.is_some_and(|of| of.contains(&self.block));
        named && of.is_none_or(|of| row.per_block && inside(of))
    }
}

impl fmt::Display for Point {
    /// The full name, such as `blocks.3.hook_resid_mid`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.kind.row();
        if row.per_block { write!(f, "blocks.{}.{}", self.block, row.name) } else { f.write_str(row.name) }
    }
}

impl FromStr for Point {
    type Err = Error;

    /// From the full name; whether a model has the point is another question.
    fn from_str(name: &str) -> Result<Self> {
        let (block, own) = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((block, own)) => (block.parse().ok(), own),
            None => (None, name),
        };
        let row = TABLE.iter().find(|row| row.name == own && row.per_block == block.is_some());
        let none = || Error::Input(format!("{} is no stream point", quote(name)));
        row.map(|row| Point::new(block.unwrap_or(0), row.kind)).ok_or_else(none)
    }
}

/// A number as a range of itself alone, or a range.
pub(super) fn range(text: &str) -> Option<Range<usize>> {
    match text.split_once("..") {
        Some((first, end)) => Some(first.parse().ok()?..end.parse().ok()?),
        None => text.parse().ok().and_then(|only: usize| Some(only..only.checked_add(1)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::parse_points;

    fn spec(placement: Placement) -> Spec {
        Spec { placement, num_hidden_layers: 2, ..Spec::neutral() }
    }

    fn names(text: &str) -> Vec<String> {
        parse_points(text, &spec(Placement::Post)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn syntax() {
        assert_eq!(names("resid_post"), ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post"]);
        assert_eq!(names("resid_post@1"), ["blocks.1.hook_resid_post"]);
        assert_eq!(names("h@0,t1@0"), ["blocks.0.hook_attn_out", "blocks.0.hook_normalized_resid_post"]);
        assert_eq!(names("q@1, hook_embed"), ["hook_embed", "blocks.1.attn.hook_q"]);
        assert_eq!(names("blocks.1.attn.hook_pattern"), ["blocks.1.attn.hook_pattern"]);
        assert_eq!(names("all").len(), 1 + 2 * 11);
        assert!(!names("all").iter().any(|n| n.contains("pattern")));
        for wrong in ["resid_post@2", "logits", "", ",", "blocks.2.hook_z", "embed@0", "resid_post@-1"] {
            assert!(parse_points(wrong, &spec(Placement::Post)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn names_of_no_point() {
        for name in
            ["", "blocks.0", "blocks.0.", "blocks.-1.attn.hook_z", "blocks.0.logits", "attn.hook_z", "hook_resid_pre"]
        {
            assert!(name.parse::<Point>().is_err(), "{name:?}");
        }
    }

    #[test]
    fn points_follow_the_placement() {
        let names = |placement, text: &str| parse_points(text, &spec(placement)).map(|points| points.len());
        assert_eq!(names(Placement::Pre, "all").unwrap(), 1 + 2 * 9);
        assert_eq!(names(Placement::Parallel, "all").unwrap(), 1 + 2 * 8);
        assert!(names(Placement::Pre, "h").is_err() && names(Placement::Parallel, "t2").is_err());
        let head = Some(crate::model::LmHead { tied: true, cap: None });
        let decoder = Spec { final_norm: true, head, ..spec(Placement::Pre) };
        let points = parse_points("all", &decoder).unwrap();
        let last: Vec<_> = points[points.len() - 2..].iter().map(ToString::to_string).collect();
        assert_eq!(last, ["ln_final.hook_normalized", "logits"]);
    }

    #[test]
    fn every_kind_has_one_row() {
        for kind in Kind::all() {
            let point = Point::new(if kind.is_per_block() { 12 } else { 0 }, kind);
            assert_eq!(point.to_string().parse::<Point>().unwrap(), point);
            assert_eq!(kind.row().kind, kind);
            assert_eq!(TABLE.iter().filter(|r| r.kind == kind).count(), 1);
        }
    }
}
