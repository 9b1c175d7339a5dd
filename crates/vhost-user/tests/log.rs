//! Alone in its process, because it listens to the log.
#![expect(clippy::unwrap_used, reason = "test code")]

mod backend;

use std::sync::Mutex;

use backend::{Backend, Lie, Options, Scratch, count, wait_until};
use log::{LevelFilter, Log, Metadata, Record};
use purlin_vhost_user::{Settings, VhostUser};
use virtio::conformance::Driver;

struct Lines(Mutex<Vec<String>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_back_end_that_comes_and_goes_is_told_less_and_less_often() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Trace);
    let scratch = Scratch::new();
    // It dies whenever it is to serve a ring.
    let options = Options { lie: Some((18, Lie::Close)), ..Options::default() };
    let _backend = Backend::new(&scratch.socket("a"), options.clone());
    let block = VhostUser::<2>::connect(scratch.socket("a"), Settings::block()).unwrap();
    let mut driver = Driver::new(virtio::mmio(block));
    driver.start(driver.offered());
    wait_until("it has come eight times", || {
        driver.run();
        count(&options.connections) >= 8
    });
    let lines = LINES.0.lock().unwrap();
    // Lost once, twice, four, and perhaps eight times; and found as often.
    assert!(lines.len() <= 8, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("(4 so far)")), "{lines:#?}");
}
