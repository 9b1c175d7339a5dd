//! A small static program for x86-64 Linux, put together in memory: system calls, a few jumps, and
//! the data that they need.

/// Where the code is, once the program runs.
const CODE: u32 = 0x40_0000;
/// Where the data is.
const DATA: u32 = 0x100_0000;
/// Bytes of the ELF header and of the two program headers.
const HEADERS: u16 = 64 + 2 * 56;
const PAGE: usize = 4096;

/// Code and data so far.
#[derive(Debug, Default)]
pub(super) struct Program {
    code: Vec<u8>,
    data: Vec<u8>,
}

/// A jump that has nowhere to go yet.
#[derive(Debug)]
#[must_use]
pub(super) struct Jump(usize);

/// When to jump, by what the last comparison or test found.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    Always,
    Zero,
    NotZero,
    Negative,
}

impl Program {
    /// Adds text, with a NUL at its end: its address.
    pub(super) fn text(&mut self, text: &[u8]) -> u32 {
        let address = self.next_data();
        self.data.extend(text);
        self.data.push(0);
        address
    }

    /// Adds addresses, with a null at their end: their own address.
    pub(super) fn list(&mut self, addresses: &[u32]) -> u32 {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let address = self.next_data();
        for entry in addresses.iter().copied().chain([0]) {
            self.data.extend(u64::from(entry).to_le_bytes());
        }
        address
    }

    fn next_data(&self) -> u32 {
        // A command line of 4 GiB is refused long before.
        DATA.saturating_add(u32::try_from(self.data.len()).unwrap_or(u32::MAX))
    }

    /// Adds instructions as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.code.extend(bytes);
    }

    /// `number(arguments...)`, up to five of them; the answer is in `eax`.
    pub(super) fn call(&mut self, number: u32, arguments: &[u32]) {
        // mov edi, esi, edx, r10d, r8d
        let registers: [&[u8]; 5] = [&[0xbf], &[0xbe], &[0xba], &[0x41, 0xba], &[0x41, 0xb8]];
        for (register, argument) in registers.into_iter().zip(arguments) {
            self.set(register, *argument);
        }
        self.set(&[0xb8], number);
        self.raw(&[0x0f, 0x05]);
    }

    /// An instruction with `value` as its operand.
    pub(super) fn set(&mut self, instruction: &[u8], value: u32) {
        self.raw(instruction);
        self.raw(&value.to_le_bytes());
    }

    /// Where the next instruction is.
    pub(super) fn here(&self) -> usize {
        self.code.len()
    }

    /// Jumps to a place that is still to come.
    pub(super) fn jump(&mut self, when: When) -> Jump {
        self.raw(match when {
            When::Always => &[0xe9],
            When::Zero => &[0x0f, 0x84],
            When::NotZero => &[0x0f, 0x85],
            When::Negative => &[0x0f, 0x88],
        });
        self.raw(&[0; 4]);
        Jump(self.code.len())
    }

    /// `jump` goes here.
    pub(super) fn land(&mut self, jump: Jump) {
        let here = self.here();
        self.aim(&jump, here);
    }

    /// Jumps to a place that was.
    pub(super) fn back(&mut self, when: When, to: usize) {
        let jump = self.jump(when);
        self.aim(&jump, to);
    }

    fn aim(&mut self, &Jump(from): &Jump, to: usize) {
        let distance =
            i32::try_from(to).unwrap_or(0).wrapping_sub(i32::try_from(from).unwrap_or(0));
        if let Some(operand) = from.checked_sub(4).and_then(|at| self.code.get_mut(at..from)) {
            operand.copy_from_slice(&distance.to_le_bytes());
        }
    }

    /// The program as an ELF file.
    pub(super) fn elf(&self) -> Vec<u8> {
        let code = usize::from(HEADERS) + self.code.len();
        let data = code.next_multiple_of(PAGE);
        let mut file = header();
        file.extend(segment(5, (0, CODE), code)); // read, execute
        file.extend(segment(6, (data, DATA), self.data.len())); // read, write
        file.extend(&self.code);
        file.resize(data, 0);
        file.extend(&self.data);
        file
    }

    #[cfg(test)]
    pub(super) fn code(&self) -> &[u8] {
        &self.code
    }
}

fn header() -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    for half in [2, 62_u16] {
        bytes.extend(half.to_le_bytes()); // an executable for x86-64
    }
    bytes.extend(1_u32.to_le_bytes());
    let entry = u64::from(CODE) + u64::from(HEADERS);
    for word in [entry, 64, 0] {
        bytes.extend(word.to_le_bytes()); // where it starts; its program headers; no sections
    }
    bytes.extend([0; 4]);
    for half in [64, 56, 2, 64, 0, 0_u16] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

fn segment(flags: u32, (offset, address): (usize, u32), len: usize) -> Vec<u8> {
    let mut bytes = [1, flags].map(u32::to_le_bytes).concat();
    let [offset, len] = [offset, len].map(|value| u64::try_from(value).unwrap_or(0));
    let address = u64::from(address);
    for word in [offset, address, address, len, len, 4096] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_go_where_they_should() {
        let mut program = Program::default();
        let ahead = program.jump(When::Zero);
        let here = program.here();
        program.raw(&[0x90]);
        program.back(When::Always, here);
        program.land(ahead);
        assert_eq!(program.code(), [0x0f, 0x84, 6, 0, 0, 0, 0x90, 0xe9, 0xfa, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn data_has_addresses() {
        let mut program = Program::default();
        assert_eq!(program.text(b"ab"), DATA);
        assert_eq!(program.list(&[DATA]), DATA + 8);
        assert_eq!(
            program.data,
            [&b"ab\0\0\0\0\0\0"[..], &[0, 0, 0, 1, 0, 0, 0, 0], &[0; 8]].concat()
        );
    }

    #[test]
    fn the_file_starts_at_its_code() {
        let mut program = Program::default();
        program.raw(&[0xcc]);
        let file = program.elf();
        let entry = u64::from_le_bytes(file[24..32].try_into().unwrap());
        assert_eq!(file[usize::try_from(entry).unwrap() - 0x40_0000], 0xcc);
        assert_eq!(file.len() % PAGE, 0);
    }
}
