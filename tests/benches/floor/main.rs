//! Boots the tiny guest with nothing but ioctls, writes what it writes to its serial port to standard
//! output, and goes on until killed: what `purlin run` is measured against.

use std::io::{self, Write};

use floor::{Machine, Seen, guest};

fn main() -> io::Result<()> {
    let mut machine = Machine::new(guest::TINY_RAM)?;
    machine.enter_tiny()?;
    loop {
        if let Seen::Out(guest::SERIAL, byte) = machine.step()? {
            let mut out = io::stdout();
            out.write_all(&[byte])?;
            out.flush()?;
        }
    }
}
