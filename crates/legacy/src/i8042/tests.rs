//! The controller and its keyboard as drivers see them.

use bus::Buses;
use device::{Action, FakeWiring};

use super::*;

struct Machine {
    wiring: FakeWiring,
    buses: Buses,
    keys: Keys,
}

impl Machine {
    fn new() -> Self {
        let mut wiring = FakeWiring::new().unwrap();
        let keys = wiring.attach(I8042::new()).unwrap();
        let buses = wiring.freeze().unwrap();
        Self { wiring, buses, keys }
    }

    fn inb(&self, port: u16) -> u8 {
        let mut data = [0];
        self.buses.pio.read(port, &mut data);
        data[0]
    }

    fn outb(&self, port: u16, value: u8) -> Action {
        self.buses.pio.write(port, &[value])
    }

    /// Everything that waits at the data port.
    fn drain(&self) -> Vec<u8> {
        std::iter::from_fn(|| (self.inb(0x64) & 1 != 0).then(|| self.inb(0x60))).collect()
    }

    /// A command to the controller, and what it answers.
    fn controller(&self, command: u8) -> Vec<u8> {
        assert_eq!(self.outb(0x64, command), Action::Continue);
        self.drain()
    }

    /// A byte to the keyboard, and what it answers.
    fn keyboard(&self, byte: u8) -> Vec<u8> {
        assert_eq!(self.outb(0x60, byte), Action::Continue);
        self.drain()
    }

    fn set_mode(&self, mode: u8) {
        self.outb(0x64, 0x60);
        self.outb(0x60, mode);
    }
}

#[test]
fn tests_of_the_controller_and_the_keyboard_port_pass() {
    let machine = Machine::new();
    assert_eq!(machine.controller(0xaa), [0x55]);
    assert_eq!(machine.controller(0xab), [0x00]);
    assert_ne!(machine.inb(0x64) & 4, 0, "the system flag says that the self test passed");
    assert_ne!(machine.inb(0x64) & 0x10, 0, "the keyboard is not locked");
}

#[test]
fn the_command_byte_is_read_back() {
    let machine = Machine::new();
    machine.set_mode(0x47);
    assert_eq!(machine.controller(0x20), [0x47]);
    machine.controller(0xad);
    assert_eq!(machine.controller(0x20), [0x57]);
    machine.controller(0xae);
    assert_eq!(machine.controller(0x20), [0x47]);
}

#[test]
fn there_is_no_auxiliary_port() {
    let machine = Machine::new();
    assert_eq!(machine.controller(0xa9), [0x02]);
    machine.outb(0x64, 0xd3);
    machine.outb(0x60, 0x5a);
    assert_eq!(machine.inb(0x64) & 0x21, 0x01, "answered, but not as the mouse's");
    assert_eq!(machine.drain(), [0x5a]);
    machine.outb(0x64, 0xd4);
    assert!(machine.keyboard(0xff).is_empty(), "bytes for the mouse do not reach the keyboard");
}

#[test]
fn the_keyboard_identifies_itself_translated_or_not() {
    let machine = Machine::new();
    assert_eq!(machine.keyboard(0xf2), [0xfa, 0xab, 0x41]);
    machine.set_mode(0x05);
    assert_eq!(machine.keyboard(0xf2), [0xfa, 0xab, 0x83]);
}

#[test]
fn keyboard_commands_are_acknowledged() {
    let machine = Machine::new();
    assert_eq!(machine.keyboard(0xff), [0xfa, 0xaa]);
    for command in [0xf4, 0xf5, 0xf6] {
        assert_eq!(machine.keyboard(command), [0xfa]);
    }
    for (command, parameter) in [(0xed, 0x07), (0xf3, 0x20), (0xf0, 0x02)] {
        assert_eq!(machine.keyboard(command), [0xfa]);
        assert_eq!(machine.keyboard(parameter), [0xfa]);
    }
    assert_eq!(machine.keyboard(0xee), [0xee]);
    assert_eq!(machine.keyboard(0x00), [0xfe], "an unknown command is asked for again");
    assert_eq!(machine.keyboard(0xfe), [0xfe], "the last byte is repeated");
}

#[test]
fn a_command_in_place_of_a_parameter_starts_afresh() {
    let machine = Machine::new();
    machine.keyboard(0xed);
    assert_eq!(machine.keyboard(0xf2), [0xfa, 0xab, 0x41]);
}

#[test]
fn scan_code_sets_are_1_and_2() {
    let machine = Machine::new();
    machine.set_mode(0x05);
    machine.keyboard(0xf0);
    assert_eq!(machine.keyboard(0), [0xfa, 2]);
    machine.keyboard(0xf0);
    assert_eq!(machine.keyboard(1), [0xfa]);
    assert!(machine.keys.ctrl_alt_del());
    assert_eq!(machine.drain(), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
    machine.keyboard(0xf0);
    assert_eq!(machine.keyboard(3), [0xfe]);
}

#[test]
fn ctrl_alt_del_arrives_translated_with_an_interrupt_for_each_byte() {
    let machine = Machine::new();
    assert!(machine.keys.ctrl_alt_del());
    assert_eq!(machine.drain(), [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
    assert_eq!(machine.wiring.raised(1), Some(8));
}

#[test]
fn ctrl_alt_del_arrives_raw_when_translation_is_off() {
    let machine = Machine::new();
    machine.set_mode(0x05);
    assert!(machine.keys.ctrl_alt_del());
    let codes = [0x14, 0x11, 0xe0, 0x71, 0xe0, 0xf0, 0x71, 0xf0, 0x11, 0xf0, 0x14];
    assert_eq!(machine.drain(), codes);
}

#[test]
fn nobody_hears_keys_while_scanning_is_off_or_the_guest_does_not_read() {
    let machine = Machine::new();
    machine.keyboard(0xf5);
    assert!(!machine.keys.ctrl_alt_del());
    assert!(machine.drain().is_empty());
    machine.keyboard(0xf4);
    let pressed = (0..100).filter(|_| machine.keys.ctrl_alt_del()).count();
    assert_eq!(pressed, 3);
    assert_eq!(machine.drain().len(), 3 * 8, "whole sequences only");
}

#[test]
fn keys_wait_while_the_keyboard_port_is_off() {
    let machine = Machine::new();
    machine.controller(0xad);
    assert!(machine.keys.ctrl_alt_del());
    assert!(machine.drain().is_empty());
    machine.outb(0x64, 0xae);
    assert_eq!(machine.drain().len(), 8);
}

#[test]
fn interrupts_come_only_while_the_command_byte_has_them_on() {
    let machine = Machine::new();
    machine.set_mode(0x44);
    machine.keyboard(0xf4);
    assert_eq!(machine.wiring.raised(1), Some(0));
    machine.outb(0x60, 0xee);
    machine.set_mode(0x45);
    assert_eq!(machine.wiring.raised(1), Some(1), "the byte that waited is announced");
}

#[test]
fn reset_is_asked_for_in_each_of_the_ways() {
    let machine = Machine::new();
    assert_eq!(machine.outb(0x64, 0xfe), Action::Reset);
    assert_eq!(machine.outb(0x64, 0xf0), Action::Reset);
    assert_eq!(machine.outb(0x64, 0xff), Action::Continue);
    machine.outb(0x64, 0xd1);
    assert_eq!(machine.outb(0x60, 0x02), Action::Reset);
    machine.outb(0x64, 0xd1);
    assert_eq!(machine.outb(0x60, 0xdf), Action::Continue);
}

#[test]
fn a_guest_that_never_reads_cannot_grow_the_queues() {
    let machine = Machine::new();
    for value in (0..=u8::MAX).cycle().take(100_000) {
        machine.outb(0x60, value);
        machine.outb(0x64, value & 0xef);
    }
    assert!(machine.drain().len() <= 64);
}

#[test]
fn port_0x61_is_left_to_the_timer() {
    let machine = Machine::new();
    let ranges: Vec<_> = machine.buses.pio.ranges().map(|at| (at.first(), at.last())).collect();
    assert_eq!(ranges, [(0x60, 0x60), (0x64, 0x64)]);
}

#[test]
fn a_half_read_sequence_survives_a_snapshot() {
    let mut machine = Machine::new();
    machine.keys.ctrl_alt_del();
    assert_eq!((machine.inb(0x60), machine.inb(0x60)), (0x1d, 0x38));
    let saved = lock(&machine.wiring.components[0]).save_section().unwrap();
    machine = Machine::new();
    lock(&machine.wiring.components[0]).restore_section(saved).unwrap();
    assert_eq!(machine.wiring.raised(1), Some(1));
    assert_eq!(machine.drain(), [0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
}
