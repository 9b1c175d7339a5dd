//! A driver that does what a fuzzer tells it to.

use memory::{Bytes, GuestAddress};

use super::{
    Random, Transport,
    driver::Driver,
    queue::{BUFFERS, Descriptor},
    register::Place,
};
use crate::{Device, feature, mmio, pci, status};

/// The status of a driver that is at work.
const RUNNING: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
/// Offsets of registers that are tried on MMIO: the registers, and some of the configuration.
const REGISTERS: u64 = 0x240;
/// How many rounds of events follow a notification at most; what is left waits for the next.
const ROUNDS: usize = 64;

/// Drives the device by `input`, any bytes whatever: registers, notifications, requests that are well
/// formed or not, rings that make no sense, resets and snapshots at any moment. The first byte chooses
/// the transport.
///
/// The body of a fuzz target (libFuzzer's `fuzz_target!`), for a device that `make` makes anew, always
/// the same. Nothing is asserted but what must hold for every guest: the device does not panic, hang or
/// give back more than it had, and stands a reset at the end.
pub fn fuzz<D: Device>(make: impl Fn() -> D, input: &[u8]) {
    let mut input = Input(input);
    match input.u8() % 2 {
        0 => drive(&|| mmio(make()), input),
        _ => drive(&|| pci(make()), input),
    }
}

fn drive<T: Transport>(make: &impl Fn() -> T, mut input: Input<'_>) {
    let mut driver = Driver::new(make());
    start(&mut driver, input.u64());
    while let Some(&op) = input.0.first() {
        input.0 = input.0.get(1..).unwrap_or_default();
        match op % 16 {
            0 => start(&mut driver, input.u64()),
            1 => write_register(&driver, &mut input),
            2 => read_register(&driver, &mut input),
            3 => write_memory(&driver, &mut input),
            4 => {
                driver.reset_queue(input.queue(&driver));
            }
            5 => {
                driver.enable(input.queue(&driver));
            }
            6 => driver = driver.transplant(make()),
            7 => broken(&mut driver, &mut input),
            8 => notify(&mut driver, &mut input),
            9 => wander(&mut driver, &mut input),
            _ => request(&mut driver, &mut input),
        }
    }
    driver.reset();
    assert_eq!(driver.status(), 0, "a reset mends the device");
}

/// From reset to a working device, unless the device refuses.
fn start(driver: &mut Driver, features: u64) {
    let features = features & driver.offered();
    if !driver.negotiate(features) {
        return;
    }
    for index in 0..driver.queues.len() {
        driver.queues[index].events = features & feature::EVENT_IDX != 0;
        driver.enable(index);
    }
    driver.set_status(RUNNING);
    settle(driver);
}

fn settle(driver: &mut Driver) {
    for _ in 0..ROUNDS {
        if driver.turn() == 0 {
            return;
        }
    }
}

fn write_register(driver: &Driver, input: &mut Input<'_>) {
    let at = driver.base() + u64::from(input.u16()) % span(driver);
    let data = input.u64().to_le_bytes();
    let width = [1, 2, 4, 8][usize::from(input.u8() % 4)];
    driver.buses().mmio.write(at, &data[..width]);
}

fn read_register(driver: &Driver, input: &mut Input<'_>) {
    let at = driver.base() + u64::from(input.u16()) % span(driver);
    let mut data = [0; 8];
    let width = [1, 2, 4, 8][usize::from(input.u8() % 4)];
    driver.buses().mmio.read(at, &mut data[..width]);
}

/// How many bytes of registers there are.
fn span(driver: &Driver) -> u64 {
    match &driver.place {
        Place::Mmio { .. } => REGISTERS,
        Place::Pci(function) => function.bar_size,
    }
}

/// Anywhere in the lowest 64 KiB: rings, descriptors and buffers.
fn write_memory(driver: &Driver, input: &mut Input<'_>) {
    let at = GuestAddress(input.u16().into());
    let len = usize::from(input.u8() % 64);
    let bytes = input.bytes(len);
    driver.memory().write_slice(bytes, at).expect("the place is in RAM");
}

/// A descriptor, an index or a head as no driver would write it.
fn broken(driver: &mut Driver, input: &mut Input<'_>) {
    let index = input.queue(driver);
    let (addr, len, flags) = (input.u64(), u32::from(input.u16()), input.u16());
    let (at, next) = (input.u16(), input.u16());
    let queue = &mut driver.queues[index];
    let size = u16::try_from(queue.size).unwrap_or(u16::MAX);
    queue.put_own(at % size, Descriptor { addr, len, flags, next });
    match at % 3 {
        0 => queue.offer_head(next),
        1 => queue.set_offered(next),
        _ => {}
    }
    notify(driver, input);
}

fn notify(driver: &mut Driver, input: &mut Input<'_>) {
    let index = input.queue(driver);
    driver.kick(index);
    settle(driver);
    driver.acknowledge();
}

/// On PCI: configuration space is written anywhere, with a notification while the BAR is who knows where;
/// then the driver puts right what it needs.
fn wander(driver: &mut Driver, input: &mut Input<'_>) {
    let Place::Pci(function) = &driver.place else { return };
    for _ in 0..=input.u8() % 4 {
        let (at, value) = (u64::from(input.u8()), input.u64().to_le_bytes());
        let width = [1, 2, 4][usize::from(input.u8() % 3)];
        driver.buses().mmio.write(function.ecam + at, &value[..width]);
    }
    driver.notify(input.u8().into());
    settle(driver);
    if let Place::Pci(function) = &driver.place {
        function.put_right(driver.buses());
    }
}

/// A chain whose buffers lie in RAM, with the input's bytes in what the device reads.
fn request(driver: &mut Driver, input: &mut Input<'_>) {
    let index = input.queue(driver);
    let most = usize::try_from(driver.queues[index].size).unwrap_or(1).min(8);
    let (out, room) = (usize::from(input.u8()), input.u16());
    let head = input.bytes(out);
    driver.memory().write_slice(head, GuestAddress(BUFFERS)).expect("buffers lie in RAM");
    let mut chain = Vec::new();
    let mut at = BUFFERS;
    for piece in head.chunks(64).take(most.saturating_sub(1)) {
        let len = u32::try_from(piece.len()).unwrap_or(0);
        chain.push((at, len, false));
        at += u64::from(len);
    }
    let room = u32::from(room) % 0x3000;
    if room > 0 {
        chain.push((BUFFERS + 0x1000, room, true));
    }
    if chain.is_empty() {
        return;
    }
    driver.queues[index].offer(&chain);
    if !input.u8().is_multiple_of(4) {
        notify(driver, input);
    }
}

/// [`fuzz`] with bytes that `random` chooses: what every device goes through in its own tests.
pub(super) fn at_random<D: Device>(make: &impl Fn() -> D, random: &mut Random) {
    let input: Vec<u8> =
        std::iter::repeat_with(|| random.next().to_le_bytes()).take(256).flatten().collect();
    fuzz(make, &input);
}

/// What is left of the input; zeroes after its end.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    fn u64(&mut self) -> u64 {
        let mut value = [0; 8];
        let bytes = self.bytes(value.len());
        value[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(value)
    }

    fn u16(&mut self) -> u16 {
        let bytes = self.bytes(2);
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte))
    }

    fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    fn queue(&mut self, driver: &Driver) -> usize {
        usize::from(self.u8()) % driver.queues.len().max(1)
    }
}
