//! The report as a table for people.

use std::fmt;

use crate::{
    report::{Benchmark, Case, Report, Row, Status},
    stats::Summary,
};

/// Shows a report.
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = &self.0.host;
        writeln!(f, "host    Linux {}, {} x {}", host.kernel, host.cpus, host.cpu)?;
        writeln!(f, "        virtualization: {}; load {}", host.virtualization, host.load)?;
        self.0.benchmarks.iter().try_for_each(|of| benchmark(f, of))
    }
}

fn benchmark(f: &mut fmt::Formatter<'_>, of: &Benchmark) -> fmt::Result {
    let status = match of.status {
        Status::Passed => "passed",
        Status::Missed => "MISSED",
        Status::CannotRun => "CANNOT RUN",
        Status::NotAsked => "not run",
    };
    match &of.reason {
        Some(reason) => writeln!(f, "\n{}: {status}: {reason}", of.name),
        None => writeln!(f, "\n{}: {status}", of.name),
    }?;
    of.cases.iter().try_for_each(|of| case(f, of))
}

fn case(f: &mut fmt::Formatter<'_>, case: &Case) -> fmt::Result {
    let name = format!("{}, {}", case.name, case.unit);
    writeln!(
        f,
        "  {name:<34}{:>6}{:>10}{:>10}{:>10}{:>10}{:>10}{:>9}",
        "n", "min", "quarter", "median", "3/4", "max", "mad"
    )?;
    for Row { subject, summary } in case.rows.iter().chain(&case.ratios) {
        let Summary { count, min, lower_quartile, median, upper_quartile, max, deviation } =
            summary;
        let [min, lower, median, upper, max, mad] =
            [min, lower_quartile, median, upper_quartile, max, deviation].map(|n| number(*n));
        writeln!(
            f,
            "    {subject:<32}{count:>6}{min:>10}{lower:>10}{median:>10}{upper:>10}{max:>10}{mad:>9}"
        )?;
    }
    for required in &case.required {
        let sign = if required.met { "ok    " } else { "MISSED" };
        let (value, limit) = (number(required.value), number(required.limit));
        writeln!(f, "    {sign} {}: {value}, at most {limit}", required.what)?;
    }
    Ok(())
}

/// About four digits that count.
fn number(number: f64) -> String {
    match number.abs() {
        size if size >= 1000.0 => format!("{number:.0}"),
        size if size >= 100.0 => format!("{number:.1}"),
        size if size >= 10.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn a_missed_requirement_and_its_numbers_are_shown() {
        let case = Case::new("port out", "ns").row("floor", &[20000.0]).ratio(
            "purlin / floor",
            &[2.0],
            &[1.0],
            1.05,
        );
        let benchmarks = vec![Benchmark::measured("exit", vec![case])];
        let text = Table(&Report { host: Host::default(), benchmarks }).to_string();
        assert!(text.contains("exit: MISSED"), "{text}");
        assert!(text.contains("MISSED median purlin / floor: 2.000, at most 1.050"), "{text}");
        assert!(text.contains("20000"), "{text}");
    }

    #[test]
    fn a_benchmark_that_cannot_run_is_named_with_the_reason() {
        let benchmarks = vec![Benchmark::without("exit", Status::CannotRun, "no /dev/kvm".into())];
        let text = Table(&Report { host: Host::default(), benchmarks }).to_string();
        assert!(text.contains("exit: CANNOT RUN: no /dev/kvm"), "{text}");
    }
}
