//! All that was found.

use std::fmt;

use serde::Serialize;

use super::{Backend, Check, State};

/// All that was found. Shown as a table for people, serialized for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether a guest can run.
    pub can_run: bool,
    /// How this host's KVM runs guests.
    pub backend: Backend,
    /// The kernels that can boot, in words.
    pub kernels: String,
    /// What was looked at.
    pub checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(backend: Backend, checks: Vec<Check>) -> Self {
        let lacks = |check: &Check| check.required && check.state == State::Missing;
        let can_run = !checks.iter().any(lacks);
        let kernels = if can_run { backend.kernels() } else { Backend::Absent.kernels() }.into();
        Self { can_run, backend, kernels, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Capabilities that are there would hide what is not.
        let dull = |check: &&Check| check.name.starts_with("KVM_CAP_") && check.state == State::Ok;
        let capabilities = self.checks.iter().filter(dull).count();
        for check in self.checks.iter().filter(|check| !dull(check)) {
            let Check { name, state, found, purpose, remedy, .. } = check;
            writeln!(f, "{:<8} {name}: {found}", state.name())?;
            writeln!(f, "{:<8}   use: {purpose}", "")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<8}   get: {remedy}", "")?;
            }
        }
        if capabilities > 0 {
            writeln!(f, "{:<8} {capabilities} more KVM capabilities (--json lists them)", "ok")?;
        }
        let verdict = if self.can_run { "Guests can run here." } else { "No guest can run here." };
        writeln!(f, "\n{verdict}\nThis host: {}.", self.backend.describe())?;
        writeln!(f, "Kernels that can boot: {}.", self.kernels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{examine, fake::Fake};

    #[test]
    fn a_host_without_anything_can_run_nothing() {
        let report = examine(&Fake::new().host());
        assert!(!report.can_run);
        assert_eq!(report.kernels, "none");
        assert!(report.to_string().contains("No guest can run here."));
    }

    #[test]
    fn what_is_missing_but_not_required_stops_no_guest() {
        let missing = Check::ok("tap", "networks", "not there").but(State::Missing, "load tun");
        assert!(Report::new(Backend::Hardware, vec![missing.clone()]).can_run);
        assert!(!Report::new(Backend::Hardware, vec![missing.required()]).can_run);
    }

    #[test]
    fn the_table_tells_purpose_and_remedy() {
        let missing = Check::ok("tap", "networks", "not there").but(State::Missing, "load tun");
        let table = Report::new(Backend::Hardware, vec![missing]).to_string();
        assert!(table.starts_with(
            "missing  tap: not there\n           use: networks\n           get: load tun\n"
        ));
    }

    #[test]
    fn capabilities_that_are_there_are_counted_and_those_that_are_not_are_named() {
        let there = Check::ok("KVM_CAP_A", "gives", "value 1");
        let lacking = Check::ok("KVM_CAP_B", "takes", "value 0").but(State::Warning, "newer");
        let table = Report::new(Backend::Hardware, vec![there, lacking]).to_string();
        assert!(!table.contains("KVM_CAP_A") && table.contains("KVM_CAP_B"));
        assert!(table.contains("ok       1 more KVM capabilities"));
    }

    #[test]
    fn programs_get_every_check() {
        let report = Report::new(Backend::Pvm, vec![Check::ok("a", "b", "c")]);
        let json = serde_json::to_value(report).unwrap();
        assert_eq!(json["backend"], "pvm");
        assert_eq!(json["can_run"], true);
        assert_eq!(json["checks"][0]["state"], "ok");
        assert_eq!(json["checks"][0]["name"], "a");
    }
}
