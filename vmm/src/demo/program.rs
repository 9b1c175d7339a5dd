//! The guest's program and its texts.
//!
//! Instructions are kept as bytes beside what they say, so that a test can hold one against the
//! other; no assembler is needed to build this crate.

/// One instruction: its bytes, and what they say (NASM's syntax).
pub(super) type Line = (&'static [u8], &'static str);

/// A few instructions with one purpose.
pub(super) struct Routine {
    /// What messages and the listing call it.
    pub(super) name: &'static str,
    /// The address of its first instruction.
    pub(super) at: u16,
    /// What it does, for the listing.
    pub(super) why: &'static str,
    /// Its instructions, in order.
    pub(super) lines: &'static [Line],
}

/// Where the program begins, and is entered.
pub(super) const CODE: u16 = 0x7c00;

/// Where [`TEXTS`] begin.
pub(super) const DATA: u16 = 0x8000;

/// The stack grows down from here.
pub(super) const STACK: u16 = 0x7c00;

/// The registers of the CMOS clock in the order of a date, each with the character after it:
/// century, year, month, day, hours, minutes, seconds.
const FIELDS: &str = "\x32\0\x09-\x08-\x07 \x04:\x02:\0\0";

/// What the program prints, and [`FIELDS`] first: in memory one after the other from [`DATA`] on, a
/// zero after each.
pub(super) const TEXTS: &[&str] = &[
    FIELDS,
    "hello from a guest in 16-bit real mode\r\n",
    "cpu      ",
    ", run by ",
    "\r\nprimes   ",
    " below 100, their sum is ",
    "\r\nmemory   ",
    " of 128 pages hold what was written to them",
    "\r\ntimer    ",
    " interrupts, 10 ms apart",
    "\r\ncounter  1 + 2 + ... + 10 = ",
    ", says the device at 0xd0000",
    "\r\nclock    ",
    " UTC",
    "\r\npower    off\r\n",
];

/// The program: one routine after the other from [`CODE`] on, without a gap.
pub(super) const PROGRAM: &[Routine] = &[
    Routine {
        name: "start",
        at: 0x7c00,
        why: "The stack and the segments are set by the monitor; the serial port: no \
              interrupts, 8 bits, no parity, 1 stop bit.",
        lines: &[
            (&[0xba, 0xf9, 0x03], "mov dx,0x3f9"),
            (&[0x31, 0xc0], "xor ax,ax"),
            (&[0xee], "out dx,al"),
            (&[0xba, 0xfb, 0x03], "mov dx,0x3fb"),
            (&[0xb0, 0x03], "mov al,3"),
            (&[0xee], "out dx,al"),
            (&[0xbe, 0x0f, 0x80], "mov si,0x800f"),
            (&[0xe8, 0x9f, 0x01], "call 0x7db1"),
        ],
    },
    Routine {
        name: "cpu",
        at: 0x7c12,
        why: "CPUID leaf 0 is the vendor, twelve letters in EBX, EDX, ECX.",
        lines: &[
            (&[0xbe, 0x38, 0x80], "mov si,0x8038"),
            (&[0xe8, 0x99, 0x01], "call 0x7db1"),
            (&[0x66, 0x31, 0xc0], "xor eax,eax"),
            (&[0x0f, 0xa2], "cpuid"),
            (&[0x66, 0x89, 0x1e, 0x00, 0x06], "mov [0x600],ebx"),
            (&[0x66, 0x89, 0x16, 0x04, 0x06], "mov [0x604],edx"),
            (&[0x66, 0x89, 0x0e, 0x08, 0x06], "mov [0x608],ecx"),
            (&[0xbe, 0x00, 0x06], "mov si,0x600"),
            (&[0xe8, 0x7f, 0x01], "call 0x7db1"),
        ],
    },
    Routine {
        name: "hypervisor",
        at: 0x7c32,
        why: "Leaf 1 says whether there is a hypervisor (ECX bit 31), leaf 0x4000_0000 \
              which: EBX, ECX, EDX.",
        lines: &[
            (&[0x66, 0xb8, 0x01, 0x00, 0x00, 0x00], "mov eax,1"),
            (&[0x0f, 0xa2], "cpuid"),
            (&[0x66, 0xf7, 0xc1, 0x00, 0x00, 0x00, 0x80], "test ecx,0x80000000"),
            (&[0x74, 0x23], "je short 0x7c66"),
            (&[0x66, 0xb8, 0x00, 0x00, 0x00, 0x40], "mov eax,0x40000000"),
            (&[0x0f, 0xa2], "cpuid"),
            (&[0x66, 0x89, 0x1e, 0x10, 0x06], "mov [0x610],ebx"),
            (&[0x66, 0x89, 0x0e, 0x14, 0x06], "mov [0x614],ecx"),
            (&[0x66, 0x89, 0x16, 0x18, 0x06], "mov [0x618],edx"),
            (&[0xbe, 0x42, 0x80], "mov si,0x8042"),
            (&[0xe8, 0x51, 0x01], "call 0x7db1"),
            (&[0xbe, 0x10, 0x06], "mov si,0x610"),
            (&[0xe8, 0x4b, 0x01], "call 0x7db1"),
        ],
    },
    Routine {
        name: "primes",
        at: 0x7c66,
        why: "Trial division. BX is the candidate, CX the divisor, DI counts the primes, \
              BP adds them up.",
        lines: &[
            (&[0xbb, 0x02, 0x00], "mov bx,2"),
            (&[0x31, 0xff], "xor di,di"),
            (&[0x31, 0xed], "xor bp,bp"),
            (&[0xb9, 0x02, 0x00], "mov cx,2"),
            (&[0x89, 0xc8], "mov ax,cx"),
            (&[0xf7, 0xe1], "mul cx"),
            (&[0x39, 0xd8], "cmp ax,bx"),
            (&[0x77, 0x0d], "ja short 0x7c85"),
            (&[0x89, 0xd8], "mov ax,bx"),
            (&[0x31, 0xd2], "xor dx,dx"),
            (&[0xf7, 0xf1], "div cx"),
            (&[0x85, 0xd2], "test dx,dx"),
            (&[0x74, 0x06], "je short 0x7c88"),
            (&[0x41], "inc cx"),
            (&[0xeb, 0xeb], "jmp short 0x7c70"),
            (&[0x47], "inc di"),
            (&[0x01, 0xdd], "add bp,bx"),
            (&[0x43], "inc bx"),
            (&[0x83, 0xfb, 0x64], "cmp bx,0x64"),
            (&[0x72, 0xdf], "jb short 0x7c6d"),
            (&[0xbe, 0x4c, 0x80], "mov si,0x804c"),
            (&[0xe8, 0x1d, 0x01], "call 0x7db1"),
            (&[0x89, 0xf8], "mov ax,di"),
            (&[0xe8, 0x23, 0x01], "call 0x7dbc"),
            (&[0xbe, 0x58, 0x80], "mov si,0x8058"),
            (&[0xe8, 0x12, 0x01], "call 0x7db1"),
            (&[0x89, 0xe8], "mov ax,bp"),
            (&[0xe8, 0x18, 0x01], "call 0x7dbc"),
        ],
    },
    Routine {
        name: "memory",
        at: 0x7ca4,
        why: "From 64 KiB on, 128 pages: the first word of each is its segment, the last \
              word the complement.",
        lines: &[
            (&[0xb9, 0x80, 0x00], "mov cx,0x80"),
            (&[0xb8, 0x00, 0x10], "mov ax,0x1000"),
            (&[0x8e, 0xc0], "mov es,ax"),
            (&[0x89, 0xc3], "mov bx,ax"),
            (&[0xf7, 0xd3], "not bx"),
            (&[0x26, 0xa3, 0x00, 0x00], "mov [es:0],ax"),
            (&[0x26, 0x89, 0x1e, 0xfe, 0x0f], "mov [es:0xffe],bx"),
            (&[0x05, 0x00, 0x01], "add ax,0x100"),
            (&[0xe2, 0xec], "loop 0x7caa"),
        ],
    },
    Routine {
        name: "check",
        at: 0x7cbe,
        why: "All pages are written before the first is read back. DI counts the pages \
              that hold what was written.",
        lines: &[
            (&[0xb9, 0x80, 0x00], "mov cx,0x80"),
            (&[0xb8, 0x00, 0x10], "mov ax,0x1000"),
            (&[0x31, 0xff], "xor di,di"),
            (&[0x8e, 0xc0], "mov es,ax"),
            (&[0x89, 0xc3], "mov bx,ax"),
            (&[0xf7, 0xd3], "not bx"),
            (&[0x26, 0x39, 0x06, 0x00, 0x00], "cmp [es:0],ax"),
            (&[0x75, 0x08], "jne short 0x7cdb"),
            (&[0x26, 0x39, 0x1e, 0xfe, 0x0f], "cmp [es:0xffe],bx"),
            (&[0x75, 0x01], "jne short 0x7cdb"),
            (&[0x47], "inc di"),
            (&[0x05, 0x00, 0x01], "add ax,0x100"),
            (&[0xe2, 0xe6], "loop 0x7cc6"),
            (&[0xbe, 0x72, 0x80], "mov si,0x8072"),
            (&[0xe8, 0xcb, 0x00], "call 0x7db1"),
            (&[0x89, 0xf8], "mov ax,di"),
            (&[0xe8, 0xd1, 0x00], "call 0x7dbc"),
            (&[0xbe, 0x7e, 0x80], "mov si,0x807e"),
            (&[0xe8, 0xc0, 0x00], "call 0x7db1"),
        ],
    },
    Routine {
        name: "timer",
        at: 0x7cf1,
        why: "Interrupt vector 0x20 leads to `tick`; the first interrupt controller (ports \
              0x20, 0x21) gets vectors from 0x20 on and all lines but the timer's masked, \
              the second (0xa1) all.",
        lines: &[
            (&[0xc7, 0x06, 0x80, 0x00, 0xa6, 0x7d], "mov word [0x80],0x7da6"),
            (&[0xc7, 0x06, 0x82, 0x00, 0x00, 0x00], "mov word [0x82],0"),
            (&[0xb0, 0x11], "mov al,0x11"),
            (&[0xe6, 0x20], "out 0x20,al"),
            (&[0xb0, 0x20], "mov al,0x20"),
            (&[0xe6, 0x21], "out 0x21,al"),
            (&[0xb0, 0x04], "mov al,4"),
            (&[0xe6, 0x21], "out 0x21,al"),
            (&[0xb0, 0x01], "mov al,1"),
            (&[0xe6, 0x21], "out 0x21,al"),
            (&[0xb0, 0xfe], "mov al,0xfe"),
            (&[0xe6, 0x21], "out 0x21,al"),
            (&[0xb0, 0xff], "mov al,0xff"),
            (&[0xe6, 0xa1], "out 0xa1,al"),
        ],
    },
    Routine {
        name: "pit",
        at: 0x7d15,
        why: "Channel 0 of the interval timer as a rate generator: 1193182 Hz / 11932 = \
              100 Hz.",
        lines: &[
            (&[0xb0, 0x34], "mov al,0x34"),
            (&[0xe6, 0x43], "out 0x43,al"),
            (&[0xb0, 0x9c], "mov al,0x9c"),
            (&[0xe6, 0x40], "out 0x40,al"),
            (&[0xb0, 0x2e], "mov al,0x2e"),
            (&[0xe6, 0x40], "out 0x40,al"),
        ],
    },
    Routine {
        name: "wait",
        at: 0x7d21,
        why: "STI lets interrupts in only after the next instruction, so that none is lost \
              before HLT.",
        lines: &[
            (&[0xfb], "sti"),
            (&[0xf4], "hlt"),
            (&[0xfa], "cli"),
            (&[0x83, 0x3e, 0x20, 0x06, 0x0a], "cmp word [0x620],0xa"),
            (&[0x72, 0xf6], "jb short 0x7d21"),
            (&[0xbe, 0xaa, 0x80], "mov si,0x80aa"),
            (&[0xe8, 0x80, 0x00], "call 0x7db1"),
            (&[0xa1, 0x20, 0x06], "mov ax,[0x620]"),
            (&[0xe8, 0x85, 0x00], "call 0x7dbc"),
            (&[0xbe, 0xb6, 0x80], "mov si,0x80b6"),
            (&[0xe8, 0x74, 0x00], "call 0x7db1"),
        ],
    },
    Routine {
        name: "counter",
        at: 0x7d3d,
        why: "The demo's own device answers at 0xd0000, where this machine has no RAM. \
              Writes add up, a read gives the sum.",
        lines: &[
            (&[0xb8, 0x00, 0xd0], "mov ax,0xd000"),
            (&[0x8e, 0xc0], "mov es,ax"),
            (&[0x66, 0xb9, 0x01, 0x00, 0x00, 0x00], "mov ecx,1"),
            (&[0x26, 0x66, 0x89, 0x0e, 0x00, 0x00], "mov [es:0],ecx"),
            (&[0x66, 0x41], "inc ecx"),
            (&[0x66, 0x83, 0xf9, 0x0a], "cmp ecx,0xa"),
            (&[0x76, 0xf2], "jbe short 0x7d48"),
            (&[0xbe, 0xcf, 0x80], "mov si,0x80cf"),
            (&[0xe8, 0x55, 0x00], "call 0x7db1"),
            (&[0x26, 0x66, 0xa1, 0x00, 0x00], "mov eax,[es:0]"),
            (&[0xe8, 0x58, 0x00], "call 0x7dbc"),
            (&[0xbe, 0xee, 0x80], "mov si,0x80ee"),
            (&[0xe8, 0x47, 0x00], "call 0x7db1"),
        ],
    },
    Routine {
        name: "clock",
        at: 0x7d6a,
        why: "The CMOS clock: register number to port 0x70, its value from port 0x71, in \
              binary coded decimals. Not while it counts up (register 0x0a bit 7).",
        lines: &[
            (&[0xbe, 0x0b, 0x81], "mov si,0x810b"),
            (&[0xe8, 0x41, 0x00], "call 0x7db1"),
            (&[0xb0, 0x0a], "mov al,0xa"),
            (&[0xe6, 0x70], "out 0x70,al"),
            (&[0xe4, 0x71], "in al,0x71"),
            (&[0xa8, 0x80], "test al,0x80"),
            (&[0x75, 0xf6], "jne short 0x7d70"),
            (&[0xbe, 0x00, 0x80], "mov si,0x8000"),
            (&[0xad], "lodsw"),
            (&[0xe6, 0x70], "out 0x70,al"),
            (&[0xe4, 0x71], "in al,0x71"),
            (&[0xe8, 0x4b, 0x00], "call 0x7dd0"),
            (&[0x88, 0xe0], "mov al,ah"),
            (&[0xe8, 0x5a, 0x00], "call 0x7de4"),
            (&[0x81, 0xfe, 0x0e, 0x80], "cmp si,0x800e"),
            (&[0x72, 0xed], "jb short 0x7d7d"),
            (&[0xbe, 0x17, 0x81], "mov si,0x8117"),
            (&[0xe8, 0x1b, 0x00], "call 0x7db1"),
        ],
    },
    Routine {
        name: "power",
        at: 0x7d96,
        why: "ACPI: sleep type 5 and sleep enable to the PM1 control register. The \
              instruction after it never runs.",
        lines: &[
            (&[0xbe, 0x1c, 0x81], "mov si,0x811c"),
            (&[0xe8, 0x15, 0x00], "call 0x7db1"),
            (&[0xba, 0x04, 0x06], "mov dx,0x604"),
            (&[0xb8, 0x00, 0x34], "mov ax,0x3400"),
            (&[0xef], "out dx,ax"),
            (&[0xf4], "hlt"),
            (&[0xeb, 0xfd], "jmp short 0x7da3"),
        ],
    },
    Routine {
        name: "tick",
        at: 0x7da6,
        why: "The timer's interrupt: count it, and tell the interrupt controller that it \
              was seen.",
        lines: &[
            (&[0x50], "push ax"),
            (&[0xff, 0x06, 0x20, 0x06], "inc word [0x620]"),
            (&[0xb0, 0x20], "mov al,0x20"),
            (&[0xe6, 0x20], "out 0x20,al"),
            (&[0x58], "pop ax"),
            (&[0xcf], "iret"),
        ],
    },
    Routine {
        name: "puts",
        at: 0x7db1,
        why: "Prints from SI on, up to a zero.",
        lines: &[
            (&[0xac], "lodsb"),
            (&[0x84, 0xc0], "test al,al"),
            (&[0x74, 0x05], "je short 0x7dbb"),
            (&[0xe8, 0x2b, 0x00], "call 0x7de4"),
            (&[0xeb, 0xf6], "jmp short 0x7db1"),
            (&[0xc3], "ret"),
        ],
    },
    Routine {
        name: "putn",
        at: 0x7dbc,
        why: "Prints AX in decimal: the digits before the last by itself, then the last.",
        lines: &[
            (&[0x31, 0xd2], "xor dx,dx"),
            (&[0xbb, 0x0a, 0x00], "mov bx,0xa"),
            (&[0xf7, 0xf3], "div bx"),
            (&[0x52], "push dx"),
            (&[0x85, 0xc0], "test ax,ax"),
            (&[0x74, 0x03], "je short 0x7dcb"),
            (&[0xe8, 0xf1, 0xff], "call 0x7dbc"),
            (&[0x58], "pop ax"),
            (&[0x04, 0x30], "add al,0x30"),
            (&[0xeb, 0x14], "jmp short 0x7de4"),
        ],
    },
    Routine {
        name: "putbcd",
        at: 0x7dd0,
        why: "Prints the two decimal digits in AL.",
        lines: &[
            (&[0x50], "push ax"),
            (&[0xc0, 0xe8, 0x04], "shr al,4"),
            (&[0x04, 0x30], "add al,0x30"),
            (&[0xe8, 0x0b, 0x00], "call 0x7de4"),
            (&[0x58], "pop ax"),
            (&[0x50], "push ax"),
            (&[0x24, 0x0f], "and al,0xf"),
            (&[0x04, 0x30], "add al,0x30"),
            (&[0xe8, 0x02, 0x00], "call 0x7de4"),
            (&[0x58], "pop ax"),
            (&[0xc3], "ret"),
        ],
    },
    Routine {
        name: "putc",
        at: 0x7de4,
        why: "Prints AL, unless it is zero, as soon as the line status register (port \
              0x3fd) says that there is room.",
        lines: &[
            (&[0x84, 0xc0], "test al,al"),
            (&[0x74, 0x10], "je short 0x7df8"),
            (&[0x52], "push dx"),
            (&[0x50], "push ax"),
            (&[0xba, 0xfd, 0x03], "mov dx,0x3fd"),
            (&[0xec], "in al,dx"),
            (&[0xa8, 0x20], "test al,0x20"),
            (&[0x74, 0xfb], "je short 0x7ded"),
            (&[0x58], "pop ax"),
            (&[0xba, 0xf8, 0x03], "mov dx,0x3f8"),
            (&[0xee], "out dx,al"),
            (&[0x5a], "pop dx"),
            (&[0xc3], "ret"),
        ],
    },
];
