//! Guests of a few instructions, and the ELF file around one of them.

/// The port that the exits of [`Loop`] go to: no device of KVM's own is there.
pub const PORT: u16 = 0x510;
/// The address that they go to: no RAM is there.
pub const ADDRESS: u64 = 0xd_0000;
/// The segment that starts there.
const SEGMENT: u16 = 0xd000;
/// RAM that a [`Loop`] needs, bytes, from address 0.
pub const LOOP_RAM: usize = 0x1_0000;
/// Where a [`Loop`] starts, in real mode.
pub const LOOP_ENTRY: u16 = 0x1000;

/// A real-mode guest that does one thing for ever, with one exit each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// `out dx, al`
    PortOut,
    /// `in al, dx`
    PortIn,
    /// `mov [bx], al`
    MmioWrite,
    /// `mov al, [bx]`
    MmioRead,
}

impl Loop {
    /// Every loop, with the name of its case.
    pub const ALL: [(&'static str, Self); 4] = [
        ("port out", Self::PortOut),
        ("port in", Self::PortIn),
        ("mmio write", Self::MmioWrite),
        ("mmio read", Self::MmioRead),
    ];

    /// The guest's bytes, for [`LOOP_ENTRY`].
    pub fn code(self) -> Vec<u8> {
        let [port_low, port_high] = PORT.to_le_bytes();
        let [segment_low, segment_high] = SEGMENT.to_le_bytes();
        let forever: &[u8] = match self {
            Self::PortOut => &[0xee, 0xeb, 0xfd], // out dx, al; jmp -3
            Self::PortIn => &[0xec, 0xeb, 0xfd],  // in al, dx; jmp -3
            Self::MmioWrite => &[0x88, 0x07, 0xeb, 0xfc], // mov [bx], al; jmp -4
            Self::MmioRead => &[0x8a, 0x07, 0xeb, 0xfc], // mov al, [bx]; jmp -4
        };
        let code: [&[u8]; 5] = [
            &[0xba, port_low, port_high],       // mov dx, PORT
            &[0xb8, segment_low, segment_high], // mov ax, SEGMENT
            &[0x8e, 0xd8],                      // mov ds, ax
            &[0x31, 0xdb],                      // xor bx, bx
            forever,
        ];
        code.concat()
    }
}

/// The serial port of [`TINY`].
pub const SERIAL: u16 = 0x3f8;
/// What it writes there.
pub const BYTE: u8 = b'!';
/// Where it is loaded and entered, in long mode.
pub const TINY_ENTRY: u64 = 0x10_0000;
/// RAM of the machine it runs on, bytes.
pub const TINY_RAM: usize = 128 << 20;

/// A long-mode guest that writes one byte to its serial port and sleeps for ever.
pub const TINY: [u8; 11] = [
    0x66, 0xba, 0xf8, 0x03, // mov dx, SERIAL
    0xb0, BYTE, // mov al, BYTE
    0xee, // out dx, al
    0xfa, // cli
    0xf4, // hlt
    0xeb, 0xfc, // jmp to cli, not that a processor would come back from there
];

const PAGE: usize = 4096;

/// [`TINY`] as an ELF kernel: one segment of one page, at the page's own offset in the file.
pub fn tiny_elf() -> Vec<u8> {
    let page = PAGE as u64;
    let mut elf = Vec::with_capacity(2 * PAGE);
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01"); // 64-bit, little endian, version 1
    elf.resize(16, 0);
    for half in [2_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes()); // executable, x86-64
    }
    elf.extend_from_slice(&1_u32.to_le_bytes()); // version 1
    for long in [TINY_ENTRY, 64, 0] {
        elf.extend_from_slice(&long.to_le_bytes()); // entry, program headers, no sections
    }
    elf.extend_from_slice(&0_u32.to_le_bytes()); // flags
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes()); // sizes and counts of the headers
    }
    for word in [1_u32, 5] {
        elf.extend_from_slice(&word.to_le_bytes()); // PT_LOAD, readable and executable
    }
    for long in [page, TINY_ENTRY, TINY_ENTRY, page, page, page] {
        elf.extend_from_slice(&long.to_le_bytes()); // offset, addresses, sizes, alignment
    }
    elf.resize(PAGE, 0);
    elf.extend_from_slice(&TINY);
    elf.resize(2 * PAGE, 0);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(elf: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(*elf[at..].first_chunk().unwrap())
    }

    #[test]
    fn the_elf_file_has_its_fields_where_the_format_has_them() {
        let elf = tiny_elf();
        assert_eq!((long(&elf, 24), long(&elf, 32)), (TINY_ENTRY, 64)); // e_entry, e_phoff
        assert_eq!(elf[52..58], [64, 0, 56, 0, 1, 0]); // e_ehsize, e_phentsize, e_phnum
        assert_eq!((long(&elf, 64 + 8), long(&elf, 64 + 24)), (4096, TINY_ENTRY)); // p_offset, p_paddr
        assert_eq!(elf[4096..4096 + TINY.len()], TINY);
    }

    #[test]
    fn the_loops_name_the_port_and_the_segment() {
        let code = Loop::PortOut.code();
        assert_eq!(code[1..3], PORT.to_le_bytes());
        assert_eq!(u64::from(u16::from_le_bytes([code[4], code[5]])) << 4, ADDRESS);
    }
}
