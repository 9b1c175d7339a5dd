//! What was measured, as data; its file is JSON.

use std::{fs, path::Path};

use serde::Serialize;

use crate::{error::Result, host::Host, stats::Summary};

/// A whole run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where it ran.
    pub(crate) host: Host,
    /// What ran, in order.
    pub(crate) benchmarks: Vec<Benchmark>,
}

/// One benchmark.
#[derive(Debug, Serialize)]
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    /// Why it was not measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) cases: Vec<Case>,
}

/// How a benchmark went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Status {
    /// Everything required is met.
    Passed,
    /// Something required is missed.
    Missed,
    /// It was asked for, and could not be measured.
    CannotRun,
    /// It needs options that were not given, and was not asked for by name.
    NotAsked,
}

/// One thing that is measured, on one or more subjects.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The unit of the rows.
    pub(crate) unit: &'static str,
    pub(crate) rows: Vec<Row>,
    /// Purlin's samples in proportion to another's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) ratios: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) required: Vec<Requirement>,
}

/// The samples of one subject, or of one ratio.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: String,
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// A figure that may not be above a limit.
#[derive(Debug, Serialize)]
pub(crate) struct Requirement {
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) limit: f64,
    pub(crate) met: bool,
}

impl Case {
    /// A case with the samples of each subject.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str) -> Self {
        Self { name: name.into(), unit, ..Self::default() }
    }

    /// Adds a subject.
    pub(crate) fn row(mut self, subject: impl Into<String>, samples: &[f64]) -> Self {
        self.rows.push(Row { subject: subject.into(), summary: Summary::of(samples) });
        self
    }

    /// Adds a ratio, sample by sample, and what it may be at most in the median.
    pub(crate) fn ratio(self, subject: &str, ours: &[f64], theirs: &[f64], limit: f64) -> Self {
        let summary = Summary::of_ratio(ours, theirs);
        let mut case = self.at_most(format!("median {subject}"), summary.median, limit);
        case.ratios.push(Row { subject: subject.into(), summary });
        case
    }

    /// Adds a requirement.
    pub(crate) fn at_most(mut self, what: impl Into<String>, value: f64, limit: f64) -> Self {
        self.required.push(Requirement { what: what.into(), value, limit, met: value <= limit });
        self
    }
}

impl Benchmark {
    /// A benchmark that was measured.
    pub(crate) fn measured(name: &'static str, cases: Vec<Case>) -> Self {
        let met = cases.iter().flat_map(|case| &case.required).all(|required| required.met);
        let status = if met { Status::Passed } else { Status::Missed };
        Self { name, status, reason: None, cases }
    }

    /// One that was not.
    pub(crate) fn without(name: &'static str, status: Status, reason: String) -> Self {
        Self { name, status, reason: Some(reason), cases: Vec::new() }
    }
}

impl Report {
    /// Writes the report as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, text)?)
    }

    /// Whether all that was asked for was measured and is as required.
    pub(crate) fn passed(&self) -> bool {
        let fine = |of: &Benchmark| matches!(of.status, Status::Passed | Status::NotAsked);
        self.benchmarks.iter().all(fine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(benchmark: Benchmark) -> Report {
        Report { host: Host::default(), benchmarks: vec![benchmark] }
    }

    #[test]
    fn a_value_above_its_limit_is_missed() {
        let at =
            |value| Benchmark::measured("a", vec![Case::new("c", "ns").at_most("x", value, 1.0)]);
        assert_eq!(at(1.0).status, Status::Passed);
        assert_eq!(at(1.01).status, Status::Missed);
        assert!(!report(at(1.01)).passed());
    }

    #[test]
    fn a_ratio_that_is_no_number_is_missed() {
        let case = Case::new("c", "ns").ratio("a / b", &[0.0], &[0.0], 1.0);
        assert_eq!(Benchmark::measured("a", vec![case]).status, Status::Missed);
    }

    #[test]
    fn what_cannot_run_has_not_passed() {
        let without = |status| report(Benchmark::without("a", status, "why".into()));
        assert!(!without(Status::CannotRun).passed());
        assert!(without(Status::NotAsked).passed());
    }

    #[test]
    fn the_file_names_the_subject_beside_its_numbers() {
        let case = Case::new("c", "ns").row("purlin", &[1.0]);
        let json = serde_json::to_value(report(Benchmark::measured("a", vec![case]))).unwrap();
        let row = &json["benchmarks"][0]["cases"][0]["rows"][0];
        assert_eq!((row["subject"].as_str(), row["median"].as_f64()), (Some("purlin"), Some(1.0)));
        assert_eq!(json["benchmarks"][0]["status"], "passed");
    }
}
