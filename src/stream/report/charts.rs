//! Charts by block: what is added, how much it changes, how alike the tokens become; and the bars of an attribution.

use super::Report;
use super::svg::{Figure, Svg, number, short, signed, ticks};

const SIZE: (f64, f64) = (330.0, 214.0);
/// Of the plot itself: left, top, right, bottom.
const FRAME: [f64; 4] = [54.0, 26.0, 318.0, 176.0];

/// A line of a chart: its class in the style, its name, a value for each block.
type Series<'a> = (&'a str, &'a str, Vec<f64>);

struct Chart<'a> {
    name: &'a str,
    title: &'a str,
    series: Vec<Series<'a>>,
    /// The axis is in powers of ten.
    log: bool,
    /// A value that the axis has in any case.
    with: Option<f64>,
}

/// All charts by block.
pub fn charts(report: &Report) -> Vec<Figure> {
    let blocks = &report.measures.blocks;
    let of = |value: fn(&crate::stream::BlockMeasures) -> f64| blocks.iter().map(value).collect::<Vec<_>>();
    let pair = |attention, mlp| vec![("attention", "attention", attention), ("mlp", "FFN", mlp)];
    let chart = |name, title, series, log, with| Chart { name, title, series, log, with };
    let norms = pair(of(|b| b.attention.norm), of(|b| b.mlp.norm));
    let ratios = pair(of(|b| b.attention.ratio), of(|b| b.mlp.ratio));
    let cosines = pair(of(|b| b.attention.cosine), of(|b| b.mlp.cosine));
    let sizes = vec![("flow", "largest", of(|b| b.largest)), ("still", "median", of(|b| b.median))];
    let all = [
        chart("norm", "Norm of what is added, ‖part‖", norms, false, Some(0.0)),
        chart("ratio", "Beside the stream, ‖part‖/‖stream‖", ratios, false, Some(0.0)),
        chart("cosine", "Cosine of part and stream", cosines, false, Some(0.0)),
        chart(
            "influence",
            "Block Influence, 1 − cos(in, out)",
            vec![("flow", "", of(|b| b.influence))],
            false,
            Some(0.0),
        ),
        chart("rank", "Rank residual, ‖X − 1x̄ᵀ‖/‖X‖", vec![("flow", "", of(|b| b.rank_residual))], true, Some(1.0)),
        chart("magnitude", "Magnitude of the stream's elements", sizes, true, None),
    ];
    all.iter().map(Chart::draw).collect()
}

impl Chart<'_> {
    /// Values along the axis, as they are placed.
    fn marks(&self) -> Vec<f64> {
        let values = self.series.iter().flat_map(|series| &series.2).copied().chain(self.with);
        let values = values.map(|value| self.placed(value));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if self.log {
            let (low, high) = (low.floor() as i32, high.ceil().max(low.floor() + 1.0) as i32);
            let step = ((high - low) as f64 / 5.0).ceil() as usize;
            let between = if high - low <= 2 { &[1.0f64, 2.0, 5.0][..] } else { &[1.0] };
            let powers = (low..=high).step_by(step.max(1)).map(f64::from);
            let marks = powers.flat_map(|power| between.iter().map(move |m| power + m.log10()));
            marks.filter(|mark| *mark <= f64::from(high)).collect()
        } else {
            ticks(low, if high > low { high } else { low + 1.0 }, 5)
        }
    }

    fn placed(&self, value: f64) -> f64 {
        // zero has no logarithm, and is drawn where the least is that a report can tell from it
        if self.log { value.max(1e-9).log10() } else { value }
    }

    fn draw(&self) -> Figure {
        let [left, top, right, bottom] = FRAME;
        let marks = self.marks();
        let (low, high) = (marks[0], marks[marks.len() - 1]);
        let y = |value: f64| bottom - (self.placed(value) - low) / (high - low) * (bottom - top);
        let blocks = self.series.first().map_or(0, |series| series.2.len());
        let step = (right - left) / blocks.max(1) as f64;
        let x = |block: usize| left + (block as f64 + 0.5) * step;
        let mut svg = Svg::new();
        for mark in &marks {
            let (value, label) = if self.log { (10f64.powf(*mark), power(*mark)) } else { (*mark, plain(*mark)) };
            let class = if !self.log && *mark == 0.0 { "axis" } else { "grid" };
            svg.line(class, (left, y(value)), (right, y(value)));
            svg.text("quiet end", (left - 6.0, y(value) + 4.0), &label);
        }
        let every = (22.0 / step).ceil() as usize;
        for block in (0..blocks).step_by(every.max(1)) {
            svg.text("quiet middle", (x(block), bottom + 16.0), &block.to_string());
        }
        svg.text("quiet middle", ((left + right) / 2.0, bottom + 32.0), "block");
        svg.line("cursor", (x(0), top), (x(0), bottom));
        let mut across = left;
        for (class, name, values) in &self.series {
            let points =
                values.iter().enumerate().map(|(block, &value)| format!("{} {}", short(x(block)), short(y(value))));
            svg.path(&format!("curve {class}"), &format!("M{}", points.collect::<Vec<_>>().join("L")));
            for (block, &value) in values.iter().enumerate() {
                svg.dot(&format!("mark {class}"), (x(block), y(value)), if blocks > 24 { 1.6 } else { 2.6 });
            }
            if !name.is_empty() {
                svg.dot(&format!("mark {class}"), (across + 4.0, 10.0), 3.4);
                svg.text("", (across + 12.0, 14.0), name);
                across += 84.0;
            }
        }
        let data = format!("data-blocks=\"{} {step:.3}\"", short(x(0)));
        svg.done(self.name, self.title, SIZE, data)
    }
}

/// A mark of a linear axis: steps are round, so that few digits tell it.
fn plain(value: f64) -> String {
    let text = if value.abs() >= 1e5 || (value != 0.0 && value.abs() < 1e-4) {
        format!("{value:.0e}")
    } else {
        super::svg::fixed(value, 4)
    };
    text.replace('-', "−")
}

fn power(exponent: f64) -> String {
    match exponent {
        -2.0..=3.0 => plain((10f64.powf(exponent) * 1000.0).round() / 1000.0),
        _ => format!("1e{exponent}").replace('-', "−"),
    }
}

/// Parts that are drawn.
const SHOWN: usize = 20;

/// The largest parts of a logit as bars, then what all others give together.
pub fn attribution(report: &Report) -> Figure {
    let found = &report.attribution;
    let mut parts: Vec<(&str, f64)> = found.parts.iter().map(|(name, value)| (&name[..], *value)).collect();
    parts.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let rest = parts.split_off(parts.len().min(SHOWN));
    let others = format!("{} others", rest.len());
    if !rest.is_empty() {
        parts.push((&others, rest.iter().map(|part| part.1).sum()));
    }
    let (left, right, row, top) = (120.0, 560.0, 19.0, 8.0);
    let least = parts.iter().map(|part| part.1).fold(0.0, f64::min);
    let most = parts.iter().map(|part| part.1).fold(0.0, f64::max);
    let x = |value: f64| left + (value - least) / (most - least).max(f64::MIN_POSITIVE) * (right - left);
    let mut svg = Svg::new();
    for (i, (name, value)) in parts.iter().enumerate() {
        let y = top + i as f64 * row;
        let class = match name {
            name if name.ends_with("_mlp_out") => "mlp",
            name if name.starts_with('L') || name.contains("attn") => "attention",
            _ => "still",
        };
        svg.text("end", (left - 10.0, y + 13.0), name);
        let (from, to) = (x(value.min(0.0)), x(value.max(0.0)));
        svg.rect(&format!("bar {class}"), (from, y + 2.0), ((to - from).max(0.5), row - 5.0));
        svg.text("", (right + 12.0, y + 13.0), &number(*value));
    }
    let bottom = top + parts.len() as f64 * row;
    svg.line("axis", (x(0.0), top - 2.0), (x(0.0), bottom + 2.0));
    svg.text("strong end", (left - 10.0, bottom + 18.0), "sum");
    svg.text("strong", (right + 12.0, bottom + 18.0), &number(found.sum()));
    let title = match &report.target {
        Some(target) => format!("The logit of “{target}” after token {}, taken apart", found.position),
        None => format!("The length of token {}'s last stream, taken apart", found.position),
    };
    svg.done("attribution", &title, (right + 76.0, bottom + 28.0), String::new())
}

/// The states of one token in one block: strips of the vectors, and their numbers.
pub fn states(report: &Report, block: usize, token: usize) -> Figure {
    let (left, width, row, top) = (186.0, 384.0, 34.0, 34.0);
    let columns = ["norm", "mean", "min", "max", "cos"];
    let across = |i: usize| left + width + 62.0 + 58.0 * i as f64;
    let states = &report.blocks[block].states;
    let mut svg = Svg::new();
    for (i, name) in columns.iter().enumerate() {
        svg.text("quiet end", (across(i), top - 12.0), name);
    }
    for (i, state) in states.iter().enumerate() {
        let y = top + i as f64 * row;
        let class = match state.name {
            "t1" => "attention",
            "t4" => "mlp",
            _ => "",
        };
        svg.text(&format!("strong {class}"), (4.0, y + 17.0), state.name);
        svg.text("quiet", (28.0, y + 17.0), formula(report, state.name));
        let bins = state.strip.len() / report.ids.len();
        svg.rect("frame", (left, y + 3.0), (width, row - 12.0));
        for (bin, value) in state.strip[token * bins..(token + 1) * bins].iter().enumerate() {
            let class = if *value < 0 { "bin below" } else { "bin above" };
            let (x, w) = (left + width * bin as f64 / bins as f64, width / bins as f64);
            svg.shade(class, (x, y + 3.0), (w, row - 12.0), f64::from(value.unsigned_abs()) / 127.0);
        }
        let cosine = state.cosine.get(token).map_or("·".into(), |&cosine| signed(cosine));
        let numbers = [&state.norm, &state.mean, &state.least, &state.most].map(|values| number(values[token]));
        for (i, text) in numbers.into_iter().chain([cosine]).enumerate() {
            svg.text("number end", (across(i), y + 17.0), &text);
        }
    }
    let title = format!("What passed block {block} of token {token}: the states of its vector");
    svg.done("states", &title, (across(4) + 10.0, top + states.len() as f64 * row), String::new())
}

/// How a state comes about, in the model's own form.
fn formula(report: &Report, name: &str) -> &'static str {
    let post = report.blocks.iter().all(|block| block.state("h").is_some());
    match name {
        "x" => "before the block",
        "t1" => "attention adds",
        "t2" => "x + t1",
        "t3" => "norm of t2",
        "t4" => "FFN adds",
        "t5" if post => "t3 + t4",
        "t5" if report.blocks.iter().all(|block| block.state("t2").is_some()) => "t2 + t4",
        "t5" => "x + t1 + t4",
        _ => "norm of t5",
    }
}
