//! What is known to fail, where, and why: plain data, so that a run is green with it and red when it passes again.

use serde::Deserialize;

use super::runner::Machine;

/// A check that is known to fail on some adapters. Each pattern is a part of what it is compared with; empty fits all.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// A part of the adapter's name.
    #[serde(default)]
    pub adapter: String,
    /// The backend.
    #[serde(default)]
    pub backend: String,
    /// A part of the driver's name and version.
    #[serde(default)]
    pub driver: String,
    /// A part of the check's name.
    pub check: String,
    /// One sentence.
    pub reason: String,
    /// Where it was reported.
    pub link: String,
}

/// The project's own.
const OWN: &str = include_str!("expected.json");

impl Expectation {
    /// What the project knows of.
    pub fn own() -> Vec<Expectation> {
        // a test reads the file
        Self::read(OWN).unwrap_or_default()
    }

    /// Reads a list: JSON, an array of objects.
    ///
    /// # Errors
    /// Where and why the text is none.
    pub fn read(text: &str) -> Result<Vec<Expectation>, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Whether it is about that check on that adapter.
    pub fn fits(&self, machine: &Machine, check: &str) -> bool {
        let driver = format!("{} {}", machine.driver, machine.driver_info);
        machine.name.contains(&self.adapter)
            && (self.backend.is_empty() || machine.backend == self.backend)
            && driver.contains(&self.driver)
            && check.contains(&self.check)
    }
}

impl std::fmt::Display for Expectation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.reason, self.link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_list_can_be_read() {
        for known in Expectation::read(OWN).unwrap() {
            assert!(!known.reason.is_empty() && known.link.starts_with("https://"), "{known:?}");
        }
    }
}
