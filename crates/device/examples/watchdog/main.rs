//! Attaches the [`Watchdog`] to wiring without a machine and plays its guest, by hand.
//!
//! `cargo run -p purlin-device --example watchdog`; how it is made is told in
//! `docs/WRITING_A_DEVICE.md`, from which `include` comments point here.

// Out of its own crate, `device` is the short name that the rest of the workspace uses.
extern crate purlin_device as device;

mod watchdog;

use std::{error::Error, process::ExitCode};

use device::FakeWiring;
use event_manager::{EventManager, SubscriberOps};
use watchdog::Watchdog;

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
fn play() -> Result<(), Box<dyn Error>> {
    let mut wiring = FakeWiring::new()?;
    wiring.attach(Watchdog { port: 0x510, irq: 5 })?;
    let ports = wiring.freeze()?.pio;
    let mut io = EventManager::new()?;
    for subscriber in wiring.subscribers.drain(..) {
        io.add_subscriber(subscriber);
    }

    println!("The guest asks for a bark in 20 ms:    out 0x510, 20");
    ports.write(0x510, &20_u16.to_le_bytes());
    io.run()?;
    println!("The I/O thread has served the timer; interrupt line 5 was raised {:?} time(s)", wiring.raised(5).unwrap_or(0));
    let mut status = [0];
    ports.read(0x512, &mut status);
    println!("The guest asks for the status:         in 0x512 -> {}", status[0]);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "an example shows what it does")]
fn main() -> ExitCode {
    match play() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the watchdog cannot be shown: {error}");
            ExitCode::FAILURE
        }
    }
}
