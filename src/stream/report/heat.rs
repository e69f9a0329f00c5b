//! Tokens by blocks: what the stream would say at each, or how near it is to what it becomes.

use super::Report;
use super::svg::{Figure, Svg, cut, short};
use crate::stream::Reading;

const LEFT: f64 = 118.0;
const TOP: f64 = 26.0;
const ROW: f64 = 20.0;
/// The darkest that a cell gets, so that its text stays readable.
const DARKEST: f64 = 0.62;

/// The lens: the likeliest token in each cell, shaded by its probability; of a model without a head the cosine with the last
/// stream.
pub fn draw(report: &Report) -> Figure {
    let cell = |row: usize, token: usize| match &report.lens.rows.get(row)?.positions.get(token)? {
        Reading::Distribution(said) => {
            let guess = said.top.first()?;
            Some((f64::from(guess.p), cut(guess.token.as_deref().unwrap_or_default(), 8)))
        }
        Reading::Cosine(cosine) => Some((f64::from(*cosine), format!("{cosine:.2}").replace('-', "−"))),
    };
    let (name, title, width) = if report.has_lens() {
        ("lens", "Logit lens: the token that the stream would say, shaded by its probability", 64.0)
    } else {
        ("nearness", "How near each token's stream is to its last: cosine", 44.0)
    };
    grid(report, name, title, width, &cell)
}

type Cell<'a> = &'a dyn Fn(usize, usize) -> Option<(f64, String)>;

fn grid(report: &Report, name: &str, title: &str, cell_width: f64, cell: Cell<'_>) -> Figure {
    let (columns, tokens) = (report.blocks.len() + 1, report.tokens.len());
    let (width, height) = (LEFT + columns as f64 * cell_width + 12.0, TOP + tokens as f64 * ROW + 4.0);
    let mut svg = Svg::new();
    for column in 0..columns {
        let label = if column + 1 < columns { column.to_string() } else { "out".into() };
        svg.text("quiet middle", (LEFT + (column as f64 + 0.5) * cell_width, TOP - 9.0), &label);
    }
    svg.text("quiet end", (LEFT - 8.0, TOP - 9.0), "before block");
    for (token, text) in report.tokens.iter().enumerate() {
        let y = TOP + token as f64 * ROW;
        svg.text("quiet", (4.0, y + 14.0), &token.to_string());
        svg.text("token end", (LEFT - 8.0, y + 14.0), &cut(text, 12));
        for column in 0..columns {
            let x = LEFT + column as f64 * cell_width;
            if let Some((value, text)) = cell(column, token) {
                let size = (cell_width - 1.0, ROW - 1.0);
                svg.shade("cell", (x, y), size, DARKEST * value.clamp(0.0, 1.0));
                svg.text("said middle", (x + cell_width / 2.0 - 0.5, y + 13.5), &text);
            }
        }
    }
    svg.rect("chosen", (LEFT - 1.0, TOP - 1.0), (cell_width + 1.0, ROW + 1.0));
    let [x, y, dx, dy] = [LEFT, TOP, cell_width, ROW].map(short);
    let data = format!("data-grid=\"{x} {y} {dx} {dy} {columns} {tokens}\"");
    svg.done(name, title, (width, height), data)
}
