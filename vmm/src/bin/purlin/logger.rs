//! Messages of the VMM on standard error.

use log::{LevelFilter, Log, Metadata, Record};

use crate::message;

/// Writes `purlin: LEVEL target: message`, a line each.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = record.level().as_str().to_lowercase();
        let line = format!("purlin: {level} {}: {}\n", record.target(), record.args());
        message::tell(&line);
    }

    fn flush(&self) {}
}

/// Starts to log: warnings, and more for each `-v`.
pub(crate) fn start(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Info,
        2 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // Fails only if a logger is there already, which then does the work.
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
