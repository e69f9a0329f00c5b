//! The table that people read: a line a kernel, then every failure, then the sums.

use std::io::{self, Write};

use super::Report;
use crate::check::runner::{Record, Status};

const HEAD: [&str; 9] = ["KERNEL", "VARIANTS", "CHECKS", "PASS", "FAIL", "SKIP", "XFAIL", "WORST ERROR", "SECONDS"];

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for (machine, cases) in report.suites() {
        if let Some(problem) = &machine.problem {
            writeln!(out, "{}: cannot be used: {problem}\n", machine.id)?;
            continue;
        }
        writeln!(out, "{}, {} {}\n", machine.id, machine.driver, machine.driver_info)?;
        rows(out, &kernels(&cases))?;
        writeln!(out)?;
    }
    for case in &report.cases {
        failure(out, case)?;
    }
    skips(out, report)?;
    let count = |status| report.count(status);
    write!(out, "{} checks: {} passed", report.cases.len(), count(Status::Pass))?;
    for (number, what) in
        [(report.failures(), "failed"), (count(Status::Skip), "skipped"), (count(Status::Xfail), "failed as expected")]
    {
        if number > 0 {
            write!(out, ", {number} {what}")?;
        }
    }
    match report.cases.first() {
        Some(case) => writeln!(out, "; seed {}", case.seed),
        None => writeln!(out),
    }
}

/// A row for each kernel, in the order of the checks.
fn kernels(cases: &[&Record]) -> Vec<Vec<String>> {
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    let mut names: Vec<&str> = Vec::new();
    for case in cases {
        if !names.contains(&case.kernel.as_str()) {
            names.push(&case.kernel);
        }
    }
    for name in names {
        let own: Vec<_> = cases.iter().filter(|case| case.kernel == name).collect();
        let mut variants: Vec<_> = own.iter().map(|case| case.variant.as_str()).collect();
        variants.sort_unstable();
        variants.dedup();
        let count = |of: fn(Status) -> bool| own.iter().filter(|case| of(case.status)).count().to_string();
        let worst = own.iter().filter_map(|case| case.error).fold(0.0, f64::max);
        let seconds = own.iter().map(|case| case.ms / 1e3).sum::<f64>();
        rows.push(vec![
            name.into(),
            variants.len().to_string(),
            own.len().to_string(),
            count(|status| status == Status::Pass),
            count(Status::fails),
            count(|status| status == Status::Skip),
            count(|status| status == Status::Xfail),
            if worst > 0.0 { format!("{worst:.1e}") } else { "0".into() },
            format!("{seconds:.1}"),
        ]);
    }
    rows
}

/// The first column to the left, numbers to the right.
fn rows(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let width = |c: usize| rows.iter().map(|row| row[c].len()).max().unwrap_or(0);
    for row in rows {
        write!(out, "{:<1$}", row[0], width(0))?;
        for (c, cell) in row.iter().enumerate().skip(1) {
            write!(out, "  {cell:>0$}", width(c))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn failure(out: &mut dyn Write, case: &Record) -> io::Result<()> {
    let head = match case.status {
        Status::Fail => "FAIL",
        Status::Xpass => "XPASS",
        Status::Xfail => "XFAIL",
        Status::Pass | Status::Skip => return Ok(()),
    };
    writeln!(out, "{head} {}\n     on {}, seed {}", case.name, case.adapter, case.seed)?;
    writeln!(out, "     {}", case.reason.as_deref().unwrap_or_default())?;
    if let Some(repeat) = &case.repeat {
        writeln!(out, "     again: {repeat}")?;
    }
    writeln!(out)
}

/// How many were skipped for each reason.
fn skips(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for case in report.cases.iter().filter(|case| case.status == Status::Skip) {
        let reason = format!("{}: {}", case.adapter, case.reason.as_deref().unwrap_or_default());
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    for (reason, count) in reasons {
        writeln!(out, "skipped {count} on {reason}")?;
    }
    Ok(())
}
