//! TAP 14: a line a check, and for failures a block of YAML.

use std::io::{self, Write};

use super::Report;
use crate::check::runner::Status;

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let unusable: Vec<_> = report.adapters.iter().filter_map(|m| m.problem.as_ref().map(|why| (&m.id, why))).collect();
    writeln!(out, "TAP version 14\n1..{}", report.cases.len() + unusable.len())?;
    for (case, number) in report.cases.iter().zip(1..) {
        let name = escaped(&format!("{}: {}", case.adapter, case.name));
        let reason = case.reason.as_deref().unwrap_or_default();
        match case.status {
            Status::Pass => writeln!(out, "ok {number} - {name}")?,
            Status::Skip => writeln!(out, "ok {number} - {name} # SKIP {}", escaped(reason))?,
            Status::Xfail => writeln!(out, "not ok {number} - {name} # TODO {}", escaped(reason))?,
            // a TODO that passes is green in TAP, and here it is not
            Status::Fail | Status::Xpass => {
                writeln!(out, "not ok {number} - {name}\n  ---")?;
                // a JSON string is one of YAML
                writeln!(out, "  message: {}", serde_json::to_string(reason)?)?;
                writeln!(out, "  seed: {}", case.seed)?;
                let repeat = case.repeat.as_deref().unwrap_or_default();
                writeln!(out, "  repeat: {}\n  ...", serde_json::to_string(repeat)?)?;
            }
        }
    }
    for ((id, why), number) in unusable.iter().zip(report.cases.len() + 1..) {
        writeln!(out, "ok {number} - {} # SKIP {}", escaped(id), escaped(why))?;
    }
    Ok(())
}

/// On one line, and no directive.
fn escaped(text: &str) -> String {
    let one_line = text.replace(char::is_control, "\u{fffd}");
    one_line.replace('\\', "\\\\").replace('#', "\\#")
}
