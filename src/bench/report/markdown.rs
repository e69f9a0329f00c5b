//! The tables that people read: the ceilings, the results, and what is wrong.

use std::io::{self, Write};

use super::{Report, number, sizes};
use crate::bench::ceilings::Bound;

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let a = &report.adapter;
    let driver = format!("{} {}", a.driver, a.driver_info);
    let cores = a.host_cores;
    writeln!(out, "{} ({}), {}, {cores} host cores", cell(&a.name), a.backend, cell(driver.trim()))?;
    writeln!(out, "thalweg {}, suite {}, seed {}\n", report.version, report.suite, report.seed)?;
    writeln!(out, "| ceiling | value | unit | spread | wall clock | GPU clock | note |")?;
    writeln!(out, "|---|--:|---|--:|--:|--:|---|")?;
    for (name, ceiling) in report.ceilings.rows() {
        let (value, wall, gpu) = (number(ceiling.value), number(ceiling.wall), number(ceiling.gpu));
        let note = cell(ceiling.note.as_deref().unwrap_or_default());
        writeln!(out, "| {name} | {value} | {} | {} | {wall} | {gpu} | {note} |", ceiling.unit, share(ceiling.spread))?;
    }
    if !report.results.is_empty() {
        writeln!(
            out,
            "\n| name | shape | variant | type | value | unit | spread | of ceiling | bound by | wall clock | GPU clock |"
        )?;
        writeln!(out, "|---|---|---|---|--:|---|--:|--:|---|--:|--:|")?;
    }
    for r in &report.results {
        let bound = match r.bound {
            Some(Bound::Arithmetic) => "arithmetic",
            Some(Bound::Memory) => "memory",
            None => "n/a",
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {bound} | {} | {} |",
            cell(&r.name),
            sizes(&r.shape),
            cell(&r.variant),
            r.dtype,
            number(Some(r.value)),
            r.unit,
            share(Some(r.spread)),
            share(r.of_ceiling),
            number(Some(r.wall)),
            number(r.gpu),
        )?;
    }
    if !report.starts.is_empty() {
        writeln!(
            out,
            "\n| cold start of | pipeline cache | device, s | load, s | first result, s | GPU, MiB | host, MiB |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|--:|--:|")?;
    }
    for s in &report.starts {
        let [open, load, first] = [s.open_s, s.load_s, s.first_s].map(|seconds| number(Some(seconds)));
        let mib = |bytes: Option<u64>| number(bytes.map(|bytes| bytes as f64 / f64::from(1 << 20)));
        let (gpu, host) = (mib(Some(s.gpu_bytes)), mib(s.host_peak_bytes));
        writeln!(out, "| {} | {} | {open} | {load} | {first} | {gpu} | {host} |", cell(&s.model), s.pipeline_cache)?;
    }
    if !(report.wrong.is_empty() && report.skipped.is_empty()) {
        writeln!(out)?;
    }
    for wrong in &report.wrong {
        let shape = sizes(&wrong.shape);
        writeln!(out, "WRONG {} {shape}, {}, {}: {}", wrong.name, wrong.variant, wrong.dtype, wrong.what)?;
    }
    for skipped in &report.skipped {
        writeln!(out, "not measured: {}: {}", skipped.name, skipped.reason)?;
    }
    Ok(())
}

/// A share in percent.
fn share(value: Option<f64>) -> String {
    value.map_or("n/a".into(), |value| format!("{:.0}%", 100.0 * value))
}

/// Text that ends no cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
