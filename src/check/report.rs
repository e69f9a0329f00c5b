//! What came of a run, and its forms: a table for people; JSON, JUnit's XML and TAP for programs.

mod junit;
mod table;
mod tap;

use std::io::{self, Write};

use serde::Serialize;

use super::runner::{Machine, Record, Status};

/// What came of a run on some adapters.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// The adapters that were chosen.
    pub adapters: Vec<Machine>,
    /// Every check on every one of them that could be used.
    pub cases: Vec<Record>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people: a line a kernel, then what is wrong.
    Table,
    /// One object, schema 1.
    Json,
    /// JUnit's XML: a test suite an adapter.
    Junit,
    /// TAP 14.
    Tap,
}

impl Format {
    /// By the end of a file's name.
    pub fn of_file(name: &str) -> Option<Format> {
        let formats = [(".json", Format::Json), (".xml", Format::Junit), (".tap", Format::Tap)];
        formats.into_iter().find(|(end, _)| name.to_lowercase().ends_with(end)).map(|(_, format)| format)
    }
}

impl Report {
    /// A report without any check.
    pub fn new(adapters: Vec<Machine>) -> Self {
        Report { schema: 1, adapters, cases: Vec::new() }
    }

    /// How many checks have that status.
    pub fn count(&self, status: Status) -> usize {
        self.cases.iter().filter(|case| case.status == status).count()
    }

    /// How many make the run red.
    pub fn failures(&self) -> usize {
        self.cases.iter().filter(|case| case.status.fails()).count()
    }

    /// Writes it.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, format: Format, out: &mut dyn Write) -> io::Result<()> {
        match format {
            Format::Table => table::write(self, out),
            Format::Junit => junit::write(self, out),
            Format::Tap => tap::write(self, out),
            Format::Json => {
                serde_json::to_writer(&mut *out, self)?;
                writeln!(out)
            }
        }
    }

    /// The adapters with their checks.
    fn suites(&self) -> impl Iterator<Item = (&Machine, Vec<&Record>)> {
        self.adapters.iter().map(|machine| {
            let own = self.cases.iter().filter(|case| case.adapter == machine.id);
            (machine, own.collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One check of each status on one adapter, and an adapter that cannot be used.
    pub fn sample() -> Report {
        let machine = |id: &str, usable: bool| Machine {
            id: id.into(),
            index: Some(0),
            name: "A & B \"<GPU>\"".into(),
            backend: "vulkan".into(),
            driver: "driver".into(),
            driver_info: "1.0".into(),
            usable,
            problem: (!usable).then(|| "no limits".into()),
        };
        let record = |name: &str, status: Status, reason: Option<&str>| Record {
            name: name.into(),
            adapter: "0: A & B".into(),
            kernel: "matmul".into(),
            variant: "matmul[plain]".into(),
            status,
            reason: reason.map(String::from),
            error: (status == Status::Pass).then_some(1e-7),
            tolerance: 5e-6,
            seed: 7,
            ms: 1.5,
            repeat: status.fails().then(|| format!("thalweg check --seed 7 --filter '{name}'")),
        };
        let mut report = Report::new(vec![machine("0: A & B", true), machine("1: broken", false)]);
        report.cases = vec![
            record("a [1,2]x[2,3]", Status::Pass, None),
            record("b <&>\u{1}", Status::Fail, Some("1 instead of \"2\"\n& more")),
            record("c # d", Status::Skip, Some("the adapter has no subgroup")),
            record("e", Status::Xfail, Some("a bug (https://example.org)")),
            record("f", Status::Xpass, Some("expected to fail: a bug (https://example.org)")),
        ];
        report
    }

    fn text(format: Format) -> String {
        let mut out = Vec::new();
        sample().write(format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_fixed_keys() {
        let value: serde_json::Value = serde_json::from_str(&text(Format::Json)).unwrap();
        assert_eq!(value["schema"], 1);
        assert_eq!(value["adapters"].as_array().unwrap().len(), 2);
        let statuses: Vec<_> = value["cases"].as_array().unwrap().iter().map(|c| c["status"].clone()).collect();
        assert_eq!(statuses, ["pass", "fail", "skip", "xfail", "xpass"]);
        for case in value["cases"].as_array().unwrap() {
            for key in ["name", "adapter", "kernel", "variant", "status", "reason", "error", "tolerance", "seed", "ms"]
            {
                assert!(case.get(key).is_some(), "{key}: {case}");
            }
        }
    }

    #[test]
    fn junit_counts_and_escapes() {
        let xml = text(Format::Junit);
        assert!(xml.starts_with("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites"), "{xml}");
        assert!(xml.contains("tests=\"5\" failures=\"2\" skipped=\"2\""), "{xml}");
        assert!(xml.contains("name=\"b &lt;&amp;&gt;\u{fffd}\""), "{xml}");
        assert!(xml.contains("1 instead of &quot;2&quot;&#10;&amp; more"), "{xml}");
        assert!(xml.contains("<error message=\"no limits\""), "{xml}");
        assert!(!xml.contains('\u{1}'));
    }

    #[test]
    fn tap_is_version_14() {
        let tap = text(Format::Tap);
        let lines: Vec<_> = tap.lines().collect();
        assert_eq!(lines[..2], ["TAP version 14", "1..6"]);
        assert_eq!(lines[2], "ok 1 - 0: A & B: a [1,2]x[2,3]");
        assert!(tap.contains("\nnot ok 2 - 0: A & B: b <&>\u{fffd}\n  ---\n  message: \"1 instead of"), "{tap}");
        assert!(tap.contains("\nok 3 - 0: A & B: c \\# d # SKIP the adapter has no subgroup\n"), "{tap}");
        assert!(tap.contains("\nnot ok 4 - 0: A & B: e # TODO a bug"), "{tap}");
        // a TODO that passes would be green
        assert!(tap.contains("\nnot ok 5 - 0: A & B: f\n"), "{tap}");
        assert!(tap.contains("\nok 6 - 1: broken # SKIP no limits\n"), "{tap}");
    }

    #[test]
    fn the_table_names_failures_and_how_to_repeat_them() {
        let table = text(Format::Table);
        assert!(table.contains("5 checks: 1 passed, 2 failed, 1 skipped, 1 failed as expected"), "{table}");
        assert!(table.contains("again: thalweg check --seed 7 --filter 'f'"), "{table}");
        assert!(table.contains("1: broken: cannot be used: no limits"), "{table}");
    }
}
