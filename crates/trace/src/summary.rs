//! Counts and times by kind.

use std::collections::BTreeMap;

use crate::{Event, Kind, Track};

/// The events of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The kind.
    pub kind: Kind,
    /// How many there were.
    pub count: usize,
    /// The quickest, nanoseconds.
    pub min: u64,
    /// The median (of two middle ones, the upper), nanoseconds.
    pub median: u64,
    /// The slowest, nanoseconds.
    pub max: u64,
    /// All together, nanoseconds.
    pub total: u64,
}

/// One row for each kind that `tracks` hold, in the order of the kinds.
pub fn summary(tracks: &[Track]) -> Vec<Row> {
    let mut times: BTreeMap<Kind, Vec<u64>> = BTreeMap::new();
    for Event { kind, took, .. } in tracks.iter().flat_map(|track| &track.events) {
        times.entry(*kind).or_default().push(*took);
    }
    times.into_iter().filter_map(|(kind, times)| row(kind, times)).collect()
}

fn row(kind: Kind, mut times: Vec<u64>) -> Option<Row> {
    times.sort_unstable();
    Some(Row {
        kind,
        count: times.len(),
        min: *times.first()?,
        median: *times.get(times.len() / 2)?,
        max: *times.last()?,
        total: times.iter().fold(0, |sum: u64, took| sum.saturating_add(*took)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_count_and_times_of_its_kind_over_all_threads() {
        let event = |kind, took| Event { kind, at: 0, took, value: 0 };
        let track = |events| Track { events, ..Track::default() };
        let tracks = [
            track(vec![event(Kind::PioOut, 30), event(Kind::Guest, 5)]),
            track(vec![event(Kind::PioOut, 10), event(Kind::PioOut, 20)]),
        ];
        let rows = summary(&tracks);
        let guest = Row { kind: Kind::Guest, count: 1, min: 5, median: 5, max: 5, total: 5 };
        let out = Row { kind: Kind::PioOut, count: 3, min: 10, median: 20, max: 30, total: 60 };
        assert_eq!(rows, [guest, out]);
    }
}
