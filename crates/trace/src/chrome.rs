//! Trace files that chrome://tracing and Perfetto read.

use std::io::{self, Write};

use crate::Track;

/// Writes `tracks` in the Chrome trace event format: one complete event (`"ph":"X"`) for each event,
/// times in microseconds, one row per thread.
///
/// # Errors
/// Those of `out`.
pub fn write_chrome(tracks: &[Track], mut out: impl Write) -> io::Result<()> {
    write!(out, "{{\"traceEvents\":[")?;
    let mut separator = "\n";
    for (thread, track) in tracks.iter().enumerate() {
        write!(out, "{separator}")?;
        write!(out, "{{\"ph\":\"M\",\"pid\":1,\"tid\":{thread},\"name\":\"thread_name\",")?;
        write!(out, "\"args\":{{\"name\":\"{}\"}}}}", escaped(&track.thread))?;
        separator = ",\n";
        for event in &track.events {
            let (name, value) = (event.kind.name(), event.value);
            write!(
                out,
                "{separator}{{\"ph\":\"X\",\"pid\":1,\"tid\":{thread},\"name\":\"{name}\","
            )?;
            write!(out, "\"ts\":{},\"dur\":{},", micros(event.at), micros(event.took))?;
            write!(out, "\"args\":{{\"value\":\"{value:#x}\"}}}}")?;
        }
    }
    writeln!(out, "\n]}}")?;
    out.flush()
}

fn micros(nanos: u64) -> String {
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

/// Thread names hold what their makers put there.
fn escaped(name: &str) -> String {
    name.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Kind};

    #[test]
    fn a_track_becomes_a_named_row_with_its_events() {
        let event = Event { kind: Kind::PioIn, at: 1500, took: 250, value: 0x3f8 };
        let track = Track { thread: "vcpu\"0".to_owned(), events: vec![event], lost: 0 };
        let mut out = Vec::new();
        write_chrome(&[track], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"traceEvents\":[\n\
             {\"ph\":\"M\",\"pid\":1,\"tid\":0,\"name\":\"thread_name\",\
             \"args\":{\"name\":\"vcpu0\"}},\n\
             {\"ph\":\"X\",\"pid\":1,\"tid\":0,\"name\":\"port in\",\
             \"ts\":1.500,\"dur\":0.250,\"args\":{\"value\":\"0x3f8\"}}\n]}\n"
        );
    }
}
