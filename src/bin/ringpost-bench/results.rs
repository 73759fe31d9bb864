//! `Results`: what a report has measured, as `report.json` has it.

use std::path::Path;

use ringpost::cli::exit::Failure;
use ringpost::cli::out::json_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::machine::Machine;

/// The measurements of a report, and what they were made on.
#[derive(Serialize, Deserialize)]
pub struct Results {
    pub version: String,
    pub machine: Machine,
    /// Whether only a few blocks were measured.
    pub quick: bool,
    pub measurements: Vec<Ran>,
    /// The comparison with other systems, as `benches/peers` prints it.
    pub peers: Option<Value>,
}

/// One measurement.
#[derive(Serialize, Deserialize)]
pub struct Ran {
    pub name: String,
    /// The command line.
    pub command: String,
    /// When it began, as a date and a time.
    pub began: String,
    pub seconds: f64,
    /// The lines that it wrote to stderr.
    pub notes: Vec<String>,
    /// The object that it printed; null if it failed.
    pub found: Value,
    /// Why it failed.
    pub failure: Option<String>,
}

impl Results {
    /// Reads a `report.json`. The reason for a failure names the file.
    pub fn read(path: &Path) -> Result<Results, Failure> {
        let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        serde_json::from_str(&text)
            .map_err(|error| wrong(format!("this is not the report.json of a report: {error}")))
    }

    /// The text of `report.json`: a line for each measurement, so that two of them can be compared.
    pub fn text(&self) -> Result<String, Failure> {
        let lines: Vec<String> = self.measurements.iter().map(json_text).collect::<Result<_, _>>()?;
        Ok(format!(
            "{{\n\"version\": {},\n\"machine\": {},\n\"quick\": {},\n\"measurements\": [\n{}\n],\n\"peers\": {}\n}}\n",
            json_text(&self.version)?,
            json_text(&self.machine)?,
            self.quick,
            lines.join(",\n"),
            json_text(&self.peers)?,
        ))
    }

    /// Takes a measurement out, if it was made.
    pub fn take(&mut self, name: &str) -> Option<Ran> {
        let at = self.measurements.iter().position(|ran| ran.name == name)?;
        Some(self.measurements.remove(at))
    }

    pub fn ran(&self, name: &str) -> Option<&Ran> {
        self.measurements.iter().find(|ran| ran.name == name)
    }

    /// What a measurement found, if it was made and did not fail.
    pub fn found(&self, name: &str) -> Option<&Value> {
        Some(&self.ran(name)?.found).filter(|found| found.is_object())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_text_has_a_line_for_each_measurement_and_is_read_again() {
        let ran = |name: &str, found| Ran {
            name: name.into(),
            command: format!("ringpost-bench {name}"),
            began: "2026-11-29 02:26 UTC".into(),
            seconds: 0.5,
            notes: vec!["a\u{85}note".into()],
            found,
            failure: None,
        };
        let results = Results {
            version: "0".into(),
            machine: Machine::look(),
            quick: false,
            measurements: vec![ran("latency", json!({"a": [1.5]})), ran("wakeup", Value::Null)],
            peers: None,
        };
        let text = results.text().unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("\"command\"")).count(), 2, "{text}");
        let read: Results = serde_json::from_str(&text).unwrap();
        assert_eq!((read.found("latency"), read.found("wakeup")), (Some(&json!({"a": [1.5]})), None));
        assert_eq!(read.text().unwrap(), text);
    }
}
