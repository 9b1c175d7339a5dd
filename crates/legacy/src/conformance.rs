//! Every device of this crate against the bodies that every device must pass.

use std::{io, time::SystemTime};

use device::{Attach, FakeWiring, conformance};

use crate::{AcpiPower, Backend, Cmos, Com, DebugExit, DebugPort, I8042, Pvpanic, Serial};

fn conforms(device: impl Attach) {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(device).unwrap();
    conformance::bus_device(&mut wiring);
}

#[test]
fn serial_conforms() {
    for com in [Com::Com1, Com::Com2, Com::Com3, Com::Com4] {
        conforms(Serial::new(com, Backend::null()));
    }
}

#[test]
fn i8042_conforms() {
    conforms(I8042::new());
}

#[test]
fn cmos_conforms() {
    conforms(Cmos::new(1 << 30, 0).clock(|| SystemTime::UNIX_EPOCH));
}

#[test]
fn debug_ports_conform() {
    conforms(DebugPort::post());
    conforms(DebugPort::bochs(io::sink()));
    conforms(DebugPort::seabios(io::sink()));
}

#[test]
fn debug_exit_conforms() {
    conforms(DebugExit::new());
}

#[test]
fn pvpanic_conforms() {
    conforms(Pvpanic::new());
}

#[test]
fn acpi_power_conforms() {
    conforms(AcpiPower::new());
}

#[test]
fn all_of_them_fit_into_one_machine() {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(Serial::com1(io::sink())).unwrap();
    wiring.attach(Serial::com2(io::sink())).unwrap();
    wiring.attach(I8042::new()).unwrap();
    wiring.attach(Cmos::new(1 << 30, 0)).unwrap();
    wiring.attach(DebugPort::post()).unwrap();
    wiring.attach(DebugPort::bochs(io::sink())).unwrap();
    wiring.attach(DebugPort::seabios(io::sink())).unwrap();
    wiring.attach(DebugExit::new()).unwrap();
    wiring.attach(Pvpanic::new()).unwrap();
    wiring.attach(AcpiPower::new()).unwrap();
    wiring.freeze().unwrap();
}
