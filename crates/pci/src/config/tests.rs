use super::*;
use crate::{express_endpoint, vendor_specific};

const IDENTITY: Identity = Identity {
    vendor: 0x1af4,
    device: 0x1042,
    revision: 1,
    class: [0x01, 0x80, 0x02],
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

fn bar(index: u8, kind: BarKind, size: u64) -> Bar {
    Bar { index, kind, size }
}

const WIDE: BarKind = BarKind::Memory64 { prefetchable: true };

fn space(bars: &[Bar]) -> ConfigSpace {
    ConfigSpace::new(&IDENTITY, bars).unwrap()
}

#[test]
fn the_header_says_what_the_function_is() {
    let space = space(&[]);
    assert_eq!(space.dword(0x00), 0x1042_1af4);
    assert_eq!(space.dword(0x08), 0x0180_0201);
    assert_eq!(space.dword(0x2c), 0x1100_1af4);
    // Header type 0, one function; no ROM; no interrupt pin.
    assert_eq!([0x0c, 0x30, 0x3c].map(|at| space.dword(at)), [0; 3]);
}

#[test]
fn only_writable_bits_can_be_written() {
    let mut space = space(&[]);
    for offset in (0..256).step_by(4) {
        space.write(offset, &[0xff; 4]);
    }
    assert_eq!(space.dword(0x00), 0x1042_1af4);
    assert_eq!(space.dword(0x04), 0x0547);
    assert_eq!(space.dword(0x0c), 0xff);
    assert_eq!(space.dword(0x3c), 0xff);
    let others = [0x08, 0x10, 0x24, 0x2c, 0x30, 0x34, 0x38, 0x40, 0xfc];
    let blank = ConfigSpace::new(&IDENTITY, &[]).unwrap();
    assert_eq!(others.map(|at| space.dword(at)), others.map(|at| blank.dword(at)));
}

#[test]
fn a_single_byte_can_be_written() {
    let mut space = space(&[bar(0, BarKind::Memory32, 0x1000)]);
    space.write(0x13, &[0xc1]);
    assert_eq!(space.dword(0x10), 0xc100_0000);
}

#[test]
fn all_ones_written_to_a_bar_read_back_as_its_size_and_kind() {
    let mut space = space(&[
        bar(0, BarKind::Memory32, 0x1000),
        bar(1, BarKind::Io, 0x20),
        bar(2, WIDE, 1 << 33),
        bar(4, BarKind::Memory64 { prefetchable: false }, 0x4000),
    ]);
    for offset in (0x10..0x28).step_by(4) {
        space.write(offset, &[0xff; 4]);
    }
    let read = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24].map(|at| space.dword(at));
    assert_eq!(
        read,
        [0xffff_f000, 0xffff_ffe1, 0x0000_000c, 0xffff_fffe, 0xffff_c004, 0xffff_ffff]
    );
}

#[test]
fn a_bar_that_is_not_there_reads_as_zero_whatever_is_written() {
    let mut space = space(&[bar(0, BarKind::Memory32, 0x1000)]);
    space.write(0x14, &[0xff; 4]);
    assert_eq!(space.dword(0x14), 0);
}

#[test]
fn a_bar_is_decoded_while_its_space_is_switched_on() {
    let (memory, ports) = (bar(0, WIDE, 0x1000), bar(2, BarKind::Io, 0x10));
    let mut space = space(&[memory, ports]);
    space.place(&memory, 0x12_3456_7000);
    space.place(&ports, 0xc010);
    let decoded = [0, 1, 2, 3].map(|command| {
        space.write(4, &[command]);
        (space.decoded(&memory), space.decoded(&ports))
    });
    let (memory, ports) = (Some(0x12_3456_7000), Some(0xc010));
    assert_eq!(decoded, [(None, None), (None, ports), (memory, None), (memory, ports)]);
}

#[test]
fn capabilities_are_a_list_in_order_from_0x40() {
    let mut space = space(&[]);
    assert_eq!(space.dword(0x04) >> 20 & 1, 0);
    let first = space.add_capability(&vendor_specific(&[1, 2, 3, 4, 5])).unwrap();
    let second = space.add_capability(&express_endpoint()).unwrap();
    assert_eq!((first, second), (0x40, 0x48));
    assert_eq!(space.dword(0x04) >> 20 & 1, 1);
    assert_eq!(space.dword(0x34), 0x40);
    assert_eq!(space.dword(0x40), 0x0108_4809);
    assert_eq!(space.dword(0x48), 0x0092_0010);
}

#[test]
fn a_capability_is_written_where_its_mask_says() {
    let mut space = space(&[]);
    let capability = Capability::new(9, vec![0x11, 0x22, 0x33]).writable(vec![0, 0x0f]);
    space.add_capability(&capability).unwrap();
    space.write(0x40, &[0xff; 8]);
    assert_eq!([space.dword(0x40), space.dword(0x44)], [0x2f11_0009, 0x33]);
}

#[test]
fn a_list_that_is_full_takes_no_more() {
    let mut space = space(&[]);
    space.add_capability(&Capability::new(9, vec![0; 0xb6])).unwrap();
    space.add_capability(&Capability::new(9, vec![0; 6])).unwrap();
    let error = space.add_capability(&Capability::new(9, vec![])).unwrap_err();
    assert_eq!(error, FunctionError::CapabilityRoom { id: 9, len: 2, room: 0 });
}

#[test]
fn a_capability_that_does_not_fit_is_refused_with_the_room_there_is() {
    let mut space = space(&[]);
    let large = |len| Capability::new(9, vec![0; len]);
    let error = space.add_capability(&large(191)).unwrap_err();
    assert_eq!(error, FunctionError::CapabilityRoom { id: 9, len: 193, room: 192 });
    assert_eq!(space.add_capability(&large(190)).unwrap(), 0x40);
}

#[test]
fn a_window_outside_its_capability_is_refused() {
    let window = device::CapabilityWindow { bar: 0, offset: 4, length: 8, data: 13 };
    let capability = Capability::new(9, vec![0; 16]).window(window);
    let error = space(&[]).add_capability(&capability).unwrap_err();
    assert_eq!(error, FunctionError::Window { id: 9, len: 16 });
}

#[test]
fn what_cannot_be_declared_is_refused_with_its_value() {
    let refused = |bars: &[Bar]| ConfigSpace::new(&IDENTITY, bars).unwrap_err();
    let memory = BarKind::Memory32;
    assert_eq!(refused(&[bar(6, memory, 16)]), FunctionError::BarIndex { index: 6 });
    assert_eq!(refused(&[bar(5, WIDE, 16)]), FunctionError::BarIndex { index: 5 });
    for (kind, size) in [(memory, 0), (memory, 8), (memory, 24), (memory, 1 << 32)] {
        assert_eq!(refused(&[bar(0, kind, size)]), FunctionError::BarSize { index: 0, size });
    }
    for size in [2, 512] {
        let bars = [bar(0, BarKind::Io, size)];
        assert_eq!(refused(&bars), FunctionError::BarSize { index: 0, size });
    }
    let taken = [bar(0, WIDE, 1 << 33), bar(1, memory, 16)];
    assert_eq!(refused(&taken), FunctionError::BarTaken { index: 1 });
    let taken = [bar(1, memory, 16), bar(0, WIDE, 1 << 33)];
    assert_eq!(refused(&taken), FunctionError::BarTaken { index: 0 });
    let nobody = Identity { vendor: 0xffff, ..IDENTITY };
    assert_eq!(ConfigSpace::new(&nobody, &[]).unwrap_err(), FunctionError::Vendor);
}

#[test]
fn beyond_256_bytes_there_is_nothing() {
    let mut space = space(&[]);
    space.write(0x100, &[0xff; 4]);
    space.write(0xffff, &[0xff; 4]);
    let mut data = [0xff; 4];
    space.read(0x100, &mut data);
    assert_eq!(data, [0; 4]);
}

#[test]
fn saved_registers_come_back_if_the_guest_can_have_written_them() {
    let memory = bar(0, BarKind::Memory32, 0x1000);
    let mut changed = space(&[memory]);
    changed.place(&memory, 0xd000_0000);
    let restored = space(&[memory]).with_registers(&changed.registers()).unwrap();
    assert_eq!(restored.registers(), changed.registers());
    let other = space(&[bar(0, BarKind::Memory32, 0x4000)]);
    let mut registers = changed.registers();
    registers[0] = 0;
    assert_eq!(other.with_registers(&registers).unwrap_err(), 0);
    assert_eq!(other.with_registers(&[0x1042_1af4]).unwrap_err(), 4);
}
