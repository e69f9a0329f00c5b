//! JUnit's XML as CI systems read it: a test suite an adapter, a test case a check. An expected failure is skipped, with
//! its reason; an unexpected pass is a failure.

use std::io::{self, Write};

use super::Report;
use crate::check::runner::{Machine, Record, Status};

pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    let skipped = report.count(Status::Skip) + report.count(Status::Xfail);
    let unusable = report.adapters.iter().filter(|machine| !machine.usable).count();
    let (tests, failures) = (report.cases.len(), report.failures());
    let time = seconds(&mut report.cases.iter());
    writeln!(
        out,
        r#"<testsuites name="thalweg check" tests="{tests}" failures="{failures}" skipped="{skipped}" errors="{unusable}" time="{time}">"#
    )?;
    for (machine, cases) in report.suites() {
        suite(out, machine, &cases)?;
    }
    writeln!(out, "</testsuites>")
}

fn suite(out: &mut dyn Write, machine: &Machine, cases: &[&Record]) -> io::Result<()> {
    let count = |of: fn(Status) -> bool| cases.iter().filter(|case| of(case.status)).count();
    let failures = count(Status::fails);
    let skipped = count(|status| matches!(status, Status::Skip | Status::Xfail));
    let errors = u8::from(!machine.usable);
    let (name, tests, time) =
        (escaped(&machine.id), cases.len() + usize::from(errors), seconds(&mut cases.iter().copied()));
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" skipped="{skipped}" errors="{errors}" time="{time}">"#
    )?;
    writeln!(out, "    <properties>")?;
    let seed = cases.first().map_or(String::new(), |case| case.seed.to_string());
    let driver = format!("{} {}", machine.driver, machine.driver_info);
    for (key, value) in [("backend", &machine.backend), ("driver", &driver), ("seed", &seed)] {
        writeln!(out, r#"      <property name="{key}" value="{}"/>"#, escaped(value))?;
    }
    writeln!(out, "    </properties>")?;
    if let Some(problem) = &machine.problem {
        writeln!(out, r#"    <testcase classname="adapter" name="{name}" time="0">"#)?;
        writeln!(out, r#"      <error message="{}"/>"#, escaped(problem))?;
        writeln!(out, "    </testcase>")?;
    }
    for case in cases {
        testcase(out, case)?;
    }
    writeln!(out, "  </testsuite>")
}

fn testcase(out: &mut dyn Write, case: &Record) -> io::Result<()> {
    let (kernel, name, time) = (escaped(&case.kernel), escaped(&case.name), case.ms / 1e3);
    let start = format!(r#"    <testcase classname="{kernel}" name="{name}" time="{time}""#);
    let reason = escaped(case.reason.as_deref().unwrap_or_default());
    match case.status {
        Status::Pass => writeln!(out, "{start}/>"),
        Status::Skip => writeln!(out, "{start}>\n      <skipped message=\"{reason}\"/>\n    </testcase>"),
        Status::Xfail => {
            writeln!(out, "{start}>\n      <skipped message=\"expected failure: {reason}\"/>\n    </testcase>")
        }
        Status::Fail | Status::Xpass => {
            let repeat = escaped(case.repeat.as_deref().unwrap_or_default());
            let kind = if case.status == Status::Fail { "wrong" } else { "unexpected pass" };
            writeln!(out, "{start}>")?;
            writeln!(out, "      <failure type=\"{kind}\" message=\"{reason}\">{repeat}</failure>\n    </testcase>")
        }
    }
}

fn seconds(cases: &mut dyn Iterator<Item = &Record>) -> String {
    format!("{:.3}", cases.map(|case| case.ms / 1e3).sum::<f64>())
}

/// For an attribute or an element. Control characters cannot be written in XML, not even escaped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
