//! The roofline (Williams, Waterman and Patterson 2009): arithmetic intensity along, rate up, both in powers of ten; the roof
//! is what the ceilings allow, and each kernel is a point below it.

use std::io::{self, Write};

use super::{Measured, Report, number};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 600.0;
/// Of the plot itself: left, top, right, bottom.
const FRAME: [f64; 4] = [80.0, 60.0, 700.0, 540.0];
/// One for each kernel; from the eleventh on again, as squares.
const COLOURS: [&str; 10] =
    ["#1b6ca8", "#d1495b", "#2e8b57", "#e0a030", "#6a4c93", "#00798c", "#8d5524", "#c2185b", "#5d737e", "#7cb518"];

/// A kernel's result as a point.
struct Point<'a> {
    result: &'a Measured,
    /// FLOP a byte.
    intensity: f64,
    /// GFLOP/s.
    rate: f64,
}

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let points: Vec<_> = report.results.iter().filter_map(point).collect();
    let (peak, memory) = (report.ceilings.fma_f32.value, report.ceilings.copy.value);
    let plot = Plot::around(&points, peak.zip(memory));
    let size = format!("viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\"");
    writeln!(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} font-family=\"sans-serif\" font-size=\"12\">")?;
    writeln!(out, "<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>")?;
    let a = &report.adapter;
    let title = escaped(&format!("{} ({})", a.name, a.backend));
    writeln!(out, "<text x=\"{}\" y=\"28\" font-size=\"17\">{title}</text>", FRAME[0])?;
    let below = escaped(&format!("{} {}, thalweg {}", a.driver, a.driver_info, report.version));
    writeln!(out, "<text x=\"{}\" y=\"46\" fill=\"#555\">{below}</text>", FRAME[0])?;
    plot.axes(out)?;
    if let Some((peak, memory)) = peak.zip(memory) {
        plot.roof(out, peak, memory)?;
    }
    let mut names: Vec<&str> = Vec::new();
    for point in &points {
        if !names.contains(&point.result.name.as_str()) {
            names.push(&point.result.name);
        }
    }
    for point in &points {
        let number = names.iter().position(|name| *name == point.result.name).unwrap_or(0);
        plot.mark(out, point, number)?;
    }
    for (i, name) in names.iter().enumerate() {
        let (x, y) = (FRAME[2] + 30.0, FRAME[1] + 10.0 + 20.0 * i as f64);
        writeln!(out, "{}", symbol(i, x, y, ""))?;
        writeln!(out, "<text x=\"{}\" y=\"{}\">{}</text>", x + 12.0, y + 4.0, escaped(name))?;
    }
    writeln!(out, "</svg>")
}

fn point(result: &Measured) -> Option<Point<'_>> {
    let rate = match result.unit.as_str() {
        "GFLOP/s" => result.value,
        "GB/s" => result.value * result.flops / result.bytes,
        _ => return None,
    };
    let intensity = result.flops / result.bytes;
    let drawn = [rate, intensity].iter().all(|value| value.is_finite() && *value > 0.0);
    drawn.then_some(Point { result, intensity, rate })
}

/// The ranges of both axes, as powers of ten.
struct Plot {
    x: (f64, f64),
    y: (f64, f64),
}

impl Plot {
    fn around(points: &[Point<'_>], roof: Option<(f64, f64)>) -> Self {
        let mut xs: Vec<f64> = points.iter().map(|point| point.intensity).collect();
        let mut ys: Vec<f64> = points.iter().map(|point| point.rate).collect();
        if let Some((peak, memory)) = roof {
            xs.extend([peak / memory / 3.0, peak / memory * 3.0]);
            ys.extend([peak * 1.5]);
        }
        let range = |values: &[f64]| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            let high = values.iter().copied().fold(0.0, f64::max);
            if low.is_finite() {
                (low.log10().floor(), high.log10().ceil().max(low.log10().floor() + 1.0))
            } else {
                (0.0, 1.0)
            }
        };
        Plot { x: range(&xs), y: range(&ys) }
    }

    fn across(&self, intensity: f64) -> f64 {
        FRAME[0] + (intensity.log10() - self.x.0) / (self.x.1 - self.x.0) * (FRAME[2] - FRAME[0])
    }

    fn up(&self, rate: f64) -> f64 {
        FRAME[3] - (rate.log10() - self.y.0) / (self.y.1 - self.y.0) * (FRAME[3] - FRAME[1])
    }

    fn axes(&self, out: &mut dyn Write) -> io::Result<()> {
        let [left, top, right, bottom] = FRAME;
        let label = |power: i32| match power {
            -2..=3 => format!("{}", 10f64.powi(power)),
            _ => format!("1e{power}"),
        };
        for power in self.x.0 as i32..=self.x.1 as i32 {
            let x = self.across(10f64.powi(power));
            writeln!(out, "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{bottom}\" stroke=\"#ddd\"/>")?;
            let text = label(power);
            writeln!(out, "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>", bottom + 18.0)?;
        }
        for power in self.y.0 as i32..=self.y.1 as i32 {
            let y = self.up(10f64.powi(power));
            writeln!(out, "<line x1=\"{left}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>")?;
            let text = label(power);
            writeln!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>", left - 8.0, y + 4.0)?;
        }
        let middle = ((left + right) / 2.0, (top + bottom) / 2.0);
        writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">FLOP a byte</text>", middle.0, bottom + 40.0)?;
        writeln!(
            out,
            "<text transform=\"translate(22 {}) rotate(-90)\" text-anchor=\"middle\">GFLOP/s</text>",
            middle.1
        )
    }

    fn roof(&self, out: &mut dyn Write, peak: f64, memory: f64) -> io::Result<()> {
        let (least, most) = (10f64.powf(self.x.0), 10f64.powf(self.x.1));
        let ridge = peak / memory;
        // the slope enters from the left edge, or from below where it is under the frame there
        let start = least.max(10f64.powf(self.y.0) / memory);
        let corners = [(start, start * memory), (ridge, peak), (most, peak)];
        let path: Vec<_> = corners.iter().map(|(x, y)| format!("{:.1},{:.1}", self.across(*x), self.up(*y))).collect();
        writeln!(out, "<polyline points=\"{}\" fill=\"none\" stroke=\"#222\" stroke-width=\"2\"/>", path.join(" "))?;
        let text = |out: &mut dyn Write, x: f64, y: f64, anchor: &str, what: String| {
            writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"#222\">{what}</text>")
        };
        let (peak_text, memory_text) = (number(Some(peak)), number(Some(memory)));
        text(out, self.across(most) - 6.0, self.up(peak) - 8.0, "end", format!("f32 fma: {peak_text} GFLOP/s"))?;
        let middle = 10f64.powf((start.log10() + ridge.log10()) / 2.0);
        let (x, y) = (self.across(middle) - 10.0, self.up(middle * memory) - 10.0);
        text(out, x, y, "end", format!("copy: {memory_text} GB/s"))
    }

    fn mark(&self, out: &mut dyn Write, point: &Point<'_>, number: usize) -> io::Result<()> {
        let r = point.result;
        let what = format!("{} {:?}: {} {}", r.variant, r.shape, super::number(Some(r.value)), r.unit);
        let (x, y) = (self.across(point.intensity), self.up(point.rate));
        writeln!(out, "{}", symbol(number, x, y, &what))
    }
}

/// The symbol of the kernel with that number, with what is shown of it under the pointer.
fn symbol(number: usize, x: f64, y: f64, what: &str) -> String {
    let colour = COLOURS[number % COLOURS.len()];
    let title = if what.is_empty() { String::new() } else { format!("<title>{}</title>", escaped(what)) };
    let fill = format!("fill=\"{colour}\" fill-opacity=\"0.75\"");
    if number < COLOURS.len() {
        return format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" {fill}>{title}</circle>");
    }
    let (x, y) = (x - 4.0, y - 4.0);
    format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"8\" height=\"8\" {fill}>{title}</rect>")
}

/// Text between tags, or in quotes.
fn escaped(text: &str) -> String {
    let legal = text.chars().filter(|c| !c.is_control());
    let entity = |c: char| match c {
        '&' => "&amp;".into(),
        '<' => "&lt;".into(),
        '>' => "&gt;".into(),
        '"' => "&quot;".into(),
        c => String::from(c),
    };
    legal.map(entity).collect()
}
