//! What firmware must describe to the guest.

/// A place that a guest can write to: a port or a physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoAddr {
    /// An I/O port.
    Pio(u16),
    /// A guest physical address.
    Mmio(u64),
}

/// Something that a guest can only find if firmware describes it. Devices announce nodes while they
/// are attached; `boot` turns them into ACPI, MP table entries and command line arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Node {
    /// A 16550 serial port (`PNP0501`) with 8 ports at `port`.
    Uart {
        /// First of the 8 ports.
        port: u16,
        /// Interrupt line.
        gsi: u32,
    },
    /// An i8042 keyboard controller (`PNP0303`) at ports 0x60 and 0x64.
    Keyboard {
        /// Interrupt line of the keyboard.
        gsi: u32,
    },
    /// A CMOS clock (`PNP0B00`): index port and, next to it, data port.
    Rtc {
        /// Index port.
        port: u16,
    },
    /// The fixed ACPI hardware: PM1 event block at `base`, control block at `base + 4`,
    /// reset register at `base + 12` (ACPI 6.5, 4.8.3). The power button is fixed too. There is no PM
    /// timer.
    AcpiPower {
        /// First of the 16 ports.
        base: u16,
        /// The system control interrupt.
        gsi: u32,
    },
    /// A pvpanic port (`QEMU0001`).
    Pvpanic {
        /// The one port.
        port: u16,
    },
    /// A virtio device on the MMIO transport (`LNRO0005`, `virtio_mmio.device=`).
    VirtioMmio {
        /// Guest physical address of the registers.
        base: u64,
        /// Length of the registers, bytes.
        len: u64,
        /// Interrupt line.
        gsi: u32,
    },
    /// A PCI Express root complex (`PNP0A08`) with bus 0 and nothing behind it.
    PciRoot {
        /// Where configuration space is, 1 MiB for the one bus.
        ecam: u64,
        /// Memory that BARs can be in, below 4 GiB.
        mem32: Window,
        /// Memory that 64-bit BARs can be in, above 4 GiB.
        mem64: Option<Window>,
        /// Ports that BARs can be in.
        io: Option<Window>,
        /// The interrupt lines of INTx, if it has any.
        intx: Option<IntxLines>,
    },
    /// The controller by which devices come to the PCI root's bus and go (ACPI 6.5, 9.13): registers
    /// of 32 bits with a bit for each device number, in memory.
    PciHotplug {
        /// What has come since this was read last; next to it what is to go, and where the guest
        /// writes what it has let go of.
        base: u64,
        /// Interrupt line, raised when there is something to read.
        gsi: u32,
    },
}

/// The four level-triggered lines of the IOAPIC that the INTx pins of bus 0 share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntxLines(pub [u32; 4]);

impl IntxLines {
    /// The line of INTA of device number `device`: pins are wired to the lines in turn, so that
    /// neighbours have different ones (PCI-to-PCI bridge 1.2 §9.1). A device with one function has no
    /// other pin (PCI 3.0 §2.2.6).
    pub fn line(&self, device: u8) -> u32 {
        let Self([a, b, c, d]) = *self;
        match device % 4 {
            0 => a,
            1 => b,
            2 => c,
            _ => d,
        }
    }
}

/// A range of addresses or ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub first: u64,
    /// The last, which belongs to the range.
    pub last: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_take_the_lines_in_turn() {
        let lines = IntxLines([20, 21, 22, 23]);
        assert_eq!([0, 1, 2, 3, 4, 31].map(|device| lines.line(device)), [20, 21, 22, 23, 20, 23]);
    }
}
