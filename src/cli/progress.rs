//! Progress bars on standard error; indicatif draws them only where that is a terminal.

use std::sync::Arc;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use thalweg::{CancelToken, Task};

/// The bar of a model that is loaded, in bytes.
pub fn loading() -> ProgressBar {
    let bar = ProgressBar::new(0).with_message("loading");
    bar.set_style(style("{msg} [{bar:40}] {bytes}/{total_bytes}"));
    bar
}

/// The bar of a file that is written, in bytes.
pub fn writing() -> ProgressBar {
    let bar = ProgressBar::new(0).with_message("writing");
    bar.set_style(style("{msg} [{bar:40}] {bytes}/{total_bytes}"));
    bar.with_finish(ProgressFinish::AndClear)
}

/// The bar of texts that are embedded, by their bytes; without a total, it only counts them.
pub fn texts(total_bytes: Option<u64>) -> ProgressBar {
    let bar = match total_bytes {
        Some(total) => {
            let bar = ProgressBar::new(total);
            bar.set_style(style("embedding [{bar:40}] {percent}% {msg} ({eta})"));
            bar
        }
        None => {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style("{spinner} embedding {msg}"));
            bar
        }
    };
    // an error leaves no bar behind either
    bar.with_finish(ProgressFinish::AndClear)
}

/// The bar of a prompt that is read, in tokens.
pub fn reading(tokens: u64) -> ProgressBar {
    let bar = ProgressBar::new(tokens);
    bar.set_style(style("reading [{bar:40}] {pos}/{len} tokens"));
    bar.with_finish(ProgressFinish::AndClear)
}

/// The bar of a run of checks.
pub fn checking(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    bar.set_style(style("checking [{bar:40}] {pos}/{len} ({eta})"));
    bar.with_finish(ProgressFinish::AndClear)
}

/// The bar of an instrument, in whatever it counts.
pub fn counting(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    bar.set_style(style("{msg} [{bar:40}] {pos}/{len} ({eta})"));
    bar.with_finish(ProgressFinish::AndClear)
}

/// The bar of a benchmark.
pub fn measuring() -> ProgressBar {
    let bar = ProgressBar::new(0);
    bar.set_style(style("measuring [{bar:40}] {pos}/{len} {msg}"));
    bar.with_finish(ProgressFinish::AndClear)
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

/// A task that is watched by the bar in the engine's own units.
pub fn task(bar: &ProgressBar, cancel: &CancelToken) -> Task {
    let bar = bar.clone();
    let report = move |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    Task { cancel: cancel.clone(), progress: Some(Arc::new(report)) }
}

/// A task for a part of the texts: that many bytes, after what the bar shows now.
pub fn part(bar: &ProgressBar, cancel: &CancelToken, bytes: u64) -> Task {
    let (bar, start) = (bar.clone(), bar.position());
    let report = move |done: u64, total: u64| {
        bar.set_position(start + (bytes as f64 * done as f64 / total.max(1) as f64) as u64);
    };
    Task { cancel: cancel.clone(), progress: Some(Arc::new(report)) }
}
