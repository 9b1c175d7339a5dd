//! Guests of a few instructions, in an ELF kernel that starts by the 64-bit Linux protocol: in long
//! mode, at 1 MiB, with the first 4 GiB mapped to themselves and the zero page's address in rsi.

use std::path::PathBuf;

use crate::Scratch;

/// Where guests are loaded and entered.
pub const ENTRY: u64 = 0x10_0000;
/// The first serial port.
pub const COM1: u16 = 0x3f8;
/// The second.
pub const COM2: u16 = 0x2f8;
/// What a Bochs-like debug port writes to.
pub const DEBUG_CONSOLE: u16 = 0xe9;

/// Code of a guest, put together from the pieces below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guest(Vec<u8>);

impl Guest {
    /// A guest that first prints `text` on COM1.
    pub fn says(text: &str) -> Self {
        Self::default().prints(COM1, text)
    }

    /// Prints `text` on `port`.
    pub fn prints(self, port: u16, text: &str) -> Self {
        let [low, high] = port.to_le_bytes();
        let mut guest = self.then(&[0xba, low, high, 0, 0]); // mov edx, port
        for byte in text.bytes() {
            guest = guest.then(&[0xb0, byte, 0xee]); // mov al, byte; out dx, al
        }
        guest
    }

    /// Goes on with `code`.
    pub fn then(mut self, code: &[u8]) -> Self {
        self.0.extend_from_slice(code);
        self
    }

    /// Writes to RAM below 4 GiB and reads it back; ends the run with [`LOST`] if it differs.
    pub fn uses(self, address: u32) -> Self {
        let guest = self.then(&[0xbf]).then(&address.to_le_bytes()); // mov edi, address
        guest.then(USE)
    }

    /// As [`uses`](Self::uses), at `gibibytes` GiB, 4 to 15, which it maps first.
    pub fn uses_high(self, gibibytes: u8) -> Self {
        let [entry, shifted] = [gibibytes * 8, gibibytes];
        self.then(&[0x0f, 0x20, 0xd8]) // mov rax, cr3
            .then(&[0x48, 0x8b, 0x18]) // mov rbx, [rax]   the table of the first 512 GiB
            .then(&[0x48, 0x81, 0xe3, 0x00, 0xf0, 0xff, 0xff]) // and rbx, -4096
            .then(&[0x48, 0xc7, 0x43, entry, 0x03, 0x00, 0x20, 0x00]) // its entry: a table at 2 MiB
            .then(&[0xb8, shifted, 0, 0, 0]) // mov eax, gibibytes
            .then(&[0x48, 0xc1, 0xe0, 0x1e]) // shl rax, 30
            .then(&[0x48, 0x89, 0xc7]) // mov rdi, rax
            .then(&[0x48, 0x0d, 0x83, 0x00, 0x00, 0x00]) // or rax, 0x83   a large page
            .then(&[0x48, 0x89, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00]) // mov [0x200000], rax
            .then(&[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]) // mov rax, cr3; mov cr3, rax
            .then(USE)
    }

    /// Wakes the other processors, waits until `others` of them have run, waits a little for more,
    /// and prints how many processors there are, in two digits.
    pub fn wakes(self, others: u8) -> Self {
        self.then(&[0x48, 0x8d, 0x35, 0x6a, 0, 0, 0]) // lea rsi, [rip + their code]
            .then(&[0xbf, 0x00, 0x80, 0, 0]) // mov edi, 0x8000
            .then(&[0xb9, 0x0d, 0, 0, 0, 0xf3, 0xa4]) // mov ecx, 13; rep movsb
            .then(&[0xbb, 0x00, 0x00, 0xe0, 0xfe]) // mov ebx, 0xfee00000   the local APIC
            .then(&[0xc7, 0x83, 0xf0, 0, 0, 0, 0xff, 0x01, 0, 0]) // mov dword [rbx + 0xf0], 0x1ff
            .then(&[0xc7, 0x83, 0x00, 0x03, 0, 0, 0x00, 0x45, 0x0c, 0]) // INIT to all others
            .then(&[0xc7, 0x83, 0x00, 0x03, 0, 0, 0x08, 0x46, 0x0c, 0]) // SIPI, at 0x8000
            .then(&[0xc7, 0x83, 0x00, 0x03, 0, 0, 0x08, 0x46, 0x0c, 0]) // and again
            .then(&[0xf3, 0x90]) // wait: pause
            .then(&[0x66, 0x83, 0x3c, 0x25, 0x00, 0x88, 0, 0, others]) // cmp word [0x8800], others
            .then(&[0x72, 0xf3]) // jb wait
            .then(&[0xb9, 0x00, 0x00, 0x01, 0, 0xe2, 0xfe]) // mov ecx, 0x10000; loop
            .then(&[0x0f, 0xb7, 0x04, 0x25, 0x00, 0x88, 0, 0]) // movzx eax, word [0x8800]
            .then(&[0xff, 0xc0, 0xb1, 0x0a, 0xf6, 0xf1]) // inc eax; mov cl, 10; div cl
            .then(&[0x66, 0x05, 0x30, 0x30]) // add ax, "00"
            .then(&[0xba, 0xf8, 0x03, 0, 0]) // mov edx, 0x3f8
            .then(&[0xee, 0x88, 0xe0, 0xee]) // out dx, al; mov al, ah; out dx, al
            .then(&[0xeb, 0x0d]) // jmp end
            .then(&[0xfa, 0x31, 0xc0, 0x8e, 0xd8]) // their code: cli; xor ax, ax; mov ds, ax
            .then(&[0xf0, 0xff, 0x06, 0x00, 0x88]) // lock inc word [0x8800]
            .then(&[0xf4, 0xeb, 0xfd]) // sleep: hlt; jmp sleep; end:
    }

    /// The guest as an ELF kernel.
    pub fn elf(&self) -> Vec<u8> {
        self.elf_at(&[ENTRY])
    }

    /// As [`elf`](Self::elf), with a segment for each of `starts`, all with the same code.
    pub fn elf_at(&self, starts: &[u64]) -> Vec<u8> {
        let length = u64::try_from(self.0.len()).expect("guests are small");
        let count = u16::try_from(starts.len()).expect("segments are few");
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec(); // 64-bit, little-endian, version 1
        elf.resize(16, 0);
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]); // executable, x86-64, version 1
        for long in [ENTRY, 64, 0] {
            elf.extend(long.to_le_bytes()); // entry, program headers, no sections
        }
        elf.extend([0; 4]);
        for half in [64, 56, count, 64, 0, 0] {
            elf.extend(half.to_le_bytes()); // sizes and counts of the headers
        }
        let code = 64 + 56 * u64::from(count);
        for start in starts {
            elf.extend([1, 0, 0, 0, 5, 0, 0, 0]); // PT_LOAD, readable and executable
            for long in [code, *start, *start, length, length, 1] {
                elf.extend(long.to_le_bytes()); // offset, addresses, sizes, alignment
            }
        }
        elf.extend_from_slice(&self.0);
        elf
    }

    /// The guest as a kernel in a file.
    pub fn file(&self, scratch: &Scratch) -> PathBuf {
        scratch.file("kernel", &self.elf())
    }
}

/// The code that a guest ends the run with when RAM does not hold what it wrote.
pub const LOST: u8 = 9;

/// Writes to [rdi] and reads it back.
const USE: &[u8] = &[
    0x48, 0xb8, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, // mov rax, a pattern
    0x48, 0x89, 0x07, // mov [rdi], rax
    0x48, 0x39, 0x07, // cmp [rdi], rax
    0x74, 0x04, // je held
    0xb0, LOST, 0xe6, 0xf4, // mov al, LOST; out 0xf4, al; held:
];

/// Powers off through ACPI's PM1 control register.
pub const POWER_OFF: &[u8] = &[
    0xba, 0x04, 0x06, 0, 0, // mov edx, 0x604
    0xb8, 0x00, 0x34, 0, 0, // mov eax, 0x3400   S5
    0x66, 0xef, // out dx, ax
];

/// Resets through ACPI's reset register.
pub const RESET: &[u8] = &[
    0xba, 0x0c, 0x06, 0, 0, // mov edx, 0x60c
    0xb0, 0x01, 0xee, // mov al, 1; out dx, al
];

/// Resets through the keyboard controller.
pub const KEYBOARD_RESET: &[u8] = &[0xb0, 0xfe, 0xe6, 0x64]; // mov al, 0xfe; out 0x64, al

/// Reports a panic through pvpanic.
pub const PANIC: &[u8] = &[
    0xba, 0x05, 0x05, 0, 0, // mov edx, 0x505
    0xb0, 0x01, 0xee, // mov al, 1; out dx, al
];

/// Writes 5 to the debug exit port.
pub const EXIT_5: &[u8] = &[0xb0, 0x05, 0xe6, 0xf4]; // mov al, 5; out 0xf4, al

/// Takes an exception without any handler.
pub const TRIPLE_FAULT: &[u8] = &[
    0x0f, 0x01, 0x1d, 0x04, 0, 0, 0, // lidt [table]
    0x31, 0xc9, 0xf7, 0xf1, // xor ecx, ecx; div ecx
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // table: empty
];

/// Executes an instruction, on an address where no RAM is, that KVM cannot emulate.
pub const NOT_EMULATED: &[u8] = &[
    0xbf, 0x00, 0x00, 0x00, 0xd0, // mov edi, 0xd0000000
    0x0f, 0xfc, 0x07, // paddb mm0, [rdi]
    0xeb, 0xfe, // jmp to itself
];

/// Sleeps with interrupts off.
pub const HALT: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfd]; // cli; sleep: hlt; jmp sleep

/// Does nothing for ever, and heeds nobody.
pub const SPIN: &[u8] = &[0xeb, 0xfe]; // jmp to itself

/// Prints `x` on COM1 for ever.
pub const FLOOD: &[u8] = &[
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0xb0, b'x', // mov al, 'x'
    0xee, 0xeb, 0xfd, // again: out dx, al; jmp again
];

/// Writes and reads a port that no device claims, for ever.
pub const PORT_FLOOD: &[u8] = &[
    0xba, 0x10, 0x05, 0, 0, // mov edx, 0x510
    0xee, 0xec, 0xeb, 0xfc, // again: out dx, al; in al, dx; jmp again
];

/// Sends back what it receives on COM1, up to a `q`.
pub const ECHO: &[u8] = &[
    0xba, 0xfd, 0x03, 0, 0, // next: mov edx, 0x3fd
    0xec, 0xa8, 0x01, // wait: in al, dx; test al, 1
    0x74, 0xfb, // jz wait
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0xec, 0xee, // in al, dx; out dx, al
    0x3c, b'q', 0x75, 0xeb, // cmp al, 'q'; jne next
];

/// Waits for the power button.
pub const BUTTON: &[u8] = &[
    0xba, 0x00, 0x06, 0, 0, // mov edx, 0x600
    0x66, 0xed, // wait: in ax, dx
    0xf6, 0xc4, 0x01, 0x74, 0xf9, // test ah, 1; jz wait
];

/// Prints its command line. Comes first: it needs rsi as the VMM left it.
pub const CMDLINE: &[u8] = &[
    0x8b, 0xb6, 0x28, 0x02, 0, 0, // mov esi, [rsi + 0x228]
    0xba, 0xf8, 0x03, 0, 0, // mov edx, 0x3f8
    0xac, 0x84, 0xc0, // next: lodsb; test al, al
    0x74, 0x03, 0xee, 0xeb, 0xf8, // jz end; out dx, al; jmp next; end:
];
