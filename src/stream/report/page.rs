//! The page: one file of HTML with its style, its script, its figures and its numbers, which needs nothing else.

use std::fmt::Write;

use super::svg::{STYLE, escape, number};
use super::{Figure, Report, attention, charts, heat, river};

const PAGE: &str = include_str!("page.html");
const PAGE_STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Massive activations that are listed.
const LISTED: usize = 24;

impl Report {
    /// The page. The same report gives the same bytes.
    pub fn html(&self) -> String {
        let (river, courses) = river::draw(self);
        let attribution = charts::attribution(self);
        let facts = &self.facts;
        let (blocks, heads, tokens) = (facts.blocks, facts.heads, self.ids.len());
        let about = format!(
            "{} of {blocks} blocks and {heads} heads; a stream of {}; {}; {} of {tokens} tokens",
            facts.family, facts.d_model, facts.placement, "a prompt"
        );
        let numbers = self.page_json().to_string();
        let courses = serde_json::json!(courses).to_string();
        let of_parts = match &self.target {
            Some(_) => {
                "What each part of the stream gives to the likeliest token's logit after the last token. A part is a \
                        head through its columns of W_O, an FFN, a bias or an embedding, carried through every norm behind it; \
                        all of them sum to the logit."
            }
            None => {
                "A model without a head for next tokens: its parts are taken along the first token's own last stream, and \
                     sum to its length. A part is a head through its columns of W_O, an FFN, a bias or an embedding, carried \
                     through every norm behind it."
            }
        };
        // one pass, so that nothing that is filled in is looked at again
        fill(
            PAGE,
            &[
                ("model", &escape(&self.model)),
                ("about", &escape(&about)),
                ("version", env!("CARGO_PKG_VERSION")),
                ("page.css", PAGE_STYLE),
                ("figure.css", STYLE),
                ("page.js", SCRIPT),
                ("tokens", &self.token_buttons()),
                ("last-token", &self.last().to_string()),
                ("last-block", &(blocks - 1).to_string()),
                ("last-head", &(heads - 1).to_string()),
                ("river", &plot(&river, "block token")),
                ("readings", &self.readings()),
                ("heads", &plot(&attention::overview(self), "head block")),
                ("head", &plot(&attention::head(self, 0, 0, false), "head token")),
                ("cut", &self.cut()),
                ("charts", &charts::charts(self).iter().map(small).collect::<String>()),
                ("cka", &small(&attention::cka(self))),
                ("rollout", &plot(&attention::rollout(self), "block token")),
                ("massive", &self.massive()),
                ("states", &plot(&charts::states(self, 0, self.last()), "block token")),
                ("attribution-title", &escape(&attribution.title)),
                ("attribution-text", of_parts),
                ("attribution", &plot(&attribution, "block token")),
                ("numbers", &script_safe(&numbers)),
                ("courses", &script_safe(&courses)),
            ],
        )
    }

    fn token_buttons(&self) -> String {
        let mut html = String::new();
        for (i, token) in self.tokens.iter().enumerate() {
            let _ = write!(html, "<button type=\"button\" data-token=\"{i}\">{}</button>", escape(token));
        }
        html
    }

    /// The lens; of models without a head how near the stream is to its end.
    fn readings(&self) -> String {
        let section = if self.has_lens() { include_str!("lens.html") } else { include_str!("nearness.html") };
        fill(section, &[("figure", &plot(&heat::draw(self), "block token"))])
    }

    /// That not all weights are shown, where it is so.
    fn cut(&self) -> String {
        let (shown, all) = (self.patterns.tokens, self.ids.len());
        if shown == all { String::new() } else { format!(" Of {all} tokens the first {shown} are shown here.") }
    }

    fn massive(&self) -> String {
        let blocks = self.measures.blocks.iter().enumerate();
        let all: Vec<_> =
            blocks.flat_map(|(block, of)| of.massive.iter().map(move |a| (block, of.median, a))).collect();
        if all.is_empty() {
            return "<p class=\"note\">No massive activations: no element behind any block has a magnitude above 100 and above \
                    1,000 times its block's median (Sun et al. 2024).</p>"
                .into();
        }
        let head = "<table><caption>Massive activations: magnitude above 100 and above 1,000 times the median (Sun et al. \
                    2024)</caption><thead><tr><th>behind block<th>token<th>dimension<th>value<th>times the \
                    median</tr></thead><tbody>";
        let mut html = head.to_string();
        for (block, median, a) in all.iter().take(LISTED) {
            let token = escape(&self.tokens[a.position]);
            let (value, times) = (number(a.value), number(a.value.abs() / median.max(f64::MIN_POSITIVE)));
            let cells = format!("{}<td>{value}<td>{times}", a.dimension);
            let _ =
                write!(html, "<tr><td>{block}<td>{} <span class=\"token\">{token}</span><td>{cells}</tr>", a.position);
        }
        html += "</tbody></table>";
        if all.len() > LISTED {
            let _ = write!(html, "<p class=\"note\">and {} more, in the numbers of this page</p>", all.len() - LISTED);
        }
        html
    }
}

/// A figure that can be walked through: what the arrows across and down change.
fn plot(figure: &Figure, arrows: &str) -> String {
    let (name, title, svg) = (&figure.name, escape(&figure.title), figure.inline());
    format!(
        "<div class=\"plot\" tabindex=\"0\" role=\"group\" aria-label=\"{title}\" data-plot=\"{name}\" \
         data-arrows=\"{arrows}\">{svg}</div>"
    )
}

/// A small figure with its title.
fn small(figure: &Figure) -> String {
    format!("<figure><figcaption>{}</figcaption>{}</figure>", escape(&figure.title), plot(figure, "block token"))
}

/// JSON inside of a script element: nothing in it can end the element or begin a comment.
fn script_safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// Fills `{{names}}` in.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::new();
    let mut pieces = template.split("{{");
    out += pieces.next().unwrap_or_default();
    for piece in pieces {
        let (name, rest) = piece.split_once("}}").unwrap_or((piece, ""));
        out += values.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value);
        out += rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_cannot_end_its_element() {
        let hostile = serde_json::json!({"token": "</script><!--&\u{2028}"}).to_string();
        let safe = script_safe(&hostile);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap()["token"], "</script><!--&\u{2028}");
    }

    #[test]
    fn every_name_of_the_template_is_filled_once() {
        assert_eq!(fill("a{{b}}c{{d}}", &[("b", "{{d}}"), ("d", "e")]), "a{{d}}ce");
    }
}
