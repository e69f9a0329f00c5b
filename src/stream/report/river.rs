//! The way of the stream as a river: it flows from left to right through the blocks, as wide as its norm; what attention adds
//! comes from above and what the FFN adds from below, as wide as its norm, at the angle that it has with the stream.

use super::Report;
use super::svg::{Figure, Svg, number, short, signed, ticks};

/// From its top: rows of numbers, attention's tributaries, the river, the FFN's, rows of numbers again.
const MIDDLE: f64 = 170.0;
const HEIGHT: f64 = 374.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 46.0;
/// The widest that the river gets.
const WIDEST: f64 = 104.0;
/// How far a tributary is seen.
const REACH: f64 = 66.0;
/// Angles are not drawn nearer to the stream's direction than this, in degrees.
const LEAST_ANGLE: f64 = 15.0;

/// What flows through one block.
struct Reach {
    /// Norms of the stream: before the block, with attention added, normalised, with the FFN added, normalised.
    before: f64,
    mid: f64,
    narrowed: Option<f64>,
    after: f64,
    left: Option<f64>,
    /// Norm and cosine.
    attention: (f64, f64),
    mlp: (f64, f64),
}

impl Reach {
    fn end(&self) -> f64 {
        self.left.unwrap_or(self.after)
    }
}

/// The river of one token, or of the mean over tokens.
fn course(report: &Report, token: Option<usize>) -> Vec<Reach> {
    let of = |values: &[f64]| token.map_or_else(|| values.iter().sum::<f64>() / values.len() as f64, |i| values[i]);
    let reach = |block: &super::BlockStates| {
        let norm = |name| block.state(name).map(|state| of(&state.norm));
        Reach {
            before: norm("x").unwrap_or(0.0),
            mid: of(&block.mid),
            narrowed: norm("t3"),
            after: norm("t5").unwrap_or(0.0),
            left: norm("h"),
            attention: (norm("t1").unwrap_or(0.0), of(&block.attention)),
            mlp: (norm("t4").unwrap_or(0.0), of(&block.mlp)),
        }
    };
    report.blocks.iter().map(reach).collect()
}

/// The figure of the mean, and for the mean and each token what its varying elements are.
pub fn draw(report: &Report) -> (Figure, Vec<Vec<String>>) {
    let mean = draw_one(report, None);
    let tokens = (0..report.ids.len()).map(|token| draw_one(report, Some(token)).1);
    let all = std::iter::once(mean.1.clone()).chain(tokens).collect();
    (mean.0, all)
}

fn draw_one(report: &Report, token: Option<usize>) -> (Figure, Vec<String>) {
    let reaches = course(report, token);
    let step = (880.0 / reaches.len() as f64).clamp(46.0, 150.0);
    let width = LEFT + step * reaches.len() as f64 + RIGHT;
    let streams = reaches.iter().flat_map(|r| [r.before, r.mid, r.after]);
    let widest = streams.fold(f64::MIN_POSITIVE, f64::max);
    let parts = reaches.iter().flat_map(|r| [r.attention.0, r.mlp.0]);
    let strongest = parts.fold(f64::MIN_POSITIVE, f64::max);
    // pixels a unit: the river keeps to its bed, and neighbouring tributaries do not hide each other
    let scale = (WIDEST / widest).min(0.9 * step / strongest);
    let x = |block: usize, part: f64| LEFT + step * (block as f64 + part);
    let mut svg = Svg::new();
    svg.raw(GRADIENTS);
    for block in 0..=reaches.len() {
        svg.line("grid", (x(block, 0.0), 34.0), (x(block, 0.0), HEIGHT - 64.0));
    }
    for (block, reach) in reaches.iter().enumerate() {
        let middle = |norm: f64| norm * scale / 2.0;
        let (attention, mlp) = (reach.attention, reach.mlp);
        let bank = middle(reach.before.min(reach.mid));
        svg.varying_path("attention", tributary(x(block, 0.3), MIDDLE - bank, -1.0, attention, scale));
        let bank = middle(reach.narrowed.unwrap_or(reach.mid).min(reach.after));
        svg.varying_path("mlp", tributary(x(block, 0.7), MIDDLE + bank, 1.0, mlp, scale));
    }
    svg.varying_path("stream", stream(&reaches, scale, &x));
    for (block, reach) in reaches.iter().enumerate() {
        for (place, from, to) in [(0.52, Some(reach.mid), reach.narrowed), (0.94, Some(reach.after), reach.left)] {
            // a norm in the stream's way
            if let (Some(from), Some(to)) = (from, to) {
                let half = from.max(to) * scale / 2.0 + 4.0;
                let (x, top, bottom) = (short(x(block, place)), short(MIDDLE - half), short(MIDDLE + half));
                svg.varying_path("norm", format!("M{x} {top}V{bottom}"));
            }
        }
        svg.varying_text("attention middle", (x(block, 0.36), 16.0), number(reach.attention.0));
        svg.varying_text("quiet middle", (x(block, 0.36), 29.0), signed(reach.attention.1));
        svg.varying_text("mlp middle", (x(block, 0.64), HEIGHT - 48.0), number(reach.mlp.0));
        svg.varying_text("quiet middle", (x(block, 0.64), HEIGHT - 35.0), signed(reach.mlp.1));
        svg.varying_text("middle", (x(block, 1.0), HEIGHT - 18.0), number(reach.end()));
        svg.text("quiet middle", (x(block, 0.5), HEIGHT - 3.0), &block.to_string());
    }
    svg.varying_text("middle", (x(0, 0.0), HEIGHT - 18.0), number(reaches.first().map_or(0.0, |r| r.before)));
    svg.text("attention end", (LEFT - 8.0, 16.0), "‖attn‖");
    svg.text("quiet end", (LEFT - 8.0, 29.0), "cos");
    svg.text("mlp end", (LEFT - 8.0, HEIGHT - 48.0), "‖FFN‖");
    svg.text("quiet end", (LEFT - 8.0, HEIGHT - 35.0), "cos");
    svg.text("end", (LEFT - 24.0, HEIGHT - 18.0), "‖x‖");
    svg.text("quiet end", (LEFT - 8.0, HEIGHT - 3.0), "block");
    // how much is that
    let bar = ticks(0.0, widest, 4).into_iter().find(|&tick| tick > 0.0).unwrap_or(1.0);
    let (top, length) = (MIDDLE - bar * scale / 2.0, bar * scale);
    svg.varying_path("scale", format!("M14 {}h8m-4 0v{}m-4 0h8", short(top), short(length)));
    svg.varying_text("quiet middle", (18.0, MIDDLE + bar * scale / 2.0 + 14.0), number(bar));
    svg.line("cursor", (x(0, 0.5), 34.0), (x(0, 0.5), HEIGHT - 64.0));
    let data = format!("data-blocks=\"{} {}\"", short(x(0, 0.5)), short(step));
    let varying = std::mem::take(&mut svg.varying);
    let title = "The way of the stream: its norm through the blocks, and what flows in";
    (svg.done("river", title, (width, HEIGHT), data), varying)
}

const GRADIENTS: &str = "<defs><linearGradient id=\"from-above\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"1\"><stop class=\"attention\" \
offset=\"0\" stop-opacity=\".12\"/><stop class=\"attention\" offset=\".85\" stop-opacity=\"1\"/></linearGradient><linearGradient \
id=\"from-below\" x1=\"0\" x2=\"0\" y1=\"1\" y2=\"0\"><stop class=\"mlp\" offset=\"0\" stop-opacity=\".12\"/><stop class=\"mlp\" \
offset=\".85\" stop-opacity=\"1\"/></linearGradient></defs>";

/// A band that ends in the stream below (`side` -1: it comes from above) or above it, with its own width at right angles to
/// its way.
fn tributary(x: f64, bank: f64, side: f64, (norm, cosine): (f64, f64), scale: f64) -> String {
    let least = LEAST_ANGLE.to_radians();
    let angle = cosine.clamp(-1.0, 1.0).acos().clamp(least, std::f64::consts::PI - least);
    // the way that it flows: along the stream, and towards it
    let (along, towards) = (angle.cos(), -side * angle.sin());
    let half = (norm * scale / 2.0).max(0.3);
    let (aside, down) = (-towards * half, along * half);
    // both of its sides go on to the middle of the stream, which hides them
    let side_of = |sign: f64| {
        let (x, y) = (x + sign * aside, bank + sign * down);
        let far = (MIDDLE - y) / towards;
        [(x - along * REACH, y - towards * REACH), (x + along * far, y + towards * far)]
    };
    let ([a, b], [d, c]) = (side_of(1.0), side_of(-1.0));
    let at = |(x, y): (f64, f64)| format!("{} {}", short(x), short(y));
    format!("M{}L{}L{}L{}Z", at(a), at(b), at(c), at(d))
}

/// The outline of the stream: its upper bank from left to right, and the lower one back.
fn stream(reaches: &[Reach], scale: f64, x: &dyn Fn(usize, f64) -> f64) -> String {
    let half = |norm: f64| (norm * scale / 2.0).max(0.4);
    let mut widths: Vec<(f64, f64)> = Vec::new();
    for (block, r) in reaches.iter().enumerate() {
        widths.extend([(x(block, 0.0), r.before), (x(block, 0.16), r.before), (x(block, 0.44), r.mid)]);
        let narrowed = r.narrowed.map_or(r.mid, |narrowed| {
            widths.extend([(x(block, 0.5), r.mid), (x(block, 0.54), narrowed)]);
            narrowed
        });
        widths.extend([(x(block, 0.58), narrowed), (x(block, 0.84), r.after)]);
        if let Some(left) = r.left {
            widths.extend([(x(block, 0.92), r.after), (x(block, 0.96), left)]);
        }
    }
    widths.push((x(reaches.len(), 0.0), reaches.last().map_or(0.0, Reach::end)));
    let bank = |points: &mut dyn Iterator<Item = &(f64, f64)>, side: f64| {
        let mut d = String::new();
        let mut last: Option<(f64, f64)> = None;
        for &(x, norm) in points {
            let y = MIDDLE + side * half(norm);
            match last {
                None => d += &format!("{} {}", short(x), short(y)),
                // level at both ends
                Some((from, level)) => {
                    let middle = short((from + x) / 2.0);
                    d += &format!("C{middle} {} {middle} {} {} {}", short(level), short(y), short(x), short(y));
                }
            }
            last = Some((x, y));
        }
        d
    };
    format!("M{}L{}Z", bank(&mut widths.iter(), -1.0), bank(&mut widths.iter().rev(), 1.0))
}
