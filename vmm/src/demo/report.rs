//! What happened, told from both sides, for a reader who sees KVM at work for the first time.

use std::{fmt, time::Duration};

use trace::Row;

use super::Exits;
use crate::doctor::Backend;

/// What happened in a run of the demo. Its `Display` is the whole story as text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// What kind of KVM this host has.
    pub backend: Backend,
    /// Bytes of machine code that the guest consists of.
    pub code: usize,
    /// The guest's view: what it printed.
    pub console: String,
    /// The monitor's view: the exits that it answered.
    pub exits: Vec<Exits>,
    /// The stays in the guest between exits.
    pub stays: Option<Row>,
    /// When things happened.
    pub times: Times,
}

/// When things happened, from the start of the run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Times {
    /// The virtual machine and its RAM were there.
    pub made: Duration,
    /// Devices, program and vCPU were ready, and the guest was entered.
    pub entered: Duration,
    /// The guest's first byte came out of the serial port.
    pub first_byte: Option<Duration>,
    /// The guest had powered off.
    pub stopped: Duration,
}

impl Report {
    /// How many exits there were.
    pub fn count(&self) -> usize {
        self.exits.iter().map(|exits| exits.row.count).sum()
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, total) = (self.code, millis(self.times.stopped));
        writeln!(
            f,
            "A guest of {code} bytes of machine code started, worked and powered off in {total} ms."
        )?;
        writeln!(f, "This host has {}:", self.backend.describe())?;
        f.write_str(match self.backend {
            Backend::Hardware | Backend::Nested => "the processor itself runs the guest's code.\n",
            Backend::Pvm => {
                "the host's kernel runs this guest's code, instruction by instruction.\n"
            }
            _ => "how it runs the guest's code is its own affair.\n",
        })
    }

    fn guest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nWhat the guest said, byte by byte through its serial port:\n")?;
        self.console.lines().try_for_each(|line| writeln!(f, "    guest| {line}"))
    }

    fn monitor(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.count();
        writeln!(f, "\nWhat the monitor (this process) saw: {count} exits.")?;
        f.write_str(
            "KVM runs the guest until it touches something that only the monitor can answer for.\n\
             That is an exit; the monitor plays the device, and the guest goes on.\n\n",
        )?;
        heading(f)?;
        for Exits { touched, row } in &self.exits {
            line(f, row.kind.name(), touched, row)?;
        }
        writeln!(f, "\nThe times are how long the monitor took to answer.")
    }

    fn between(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(stays) = self.stays else { return Ok(()) };
        let (median, max, total) = (time(stays.median), time(stays.max), time(stays.total));
        writeln!(
            f,
            "\nBetween exits the processor belonged to the guest and KVM: {total} in all."
        )?;
        writeln!(
            f,
            "Half of these stays took {median} or less: a few instructions, and the way into"
        )?;
        writeln!(
            f,
            "the guest and out again, so about what an exit costs here. The longest, {max},"
        )?;
        f.write_str(
            "is where the guest slept until ten timer interrupts had come. None of them made an\n\
             exit: timer and interrupt controller are devices that KVM itself plays.\n",
        )
    }

    fn when(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = &self.times;
        let mut line = |at: Duration, what: &str| writeln!(f, "    {:>9} ms  {what}", millis(at));
        line(Duration::ZERO, "the monitor asks for a virtual machine")?;
        line(times.made, "the machine has RAM")?;
        line(times.entered, "it has devices, a program and a vCPU; the guest is entered")?;
        if let Some(first) = times.first_byte {
            line(first, "the guest's first byte comes out of the serial port")?;
        }
        line(times.stopped, "the guest has powered off")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.summary(f)?;
        self.guest(f)?;
        self.monitor(f)?;
        self.between(f)?;
        writeln!(f, "\nWhen:\n")?;
        self.when(f)
    }
}

fn heading(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "    {:<11} {:<26} {:>6} {:>9} {:>9} {:>9}",
        "exit", "the guest touched", "count", "median", "max", "total"
    )
}

fn line(f: &mut fmt::Formatter<'_>, kind: &str, touched: &str, row: &Row) -> fmt::Result {
    let (median, max, total) = (time(row.median), time(row.max), time(row.total));
    let count = row.count;
    writeln!(f, "    {kind:<11} {touched:<26} {count:>6} {median:>9} {max:>9} {total:>9}")
}

/// Nanoseconds in the unit that suits them.
fn time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{}.{} µs", nanos / 1_000, nanos % 1_000 / 100),
        _ => format!("{}.{} ms", nanos / 1_000_000, nanos % 1_000_000 / 100_000),
    }
}

/// Milliseconds with one decimal.
fn millis(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{}", micros / 1_000, micros % 1_000 / 100)
}

#[cfg(test)]
mod tests {
    use trace::Kind;

    use super::*;

    #[test]
    fn the_report_tells_both_sides() {
        let row =
            |kind, count| Row { kind, count, min: 1, median: 900, max: 12_300, total: 45_600_000 };
        let report = Report {
            backend: Backend::Hardware,
            code: 505,
            console: "hello\n10 ticks\n".to_owned(),
            exits: vec![Exits { touched: "serial port, data", row: row(Kind::PioOut, 14) }],
            stays: Some(row(Kind::Guest, 15)),
            times: Times {
                made: Duration::from_micros(1_250),
                entered: Duration::from_micros(2_000),
                first_byte: Some(Duration::from_micros(2_345)),
                stopped: Duration::from_millis(150),
            },
        };
        let text = report.to_string();
        assert!(text.contains("in 150.0 ms.\nThis host has KVM on the processor"), "{text}");
        assert!(text.contains("    guest| hello\n    guest| 10 ticks\n"), "{text}");
        assert!(text.contains("saw: 14 exits"), "{text}");
        let line =
            "    port out    serial port, data              14    900 ns   12.3 µs   45.6 ms\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("          2.3 ms  the guest's first byte"), "{text}");
    }

    #[test]
    fn times_are_given_in_the_unit_that_suits_them() {
        assert_eq!([time(999), time(1_050), time(999_999)], ["999 ns", "1.0 µs", "999.9 µs"]);
        assert_eq!(time(2_000_000_000), "2000.0 ms");
        assert_eq!(millis(Duration::from_micros(50)), "0.0");
    }
}
