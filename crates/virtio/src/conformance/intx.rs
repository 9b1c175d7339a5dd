//! The interrupt pin of a device on PCI.

use std::sync::Arc;

use device::{Identity, Intx, PciFunction};

use super::{
    Driver,
    notification::return_one,
    probe::{self, ON},
};
use crate::{Device, PciTransport};

/// The device is the first on its bus.
const SLOT: u8 = 1;
const STATUS: u64 = 0x06;
const INTERRUPT: u32 = 1 << 3;
/// Of the command register: INTx is not to be asserted.
const DISABLE: u32 = 1 << 10;
/// MSI-X control.
const MSIX: u32 = 0x8000;

/// A function with an interrupt pin, and nothing else.
struct Neighbour(Intx);

impl PciFunction for Neighbour {
    fn identity(&self) -> Identity {
        Identity { vendor: 0x1234, device: 1, ..Identity::default() }
    }

    fn intx(&self) -> Option<Intx> {
        Some(self.0.clone())
    }
}

impl Driver {
    /// Whether the line of the device is asserted.
    fn is_asserted(&self) -> bool {
        self.machine.host.line(SLOT).0
    }

    /// How often it was.
    fn rises(&self) -> u64 {
        self.machine.host.line(SLOT).1
    }

    /// What the status register says of interrupts.
    fn interrupts(&self) -> bool {
        self.function().get(self.buses(), STATUS, 2) & INTERRUPT != 0
    }

    fn switch_msix(&self, control: u32) {
        let function = self.function();
        function.set(self.buses(), function.msix + 2, 2, control);
    }

    fn command(&self, value: u32) {
        self.function().command(self.buses(), value);
    }

    /// A device that works, with nothing pending and MSI-X off.
    fn without_msix(&mut self) {
        self.start(0);
        self.acknowledge();
        self.switch_msix(0);
        assert!(!self.is_asserted() && !self.interrupts(), "nothing is pending");
    }
}

/// Without MSI-X the pin is asserted, once, as long as the ISR status is not zero and the driver does not
/// disable it; the status register follows the ISR status. A read of the ISR status, MSI-X and a reset
/// lower it (virtio 1.3 §4.1.4.5.1).
pub fn interrupts_by_its_pin<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.without_msix();
    for index in 0..driver.queues.len() {
        let (messages, rises) = (driver.raised(), driver.rises());
        for _ in 0..2 {
            return_one(&mut driver, index);
            assert!(
                driver.is_asserted() && driver.interrupts(),
                "queue {index} does not interrupt"
            );
        }
        assert_eq!((driver.rises(), driver.raised()), (rises + 1, messages), "once, by the pin");
        assert_eq!(driver.acknowledge(), 1, "the interrupt is for used buffers");
        assert!(
            !driver.is_asserted() && !driver.interrupts(),
            "a read of the ISR status lowers it"
        );

        driver.command(ON | DISABLE);
        return_one(&mut driver, index);
        assert!(!driver.is_asserted() && driver.interrupts(), "the pin is disabled");
        driver.command(ON);
        assert!(driver.is_asserted() && driver.interrupts(), "the pin is enabled again");

        driver.switch_msix(MSIX);
        assert!(!driver.is_asserted() && !driver.interrupts(), "MSI-X is on");
        driver.switch_msix(0);
        assert!(driver.is_asserted() && driver.interrupts(), "MSI-X is off again");
        driver.acknowledge();
    }
    return_one(&mut driver, 0);
    assert!(driver.is_asserted());
    driver.reset();
    assert!(!driver.is_asserted() && !driver.interrupts(), "a reset lowers the pin");
}

/// A line that another function asserts too stays asserted until neither does.
pub fn shares_its_line<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    // Of four, the last is on the line of the device.
    let pins = [(); 4].map(|()| Intx::new());
    let others =
        pins.iter().map(|pin| -> Arc<dyn PciFunction> { Arc::new(Neighbour(pin.clone())) });
    let (mut driver, _) = Driver::beside(make(), others.collect());
    driver.without_msix();
    pins.iter().take(3).for_each(|pin| pin.raise(1));
    assert!(!driver.is_asserted(), "neighbours have other lines");
    return_one(&mut driver, 0);
    pins[3].raise(1);
    driver.acknowledge();
    assert!(driver.is_asserted() && !driver.interrupts(), "the other still interrupts");
    return_one(&mut driver, 0);
    pins[3].take();
    assert!(driver.is_asserted() && driver.interrupts(), "the device still interrupts");
    driver.acknowledge();
    assert!(!driver.is_asserted(), "neither interrupts");
    assert_eq!(driver.rises(), 1, "the line was asserted all the time");
}

/// A restored device asserts its pin as the saved one did.
pub fn restores_its_pin<D: Device>(make: &impl Fn() -> PciTransport<D>) {
    let mut driver = Driver::new(make());
    driver.without_msix();
    return_one(&mut driver, 0);
    driver = driver.transplant(make());
    assert!(driver.is_asserted() && driver.interrupts(), "a restored device interrupts");
    driver.command(ON | DISABLE);
    driver = driver.transplant(make());
    assert!(!driver.is_asserted() && driver.interrupts(), "a restored pin is disabled");
    driver.command(ON);
    assert!(driver.is_asserted());
    assert_eq!(probe::get(driver.buses(), driver.function().isr, 1), 1);
    driver = driver.transplant(make());
    assert!(
        !driver.is_asserted() && !driver.interrupts(),
        "nothing is pending in a restored device"
    );
}
