//! The run's exits, counted and timed by what the guest touched.

use std::collections::BTreeMap;

use trace::{Event, Kind, Row, Track};

/// The exits of one kind to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exits {
    /// What the guest touched, in words.
    pub touched: &'static str,
    /// The kind of exit, how many there were, and how long the monitor took to answer.
    pub row: Row,
}

/// The exits that `tracks` hold, and the stays in the guest between them.
pub(super) fn of(tracks: &[Track]) -> (Vec<Exits>, Option<Row>) {
    let vcpu = tracks.iter().filter(|track| track.thread == "vcpu0");
    let mut stays = Vec::new();
    let mut groups: BTreeMap<(Kind, &'static str), Vec<Event>> = BTreeMap::new();
    for event in vcpu.flat_map(|track| &track.events) {
        match event.kind {
            Kind::Guest => stays.push(*event),
            kind => groups.entry((kind, place(kind, event.value))).or_default().push(*event),
        }
    }
    let exits = groups
        .into_iter()
        .filter_map(|((_, touched), events)| row(events).map(|row| Exits { touched, row }));
    (exits.collect(), row(stays))
}

/// One row for events of one kind.
fn row(events: Vec<Event>) -> Option<Row> {
    trace::summary(&[Track { events, ..Track::default() }]).first().copied()
}

/// What is there, in the demo's machine.
fn place(kind: Kind, value: u64) -> &'static str {
    match (kind, value) {
        (Kind::PioIn | Kind::PioOut, 0x3f8) => "serial port, data",
        (Kind::PioIn | Kind::PioOut, 0x3fd) => "serial port, line status",
        (Kind::PioIn | Kind::PioOut, 0x3f9..=0x3ff) => "serial port, settings",
        (Kind::PioIn | Kind::PioOut, 0x70) => "clock, register number",
        (Kind::PioIn | Kind::PioOut, 0x71) => "clock, value",
        (Kind::PioIn | Kind::PioOut, 0x600..=0x60f) => "ACPI power control",
        (Kind::MmioRead | Kind::MmioWrite, super::COUNTER) => "counter, the demo's device",
        (Kind::PioIn | Kind::PioOut | Kind::MmioRead | Kind::MmioWrite, _) => {
            "nothing that is there"
        }
        _ => "nothing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(thread: &str, events: &[(Kind, u64, u64)]) -> Track {
        let event = |&(kind, value, took)| Event { kind, at: 0, took, value };
        Track { thread: thread.to_owned(), events: events.iter().map(event).collect(), lost: 0 }
    }

    #[test]
    fn exits_are_grouped_by_kind_and_place() {
        let track = track(
            "vcpu0",
            &[
                (Kind::PioOut, 0x3f8, 10),
                (Kind::Guest, 0, 7),
                (Kind::PioIn, 0x3fd, 4),
                (Kind::PioOut, 0x3f8, 30),
                (Kind::PioOut, 0x70, 5),
            ],
        );
        let (exits, stays) = of(&[track]);
        let counts: Vec<_> = exits.iter().map(|e| (e.touched, e.row.count, e.row.total)).collect();
        assert_eq!(
            counts,
            [
                ("serial port, line status", 1, 4),
                ("clock, register number", 1, 5),
                ("serial port, data", 2, 40),
            ]
        );
        assert_eq!(stays.map(|row| (row.count, row.total)), Some((1, 7)));
    }

    #[test]
    fn what_other_threads_did_is_not_counted() {
        let (exits, stays) = of(&[track("io0", &[(Kind::Interrupt, 4, 1)])]);
        assert_eq!((exits, stays), (vec![], None));
    }
}
