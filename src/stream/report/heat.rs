//! Tokens by blocks: what the stream would say at each, or how near it is to what it becomes.

use super::svg::{Figure, Svg, cut, short};
use super::{Lens, Report};

const LEFT: f64 = 118.0;
const TOP: f64 = 26.0;
const ROW: f64 = 20.0;
/// The darkest that a cell gets, so that its text stays readable.
const DARKEST: f64 = 0.62;

/// The lens: the likeliest token in each cell, shaded by its probability.
pub fn lens(report: &Report, lens: &Lens) -> Figure {
    let cell = |row: usize, token: usize| {
        let (_, name, p) = lens.rows[row].positions[token].top.first()?;
        Some((*p, cut(name, 8)))
    };
    let title = "Logit lens: the token that the stream would say next, shaded by its probability";
    draw(report, "lens", title, 64.0, &cell)
}

/// Cosine with the last stream.
pub fn nearness(report: &Report) -> Figure {
    let cell = |row: usize, token: usize| {
        let cosine = *report.nearness.get(row)?.get(token)?;
        Some((cosine, format!("{cosine:.2}").replace('-', "−")))
    };
    let title = "How near each token's stream is to its last: cosine";
    draw(report, "nearness", title, 44.0, &cell)
}

type Cell<'a> = &'a dyn Fn(usize, usize) -> Option<(f64, String)>;

fn draw(report: &Report, name: &str, title: &str, cell_width: f64, cell: Cell<'_>) -> Figure {
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
