//! The window in configuration space (virtio 1.3 §4.1.4.9).

use super::{
    Driver,
    probe::{self, Function},
    queue::BUFFERS,
};
use crate::{Device, PciTransport};

const BAR: u64 = 4;
const OFFSET: u64 = 8;
const LENGTH: u64 = 12;
const DATA: u64 = 16;
const STATUS: u64 = 0x14;
const DEVICE_FEATURES: u64 = 0x04;

/// Registers are read and written through the window, whether the BAR answers or not; a window that is
/// on nothing reads and writes nothing.
pub fn answers_through_its_window<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.start(0);
    let function = driver.function().clone();
    let buses = driver.buses().clone();
    let (common, notify) = (function.common - function.bar, function.notify - function.bar);
    let open = |(bar, offset, length)| open(&function, &buses, bar, offset, length);
    let get = |width| function.get(&buses, function.window + DATA, width);
    let set = |width, value| function.set(&buses, function.window + DATA, width, value);

    let status = u32::from(driver.status());
    let features = probe::get(&buses, function.common + DEVICE_FEATURES, 4);
    open((function.bar_index, common + STATUS, 1));
    assert_eq!(get(1), status, "the status is seen through the window");
    open((function.bar_index, common + DEVICE_FEATURES, 4));
    assert_eq!(get(4), features, "features are seen through the window");
    open((function.bar_index, notify, 2));
    let head = driver.queues[0].offer(&[(BUFFERS, 0, false)]);
    set(2, 0);
    driver.run();
    assert_eq!(driver.queues[0].used(), [(head.into(), 0)], "the window notifies");

    let status_at = common + STATUS;
    for (bar, offset, length) in [
        (5, status_at, 1),
        (function.bar_index, status_at, 3),
        (function.bar_index, status_at, 0),
        (function.bar_index, status_at, u32::MAX),
        (function.bar_index, status_at - 1, 2),
        (function.bar_index, function.bar_size, 1),
        (function.bar_index, u64::from(u32::MAX), 4),
    ] {
        open((bar, offset, length));
        for width in [1, 2, 4] {
            get(width);
            set(width, 0);
        }
        assert_eq!(u32::from(driver.status()), status, "BAR {bar}, {length} bytes at {offset:#x}");
    }

    function.command(&buses, 0b100);
    open((function.bar_index, status_at, 1));
    assert_eq!(get(1), status, "the window needs no memory space");
    set(1, 0);
    assert_eq!(get(1), 0, "the status is written through the window");
}

fn open(function: &Function, buses: &bus::Buses, bar: u64, offset: u64, length: u32) {
    let offset = u32::try_from(offset).expect("a BAR is below 4 GiB");
    function.set(buses, function.window + BAR, 1, u32::try_from(bar).expect("BARs are few"));
    function.set(buses, function.window + OFFSET, 4, offset);
    function.set(buses, function.window + LENGTH, 4, length);
}
