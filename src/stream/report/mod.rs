//! The report: what a model made of one prompt, as a page of its own, as figures and as numbers. Figures are drawn here, once,
//! for the page and for files alike; the page's script only chooses, shades and reads out.

mod attention;
mod charts;
mod data;
mod heat;
mod image;
mod json;
mod page;
mod river;
mod svg;

pub use data::{BINS, BlockStates, Facts, MOST_TOKENS, MOST_WEIGHTS, Patterns, Report, State};
pub use svg::Figure;

impl Report {
    /// Every figure as it stands alone: of the last token, block 0 and head 0 where one must be chosen. A model without a
    /// head has `nearness` in place of `lens`.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = vec![river::draw(self).0, heat::draw(self)];
        figures.extend([attention::overview(self), attention::head(self, 0, 0, true)]);
        figures.extend(charts::charts(self));
        figures.extend([attention::cka(self), attention::rollout(self)]);
        figures.extend([charts::states(self, 0, self.last()), charts::attribution(self)]);
        figures
    }

    /// The token that is chosen at first.
    fn last(&self) -> usize {
        self.ids.len().saturating_sub(1)
    }
}
