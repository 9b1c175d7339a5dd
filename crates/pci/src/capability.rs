//! Capabilities that are the same in every function.

use device::Capability;

const VENDOR_SPECIFIC: u8 = 0x09;
const EXPRESS: u8 = 0x10;
const MSIX: u8 = 0x11;

/// PCI Express capability, version 2, of an endpoint that is integrated into the root complex (PCIe
/// 4.0 §7.5.3.2): it has no link.
const EXPRESS_FLAGS: u16 = 2 | 9 << 4;
/// Role-based error reporting, which every device must have.
const DEVICE_CAPABILITIES: u32 = 1 << 15;
/// Error reporting, relaxed ordering, no snoop and the sizes: the guest may write them, nothing depends
/// on them.
const DEVICE_CONTROL: u16 = 0x78ff;
/// Length of the body up to the end of the version 2 registers.
const EXPRESS_LEN: usize = 0x3c - 2;

/// A capability whose contents are its vendor's own business: `body` follows the length byte, which
/// is put before it (PCI 3.0, appendix H).
pub fn vendor_specific(body: &[u8]) -> Capability {
    // More than 252 bytes fit no list, which is found when the list is made.
    let len = u8::try_from(body.len().saturating_add(3)).unwrap_or(u8::MAX);
    let mut bytes = vec![len];
    bytes.extend_from_slice(body);
    Capability::new(VENDOR_SPECIFIC, bytes)
}

/// The PCI Express capability of a function on bus 0. With it a guest looks for extended configuration
/// space.
pub fn express_endpoint() -> Capability {
    let mut body = Vec::with_capacity(EXPRESS_LEN);
    body.extend_from_slice(&EXPRESS_FLAGS.to_le_bytes());
    body.extend_from_slice(&DEVICE_CAPABILITIES.to_le_bytes());
    body.resize(EXPRESS_LEN, 0);
    let mut mask = vec![0; 6];
    mask.extend_from_slice(&DEVICE_CONTROL.to_le_bytes());
    Capability::new(EXPRESS, body).writable(mask)
}

/// The MSI-X capability (PCI 3.0 §6.8.2): enable and function mask can be written.
pub(crate) fn msix(layout: &device::MsixLayout) -> Capability {
    let bar = u32::from(layout.bar & 7);
    let mut body = (layout.vectors.wrapping_sub(1) & 0x7ff).to_le_bytes().to_vec();
    body.extend_from_slice(&(layout.table & !7 | bar).to_le_bytes());
    body.extend_from_slice(&(layout.pba & !7 | bar).to_le_bytes());
    Capability::new(MSIX, body).writable(vec![0, 0xc0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendor_specific_capability_says_its_length_with_its_header() {
        let capability = vendor_specific(&[1, 2, 3]);
        assert_eq!((capability.id, capability.body), (0x09, vec![6, 1, 2, 3]));
    }

    #[test]
    fn msix_says_its_last_vector_and_where_its_structures_are() {
        let layout = device::MsixLayout { vectors: 3, bar: 4, table: 0x1000, pba: 0x1800 };
        assert_eq!(msix(&layout).body, [2, 0, 4, 0x10, 0, 0, 4, 0x18, 0, 0]);
    }

    #[test]
    fn an_integrated_endpoint_has_version_2_and_port_type_9() {
        let capability = express_endpoint();
        assert_eq!((capability.id, capability.body.get(..2)), (0x10, Some(&[0x92, 0][..])));
    }
}
