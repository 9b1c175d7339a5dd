//! The fixed hardware as an OS drives it.

use bus::Buses;
use device::{Action, FakeWiring};

use super::*;

struct Machine {
    wiring: FakeWiring,
    buses: Buses,
    button: PowerButton,
}

impl Machine {
    fn new() -> Self {
        let mut wiring = FakeWiring::new().unwrap();
        let button = wiring.attach(AcpiPower::new()).unwrap();
        let buses = wiring.freeze().unwrap();
        Self { wiring, buses, button }
    }

    fn read<const N: usize>(&self, port: u16) -> [u8; N] {
        let mut data = [0; N];
        self.buses.pio.read(port, &mut data);
        data
    }

    fn inw(&self, port: u16) -> u16 {
        u16::from_le_bytes(self.read(port))
    }

    fn inl(&self, port: u16) -> u32 {
        u32::from_le_bytes(self.read(port))
    }

    fn outw(&self, port: u16, value: u16) -> Action {
        self.buses.pio.write(port, &value.to_le_bytes())
    }

    fn raised(&self) -> u64 {
        self.wiring.raised(9).unwrap()
    }
}

#[test]
fn the_button_interrupts_an_os_that_has_enabled_it() {
    let machine = Machine::new();
    machine.outw(0x602, 0x100);
    assert_eq!(machine.raised(), 0);
    machine.button.press_power_button();
    assert_eq!((machine.raised(), machine.inw(0x600)), (1, 0x100));
    machine.outw(0x600, 0x100);
    assert_eq!((machine.raised(), machine.inw(0x600)), (1, 0));
}

#[test]
fn a_press_before_the_os_listens_waits_for_it() {
    let machine = Machine::new();
    machine.button.press_power_button();
    assert_eq!(machine.raised(), 0);
    machine.outw(0x602, 0x100);
    assert_eq!(machine.raised(), 1);
    machine.outw(0x602, 0x120);
    assert_eq!(machine.raised(), 2, "still pending after a write: a new edge");
}

#[test]
fn clearing_other_bits_leaves_the_button_pending() {
    let machine = Machine::new();
    machine.button.press_power_button();
    machine.outw(0x600, 0xfeff);
    assert_eq!(machine.inw(0x600), 0x100);
    machine.buses.pio.write(0x601, &[1]);
    assert_eq!(machine.inw(0x600), 0);
}

#[test]
fn status_and_enable_are_accessible_together() {
    let machine = Machine::new();
    machine.button.press_power_button();
    machine.buses.pio.write(0x600, &[0, 0, 0x20, 0x01]);
    assert_eq!(machine.inl(0x600), 0x0120_0100);
    assert_eq!(machine.raised(), 1);
}

#[test]
fn soft_off_needs_type_5_and_the_enable_bit() {
    let machine = Machine::new();
    assert_eq!(machine.inw(0x604), 1, "SCI_EN");
    assert_eq!(machine.outw(0x604, 5 << 10), Action::Continue);
    assert_eq!(machine.inw(0x604), 5 << 10 | 1);
    for other in [0, 1, 3, 4, 6, 7] {
        assert_eq!(machine.outw(0x604, other << 10 | 1 << 13), Action::Continue);
    }
    assert_eq!(machine.inw(0x604) & 1 << 13, 0, "the enable bit reads 0");
    assert_eq!(machine.outw(0x604, 5 << 10 | 1 << 13), Action::PowerOff);
    assert_eq!(machine.buses.pio.write(0x604, &[0, 0x34, 0, 0]), Action::PowerOff);
    assert_eq!(machine.buses.pio.write(0x605, &[0x34]), Action::PowerOff);
}

#[test]
fn the_reset_register_takes_its_value_only() {
    let machine = Machine::new();
    assert_eq!(machine.buses.pio.write(0x60c, &[0]), Action::Continue);
    assert_eq!(machine.buses.pio.write(0x60c, &[1]), Action::Reset);
    assert_eq!(machine.outw(0x60c, 1), Action::Continue);
    assert_eq!(machine.read(0x60c), [0]);
}

#[test]
fn there_is_no_timer() {
    assert_eq!(Machine::new().inl(0x608), 0xffff_ffff);
}

#[test]
fn accesses_that_no_os_makes_are_refused() {
    let machine = Machine::new();
    assert_eq!(machine.inw(0x601), 0xffff);
    assert_eq!(machine.inl(0x602), 0xffff_ffff);
    assert_eq!(machine.read(0x600), [0xff; 8]);
    assert_eq!(machine.read(0x60d), [0xff]);
    assert_eq!(machine.read(0x60c), [0xff; 4]);
    let status = machine.inw(0x600);
    machine.buses.pio.write(0x601, &[0xff; 2]);
    assert_eq!(machine.inw(0x600), status);
}

#[test]
fn a_restored_machine_goes_on_with_its_pending_press() {
    let machine = Machine::new();
    machine.outw(0x602, 0x100);
    machine.button.press_power_button();
    let saved = lock(&machine.wiring.components[0]).save_section().unwrap();

    let other = Machine::new();
    lock(&other.wiring.components[0]).restore_section(saved).unwrap();
    assert_eq!((other.inw(0x600), other.raised()), (0x100, 1));
}

#[test]
fn bits_that_cannot_be_set_are_refused() {
    let machine = Machine::new();
    let mut component = lock(&machine.wiring.components[0]);
    let good = component.save_section().unwrap();
    for field in ["status", "enable", "control"] {
        let mut bad = good.clone();
        bad.state[field] = serde_json::json!(0x8000);
        assert!(component.restore_section(bad).is_err(), "{field}");
    }
    component.restore_section(good).unwrap();
}
