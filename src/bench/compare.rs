//! Two runs side by side: what became slower.

use std::io::{self, Write};
use std::path::Path;

use serde::Deserialize;

use super::report::{Adapter, Report, number};
use crate::error::{Error, Result};

/// An earlier run's results, as far as they matter here.
#[derive(Clone, Debug, Deserialize)]
struct Old {
    schema: u32,
    adapter: OldAdapter,
    results: Vec<OldResult>,
}

#[derive(Clone, Debug, Deserialize)]
struct OldAdapter {
    name: String,
    backend: String,
    #[serde(default)]
    driver_info: String,
}

#[derive(Clone, Debug, Deserialize)]
struct OldResult {
    name: String,
    shape: Vec<usize>,
    variant: String,
    dtype: String,
    unit: String,
    value: f64,
}

/// One result now and before.
#[derive(Clone, Debug, PartialEq)]
pub struct Ratio {
    /// Name, shape, variant and type.
    pub what: String,
    /// Of both values.
    pub unit: String,
    /// Before.
    pub old: f64,
    /// Now.
    pub new: f64,
    /// How many times as fast it is now.
    pub ratio: f64,
}

/// An earlier run beside this one.
#[derive(Clone, Debug)]
pub struct Comparison {
    old: Old,
}

impl Comparison {
    /// Reads what `bench --out` wrote.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::File`] where it is no such file.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        Self::read(&bytes).map_err(|what| Error::file(path, what))
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let old: Old =
            serde_json::from_slice(bytes).map_err(|error| format!("not a report of `thalweg bench --out`: {error}"))?;
        if old.schema != 1 {
            return Err(format!("a report of schema {}, expected 1", old.schema));
        }
        match old.results.iter().find(|result| !(result.value.is_finite() && result.value > 0.0)) {
            Some(bad) => Err(format!("the value of {} {:?} is {}, which is no rate", bad.name, bad.shape, bad.value)),
            None => Ok(Comparison { old }),
        }
    }

    /// What both runs measured, in the order of the new one.
    pub fn ratios(&self, report: &Report) -> Vec<Ratio> {
        let mut ratios = Vec::new();
        for new in &report.results {
            let same = |old: &&OldResult| {
                (&old.name, &old.shape, &old.variant, &old.dtype, &old.unit)
                    == (&new.name, &new.shape, &new.variant, &new.dtype, &new.unit)
            };
            let Some(old) = self.old.results.iter().find(same) else { continue };
            let ratio = if lower_is_better(&new.unit) { old.value / new.value } else { new.value / old.value };
            let what = format!("{} {:?}, {}, {}", new.name, new.shape, new.variant, new.dtype);
            ratios.push(Ratio { what, unit: new.unit.clone(), old: old.value, new: new.value, ratio });
        }
        ratios
    }

    /// Why the two are not to be compared, where they are of different machines.
    pub fn other_machine(&self, adapter: &Adapter) -> Option<String> {
        let OldAdapter { name, backend, driver_info } = &self.old.adapter;
        let same = (name, backend, driver_info) == (&adapter.name, &adapter.backend, &adapter.driver_info);
        (!same).then(|| format!("the old figures are of {name} ({backend}) {driver_info}"))
    }

    /// Prints the ratios as a table, the worst first.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(&self, report: &Report, threshold: f64, out: &mut dyn Write) -> io::Result<()> {
        let mut ratios = self.ratios(report);
        ratios.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
        writeln!(out, "\n| result | old | new | unit | times as fast | |")?;
        writeln!(out, "|---|--:|--:|---|--:|---|")?;
        for r in &ratios {
            let (old, new) = (number(Some(r.old)), number(Some(r.new)));
            let slower = if r.is_slower(threshold) { "slower" } else { "" };
            writeln!(
                out,
                "| {} | {old} | {new} | {} | {:.2} | {slower} |",
                r.what.replace('|', "\\|"),
                r.unit,
                r.ratio
            )?;
        }
        let (both, all) = (ratios.len(), self.old.results.len());
        writeln!(out, "\n{both} of {} results now are among the {all} of the old run", report.results.len())
    }
}

impl Ratio {
    /// Whether it became slower by more than that share.
    pub fn is_slower(&self, threshold: f64) -> bool {
        self.ratio < 1.0 - threshold
    }
}

/// Whether a value of that unit is a time or a size, and no rate.
fn lower_is_better(unit: &str) -> bool {
    matches!(unit, "ms" | "s" | "µs" | "MiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    fn json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value = serde_json::to_value(sample()).unwrap();
        change(&mut value);
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn ratios_say_how_many_times_as_fast() {
        let old = Comparison::read(&json(|old| {
            old["results"][0]["value"] = 50.0.into();
            old["results"][1]["dtype"] = "f16".into();
            old["results"][2]["unit"] = "ms".into();
        }))
        .unwrap();
        let mut new = sample();
        new.results[2].unit = "ms".into();
        new.results[2].value *= 4.0;
        let ratios: Vec<_> = old.ratios(&new).iter().map(|r| r.ratio).collect();
        assert_eq!(ratios, [0.5, 0.25], "the second is of another type; a longer time is slower");
        assert!(old.ratios(&new)[0].is_slower(0.1) && !old.ratios(&new)[0].is_slower(0.5));
        assert_eq!(old.other_machine(&new.adapter), None);
        new.adapter.driver_info = "2.0".into();
        assert!(old.other_machine(&new.adapter).unwrap().contains("1.0"));
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |bytes: &[u8]| Comparison::read(bytes).unwrap_err();
        assert!(refused(b"{").contains("not a report"));
        assert!(refused(b"{\"schema\":1}").contains("adapter"));
        assert!(refused(&json(|old| old["schema"] = 2.into())).contains("schema 2"));
        assert!(refused(&json(|old| old["results"][0]["value"] = 0.into())).contains("no rate"));
    }
}
