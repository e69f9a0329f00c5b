//! What the figures are written with: SVG elements, numbers that are short and finite, texts that are escaped, scales.

use std::fmt::Write;

/// The style of all figures, in the page and in files of their own.
pub const STYLE: &str = include_str!("figure.css");

/// A figure that is being drawn.
pub struct Svg {
    body: String,
    /// Texts and paths of elements that are drawn anew for every token, in their order.
    pub varying: Vec<String>,
}

/// A drawn figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Names its file, and its place in the page.
    pub name: String,
    /// One line.
    pub title: String,
    /// Width and height in CSS pixels.
    pub size: (f64, f64),
    /// Attributes of the root by which a page finds its way: `data-…="…"`.
    pub data: String,
    /// The elements.
    pub body: String,
}

impl Figure {
    /// As an element of a page that has [`STYLE`].
    pub fn inline(&self) -> String {
        let Figure { name, title, size: (w, h), data, body } = self;
        format!(
            "<svg class=\"figure {name}\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" role=\"img\" \
             aria-label=\"{}\" {data}>{body}</svg>",
            short(*w),
            short(*h),
            short(*w),
            short(*h),
            escape(title)
        )
    }

    /// As a file, which nothing is chosen in.
    pub fn standalone(&self) -> String {
        let Figure { name, title, size: (w, h), body, .. } = self;
        let (w, h, title) = (short(*w), short(*h + TITLE), escape(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"figure {name}\" viewBox=\"0 -{TITLE} {w} {h}\" \
             width=\"{w}\" height=\"{h}\"><title>{title}</title><style>{STYLE}.chosen,.cursor{{display:none}}</style>\
             <rect class=\"paper\" y=\"-{TITLE}\" width=\"{w}\" height=\"{h}\"/>\
             <text class=\"title\" x=\"12\" y=\"-12\">{title}</text>{body}</svg>\n"
        )
    }
}

/// Room for the title above a figure in a file of its own.
const TITLE: f64 = 34.0;

impl Svg {
    pub fn new() -> Self {
        Svg { body: String::new(), varying: Vec::new() }
    }

    pub fn done(self, name: &str, title: &str, size: (f64, f64), data: String) -> Figure {
        Figure { name: name.into(), title: title.into(), size, data, body: self.body }
    }

    /// Markup as it is.
    pub fn raw(&mut self, markup: &str) {
        self.body += markup;
    }

    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let [x1, y1, x2, y2] = [x1, y1, x2, y2].map(short);
        let _ = write!(self.body, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64)) {
        let [x, y, w, h] = [x, y, w, h].map(short);
        let _ = write!(self.body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\"/>");
    }

    /// A rectangle of some opacity.
    pub fn shade(&mut self, class: &str, (x, y): (f64, f64), (w, h): (f64, f64), opacity: f64) {
        let [x, y, w, h] = [x, y, w, h].map(short);
        let (opacity, place) = (fixed(opacity, 3), format!("x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\""));
        let _ = write!(self.body, "<rect class=\"{class}\" {place} fill-opacity=\"{opacity}\"/>");
    }

    pub fn dot(&mut self, class: &str, (x, y): (f64, f64), r: f64) {
        let [x, y, r] = [x, y, r].map(short);
        let _ = write!(self.body, "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\"/>");
    }

    /// Classes `start`, `middle` and `end` say what of the text is at x.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), text: &str) {
        let [x, y] = [x, y].map(short);
        let _ = write!(self.body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text));
    }

    pub fn path(&mut self, class: &str, d: &str) {
        let _ = write!(self.body, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// A text that is another one for each token.
    pub fn varying_text(&mut self, class: &str, at: (f64, f64), text: String) {
        self.text(&format!("v {class}"), at, &text);
        self.varying.push(text);
    }

    /// A path that is another one for each token.
    pub fn varying_path(&mut self, class: &str, d: String) {
        self.path(&format!("v {class}"), &d);
        self.varying.push(d);
    }
}

/// A coordinate, to a tenth of a pixel. What is not finite has no place.
pub fn short(value: f64) -> String {
    fixed(value, 1)
}

/// A number without zeros at its end.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", if value.is_finite() { value } else { 0.0 });
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".into() } else { text.into() }
}

/// A number as a person reads it: three digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => "0".into(),
        _ if !(0.000_95..99_950.0).contains(&size) => format!("{value:.1e}"),
        _ if size >= 99.95 => format!("{value:.0}"),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.0995 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    text.replace('-', "−")
}

/// A number between -1 and 1, with its sign.
pub fn signed(value: f64) -> String {
    format!("{value:+.2}").replace('-', "−")
}

/// A text as content of an element or value of an attribute: hostile ones too, and control characters are shown as such.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // not allowed in XML, or would turn the line's direction around
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A text cut to a number of characters, of which wide ones count twice.
pub fn cut(text: &str, most: usize) -> String {
    let width = |c: char| 1 + usize::from(('\u{1100}'..='\u{115f}').contains(&c) || c >= '\u{2e80}');
    let mut room = most;
    for (at, c) in text.char_indices() {
        if width(c) > room {
            // the last that fits makes room for the dots
            let kept: String = text[..at].chars().collect();
            let kept = kept.char_indices().next_back().map_or(0, |(last, _)| last);
            return format!("{}…", &text[..kept]);
        }
        room -= width(c);
    }
    text.into()
}

/// Round values that a linear axis is marked at, and its ends.
pub fn ticks(low: f64, high: f64, about: usize) -> Vec<f64> {
    let span = (high - low).max(f64::MIN_POSITIVE);
    let power = 10f64.powf((span / about as f64).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| span / step <= about as f64);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_finite() {
        assert_eq!([0.04, -0.04, 12.26, f64::NAN, f64::INFINITY].map(short), ["0", "0", "12.3", "0", "0"]);
        assert_eq!([0.0, 12.345, -0.5, 123_456.0, 0.000_02].map(number), ["0", "12.3", "−0.50", "1.2e5", "2.0e−5"]);
        assert_eq!(ticks(0.0, 9.3, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
    }

    #[test]
    fn texts_are_escaped_and_cut() {
        assert_eq!(escape("</script>\"'&\u{1}\u{202e}"), "&lt;/script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}");
        assert_eq!([cut("river", 5), cut("rivers", 5), cut("漢字漢字", 5)], ["river", "rive…", "漢…"]);
    }
}
