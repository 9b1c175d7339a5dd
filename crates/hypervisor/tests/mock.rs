//! The mock keeps the promises that it is there to test others by.

use arch::IoAddr;
use memory::{Backing, GuestAddress, Ram};
use purlin_hypervisor::{
    EventFd, Exit, Hypervisor, MsiMessage, StateError, Vcpu, Vm, VmConfig, conformance,
    mock::{Host, Played, Script},
};

#[expect(clippy::unwrap_used, clippy::panic, reason = "part of tests")]
fn read(vcpu: &mut dyn Vcpu, answer: u8) {
    match vcpu.run().unwrap() {
        Exit::PioIn { data, .. } | Exit::MmioRead { data, .. } => data.fill(answer),
        other => panic!("expected a read, got {other:?}"),
    }
}

#[test]
fn the_mock_conforms() {
    conformance::all(&Host::default());
}

#[test]
fn an_answer_counts_only_when_the_next_run_commits_it() {
    let mut script = Script::new([Played::pio_in(0x60, 1), Played::Interrupted]);
    let answers = script.answers();
    read(&mut script, 7);
    assert!(answers.get().is_empty());
    assert_eq!(script.run().unwrap(), Exit::Interrupted);
    assert_eq!(answers.get(), [[7]]);
}

#[test]
fn a_kick_does_not_overtake_the_commit() {
    let mut script = Script::new([Played::MmioRead { addr: 0xd000_0000, len: 4 }]);
    let (answers, kicker) = (script.answers(), script.kicker());
    read(&mut script, 9);
    kicker.kick();
    assert_eq!(script.run().unwrap(), Exit::Interrupted);
    assert_eq!(answers.get(), [[9; 4]]);
}

#[test]
fn state_is_refused_while_an_answer_is_uncommitted() {
    let mut script = Script::new([Played::pio_in(0x60, 1), Played::Interrupted]);
    read(&mut script, 7);
    assert!(matches!(script.save(), Err(StateError::Incomplete { index: 0 })));
    script.run().unwrap();
    assert!(script.save().is_ok());
}

#[test]
fn a_restored_script_goes_on_where_the_other_stopped() {
    let exits = [Played::Interrupted, Played::Reset, Played::PowerOff];
    let mut first = Script::new(exits.clone());
    first.run().unwrap();
    let mut second = Script::new(exits);
    second.restore(&first.save().unwrap()).unwrap();
    assert_eq!(second.run().unwrap(), Exit::Reset);
}

#[test]
fn a_shorter_script_cannot_go_on_with_the_state_of_a_longer_one() {
    let mut long = Script::new([Played::Interrupted, Played::Interrupted]);
    long.run().unwrap();
    long.run().unwrap();
    let state = long.save().unwrap();
    let error = Script::new([Played::Interrupted]).restore(&state).unwrap_err();
    assert_eq!(error.to_string(), "saved script cannot be restored: 2 exits are played; it has 1");
}

#[test]
fn a_script_that_is_over_powers_off_again_and_again() {
    let mut script = Script::new([Played::pio_out(0x80, &[1])]);
    assert_eq!(script.run().unwrap(), Exit::PioOut { port: 0x80, width: 1, data: &[1] });
    assert_eq!(script.run().unwrap(), Exit::PowerOff);
    assert_eq!(script.run().unwrap(), Exit::PowerOff);
}

#[test]
fn an_endless_script_starts_over_with_fresh_reads() {
    let mut script = Script::endless([Played::pio_in(0x60, 2)]);
    for _ in 0..3 {
        match script.run().unwrap() {
            Exit::PioIn { data, .. } => {
                assert_eq!(data, [0xff; 2]);
                data.fill(0);
            }
            other => panic!("expected a read, got {other:?}"),
        }
    }
    assert!(script.answers().get().is_empty());
}

#[test]
fn a_failing_host_is_an_error_of_run() {
    let error = Script::new([Played::Fail]).run().unwrap_err();
    assert_eq!(error.to_string(), "the host cannot run vCPU 0");
}

#[test]
fn vcpus_play_the_scripts_of_their_index() {
    let host = Host::new([Script::new([Played::Reset]), Script::new([Played::Halted])]);
    let vm = host.create_vm(&VmConfig::default()).unwrap();
    let mut second = vm.create_vcpu(1).unwrap();
    let mut first = vm.create_vcpu(0).unwrap();
    assert_eq!(first.run().unwrap(), Exit::Reset);
    assert_eq!(second.run().unwrap(), Exit::Halted);
}

#[test]
fn raised_lines_are_counted_and_routed_ones_become_messages() {
    let machine = Host::default().machine();
    let message = MsiMessage { address: 0xfee0_0000, data: 0x31 };
    let (plain, routed) = (machine.lines().irqfd(5).unwrap(), machine.lines().irqfd(30).unwrap());
    machine.msi().unwrap().route(30, Some(message)).unwrap();
    plain.write(2).unwrap();
    routed.write(1).unwrap();
    assert_eq!((machine.edges(5), machine.edges(6)), (2, 0));
    assert_eq!(machine.messages(), [message]);
}

#[test]
fn a_line_rises_when_it_was_low() {
    let machine = Host::default().machine();
    let set = |asserted| machine.lines().level(5, asserted).unwrap();
    [true, true, false, true].into_iter().for_each(set);
    assert_eq!((machine.rises(5), machine.rises(6)), (2, 0));
    assert!(machine.is_asserted(5) && !machine.is_asserted(6));
    set(false);
    assert!(!machine.is_asserted(5));
}

#[test]
fn doorbells_ring_for_their_value_only() {
    let machine = Host::default().machine();
    let bell = EventFd::new(libc::EFD_NONBLOCK).unwrap();
    machine.doorbells().listen(IoAddr::Mmio(0xd000_0050), Some(1), &bell).unwrap();
    assert!(!machine.ring(IoAddr::Mmio(0xd000_0050), 0));
    assert!(machine.ring(IoAddr::Mmio(0xd000_0050), 1));
    assert_eq!(bell.read().unwrap(), 1);
}

#[test]
fn mapped_ram_is_known_with_its_rights() {
    let machine = Host::default().machine();
    let ranges = [(GuestAddress(0), 0x1000), (GuestAddress(0x10_0000), 0x1000)];
    let ram = Ram::new(&ranges, Backing::Anonymous).unwrap();
    let regions: Vec<_> = ram.regions().collect();
    machine.map(regions[0].clone()).unwrap();
    machine.map_read_only(regions[1].clone()).unwrap();
    let rights = [0xfff, 0x1000, 0x10_0000].map(|address| machine.ram(address));
    assert_eq!(rights, [Some(true), None, Some(false)]);
}
