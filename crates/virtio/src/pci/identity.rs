//! What a virtio device says it is (virtio 1.3 §4.1.2).

use std::io;

use device::Identity;

const VENDOR: u16 = 0x1af4;
/// Device numbers of modern devices start here.
const DEVICES: u16 = 0x1040;
/// Device types have six bits of the number (virtio 1.3 §4.1.2).
const LAST: u32 = 63;

/// The identity of a device of this type.
pub(super) fn of(id: u32) -> io::Result<Identity> {
    let device = u16::try_from(id).ok().filter(|_| (1..=LAST).contains(&id));
    let device = device.ok_or_else(|| {
        let why = format!("virtio device type {id} has no PCI device number; 1 to {LAST} have");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    })?;
    Ok(Identity {
        vendor: VENDOR,
        device: DEVICES + device,
        revision: 1,
        class: class(id),
        subsystem_vendor: VENDOR,
        // Of 0x40 at least, which no legacy device has.
        subsystem: DEVICES + device,
    })
}

/// Base class, subclass and programming interface, which virtio leaves open. Drivers go by the
/// device number; this is for whoever lists devices.
fn class(id: u32) -> [u8; 3] {
    match id {
        // Ethernet.
        1 => [0x02, 0x00, 0x00],
        // SCSI storage, as the other VMMs have it for block devices too.
        2 | 8 => [0x01, 0x00, 0x00],
        // Another communication controller: console, sockets.
        3 | 19 => [0x07, 0x80, 0x00],
        // Other storage: file systems.
        26 => [0x01, 0x80, 0x00],
        // Another display, another input device, sound.
        16 => [0x03, 0x80, 0x00],
        18 => [0x09, 0x80, 0x00],
        25 => [0x04, 0x01, 0x00],
        // Encryption.
        20 => [0x10, 0x80, 0x00],
        // What fits no class.
        _ => [0x00, 0xff, 0x00],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_device_is_known_by_its_number() {
        let identity = of(2).unwrap();
        assert_eq!((identity.vendor, identity.device, identity.revision), (0x1af4, 0x1042, 1));
        assert_eq!(identity.class, [1, 0, 0]);
        assert!(identity.subsystem >= 0x40);
    }

    #[test]
    fn a_type_without_a_number_is_refused() {
        assert_eq!(of(63).unwrap().device, 0x107f);
        let error = of(64).unwrap_err().to_string();
        assert_eq!(error, "virtio device type 64 has no PCI device number; 1 to 63 have");
        assert!(of(0).is_err() && of(u32::MAX).is_err());
    }
}
