use hypervisor::mock::{Host, Played, Script};

use super::*;

const UART: u16 = 0x3f8;
const PM1_CONTROL: u16 = 0x604;
/// Sleep type 5 and sleep enable.
const POWER_OFF: [u8; 2] = [0x00, 0x34];

fn host(exits: Vec<Played>) -> Host {
    Host::new([Script::new(exits)])
}

#[test]
fn what_the_guest_does_is_in_the_report() {
    let script = Script::new([
        Played::pio_out(UART, b"o"),
        Played::pio_out(UART, b"k"),
        Played::mmio_write(COUNTER, &2_u32.to_le_bytes()),
        Played::mmio_write(COUNTER, &3_u32.to_le_bytes()),
        Played::MmioRead { addr: COUNTER, len: 4 },
        Played::pio_out(PM1_CONTROL, &POWER_OFF),
    ]);
    let answers = script.answers();
    let report = run(&Host::new([script])).unwrap();
    assert_eq!(answers.get(), [5_u32.to_le_bytes().to_vec()]);
    assert_eq!(report.console, "ok");
    let counts = report.exits.iter().filter(|exits| exits.touched.starts_with("counter"));
    assert_eq!(counts.map(|exits| exits.row.count).collect::<Vec<_>>(), [1, 2]);
    let times = report.times;
    let order = [Some(times.made), Some(times.entered), times.first_byte, Some(times.stopped)];
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_guest_that_hangs_is_stopped_and_its_last_words_are_told() {
    let host = host(vec![Played::pio_out(UART, b"a"), Played::Wait]);
    let error = run_within(&host, Duration::from_millis(500)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the demo's guest did not power off within 500ms; it printed \"a\""
    );
}

#[test]
fn a_guest_that_ends_in_another_way_is_an_error() {
    let error = run(&host(vec![Played::Halted])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the demo's guest should have powered off, but the guest halted for good; it printed \"\""
    );
}

#[test]
fn a_host_that_cannot_run_it_is_an_error() {
    assert!(matches!(run(&host(vec![Played::Fail])), Err(DemoError::Run(_))));
}

#[test]
fn the_counter_is_where_the_guest_looks_for_it() {
    let console = Console::default();
    let Machine { board, .. } = build(&host(vec![]), &console).unwrap();
    let ranges: Vec<_> = board.buses.mmio.ranges().map(|range| range.first()).collect();
    assert_eq!(ranges, [COUNTER]);
}
