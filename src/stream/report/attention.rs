//! Attention: all heads as small pictures, one of them large with its tokens, and rollout.

use std::fmt::Write;

use super::Report;
use super::image::{base64, png};
use super::svg::{Figure, Svg, cut, short, signed};

/// A head that gives the first token more than this is called a sink.
const SINK: f64 = 0.3;

/// The large picture: its corner, and its side.
const LARGE: (f64, f64, f64) = (104.0, 80.0, 372.0);

/// The pictures of a block's heads, one below the other, which figures show parts of.
fn picture(report: &Report, block: usize) -> String {
    let (tokens, heads) = (report.patterns.tokens, report.facts.heads);
    let data = base64(&png(&report.patterns.blocks[block], tokens));
    image(&format!("attention-{block}"), (tokens, tokens * heads), &data)
}

fn image(id: &str, (width, height): (usize, usize), data: &str) -> String {
    format!(
        "<image id=\"{id}\" width=\"{width}\" height=\"{height}\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>"
    )
}

/// The part of a block's pictures that is one head's.
fn window(body: &mut Svg, (x, y, side): (f64, f64, f64), block: usize, head: usize, tokens: usize) {
    let [x, y, side] = [x, y, side].map(short);
    body.raw(&format!(
        "<svg class=\"weights\" x=\"{x}\" y=\"{y}\" width=\"{side}\" height=\"{side}\" viewBox=\"0 {} {tokens} {tokens}\" \
         preserveAspectRatio=\"none\"><use href=\"#attention-{block}\"/></svg>",
        head * tokens
    ));
}

/// Every head of every block. It holds the pictures that [`head`] shows where both are in one page.
pub fn overview(report: &Report) -> Figure {
    let (blocks, heads, tokens) = (report.blocks.len(), report.facts.heads, report.patterns.tokens);
    let step = (400.0 / heads as f64).clamp(30.0, 56.0);
    let (left, top) = (54.0, 24.0);
    let mut svg = Svg::new();
    let pictures: String = (0..blocks).map(|block| picture(report, block)).collect();
    svg.raw(&format!("<defs>{pictures}</defs>"));
    for head in 0..heads {
        svg.text("quiet middle", (left + (head as f64 + 0.5) * step, top - 8.0), &head.to_string());
    }
    svg.text("quiet end", (left - 22.0, top - 8.0), "head");
    for (block, measures) in report.measures.blocks.iter().enumerate() {
        let y = top + block as f64 * step;
        svg.text("quiet end", (left - 10.0, y + step / 2.0 + 4.0), &block.to_string());
        for head in 0..heads {
            let x = left + head as f64 * step;
            svg.rect("frame", (x + 1.0, y + 1.0), (step - 4.0, step - 4.0));
            window(&mut svg, (x + 1.0, y + 1.0, step - 4.0), block, head, tokens);
            if measures.sinks.get(head).is_some_and(|&sink| sink > SINK) {
                svg.dot("sink", (x + step - 8.0, y + 6.0), 2.6);
            }
        }
    }
    svg.rect("chosen", (left - 0.5, top - 0.5), (step - 1.0, step - 1.0));
    let size = (left + heads as f64 * step + 8.0, top + blocks as f64 * step + 6.0);
    let grid = [left, top, step, step].map(short).join(" ");
    let title = "Attention of every head, block by block; a dot marks sinks";
    svg.done("heads", title, size, format!("data-grid=\"{grid} {heads} {blocks}\""))
}

/// One head, with its tokens: queries down, keys across. In a file of its own it brings its pictures along.
pub fn head(report: &Report, block: usize, head: usize, alone: bool) -> Figure {
    let (left, top, side) = LARGE;
    let tokens = report.patterns.tokens;
    let mut svg = Svg::new();
    if alone {
        svg.raw(&format!("<defs>{}</defs>", picture(report, block)));
    }
    svg.rect("frame", (left, top), (side, side));
    window(&mut svg, LARGE, block, head, tokens);
    axes(&mut svg, report, tokens);
    svg.rect("chosen", (left, top), (side, side / tokens as f64));
    let title = format!("Attention of block {block}, head {head}: queries down, keys across");
    svg.done("head", &title, size(), grid(tokens))
}

fn size() -> (f64, f64) {
    (LARGE.0 + LARGE.2 + 52.0, LARGE.1 + LARGE.2 + 8.0)
}

fn grid(tokens: usize) -> String {
    let step = format!("{:.4}", LARGE.2 / tokens as f64);
    format!("data-grid=\"{} {} {step} {step} {tokens} {tokens}\"", LARGE.0, LARGE.1)
}

/// The tokens along both sides, as many as can be read.
fn axes(svg: &mut Svg, report: &Report, tokens: usize) {
    let (left, top, side) = LARGE;
    let step = side / tokens as f64;
    let every = (12.0 / step).ceil().max(1.0) as usize;
    for (i, token) in report.tokens.iter().enumerate().take(tokens).step_by(every) {
        let at = (i as f64 + 0.5) * step;
        svg.text("token end", (left - 6.0, top + at + 4.0), &cut(token, 12));
        let (x, y) = (short(left + at + 3.0), short(top - 6.0));
        let text = super::svg::escape(&cut(token, 11));
        svg.raw(&format!("<text class=\"token\" transform=\"translate({x} {y}) rotate(-55)\">{text}</text>"));
    }
}

/// Rollout: what each output has of each input when attention is followed through all blocks.
pub fn rollout(report: &Report) -> Figure {
    let (left, top, side) = LARGE;
    let all = &report.measures.rollout;
    let tokens = report.patterns.tokens.min(all.len());
    let weights = all.iter().take(tokens).flat_map(|row| &row[..tokens]);
    let bytes: Vec<u8> = weights.map(|weight| (255.0 * weight.clamp(0.0, 1.0)).round() as u8).collect();
    let mut svg = Svg::new();
    svg.raw(&format!("<defs>{}</defs>", image("rollout-picture", (tokens, tokens), &base64(&png(&bytes, tokens)))));
    svg.rect("frame", (left, top), (side, side));
    let mut window = String::new();
    let _ = write!(
        window,
        "<svg class=\"weights\" x=\"{left}\" y=\"{top}\" width=\"{side}\" height=\"{side}\" \
         viewBox=\"0 0 {tokens} {tokens}\" preserveAspectRatio=\"none\"><use href=\"#rollout-picture\"/></svg>"
    );
    svg.raw(&window);
    axes(&mut svg, report, tokens);
    svg.rect("chosen", (left, top), (side, side / tokens as f64));
    let title = "Attention rollout: what each output (down) has of each input (across)";
    svg.done("rollout", title, size(), grid(tokens))
}

/// Linear CKA between the streams before and behind blocks.
pub fn cka(report: &Report) -> Figure {
    let all = &report.measures.cka;
    let step = (300.0 / all.len() as f64).clamp(9.0, 40.0);
    let (left, top) = (40.0, 24.0);
    let mut svg = Svg::new();
    let every = (18.0 / step).ceil() as usize;
    for (i, row) in all.iter().enumerate() {
        let at = |i: usize| (i as f64 + 0.5) * step;
        if i % every == 0 || i + 1 == all.len() {
            let label = if i + 1 < all.len() { i.to_string() } else { "out".into() };
            svg.text("quiet middle", (left + at(i), top - 7.0), &label);
            svg.text("quiet end", (left - 6.0, top + at(i) + 4.0), &label);
        }
        for (j, value) in row.iter().enumerate() {
            let place = (left + j as f64 * step, top + i as f64 * step);
            svg.shade("cell", place, (step - 1.0, step - 1.0), value.clamp(0.0, 1.0).powi(2));
            if step >= 30.0 {
                let class = if *value > 0.75 { "on middle" } else { "said middle" };
                svg.text(
                    class,
                    (place.0 + step / 2.0, place.1 + step / 2.0 + 4.0),
                    signed(*value).trim_start_matches('+'),
                );
            }
        }
    }
    let size = (left + all.len() as f64 * step + 14.0, top + all.len() as f64 * step + 6.0);
    let grid = [left, top, step, step].map(short).join(" ");
    let data = format!("data-grid=\"{grid} {0} {0}\"", all.len());
    svg.done("cka", "Likeness of streams before blocks: linear CKA", size, data)
}
