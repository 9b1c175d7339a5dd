//! Pages that cannot be written, and pages that were.

use memory::{Bytes, MemoryRegionAddress};

use super::{Guest, RAM, Seen, code, out};
use crate::{Hypervisor, LogError, SlotId, conformance::ram};

/// Read-only memory is read without an exit; writes to it are exits and change nothing.
pub fn writes_to_read_only_memory_are_exits(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::READ_ONLY);
    let rom = ram(RAM as u64, 0x1000);
    rom.write_obj(0x42u8, MemoryRegionAddress(0)).expect("the VMM writes");
    guest.vm.map_read_only(rom.clone()).expect("read-only memory is mapped");
    assert_eq!(guest.next(), out(0x80, &[0x42]));
    assert_eq!(guest.next(), Seen::Write { addr: RAM as u64, data: vec![0x77] });
    assert_eq!(rom.read_obj::<u8>(MemoryRegionAddress(0)).expect("the VMM reads"), 0x42);
}

/// Where there is a dirty log, each round names the pages written in it, and no others.
pub fn the_dirty_log_names_written_pages(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::new(hypervisor, code::WRITES);
    let slot = SlotId(0);
    let vm = guest.vm.clone();
    let Some(log) = vm.dirty_log() else { return };
    match log.take(slot) {
        Err(LogError::NotStarted(0)) => {}
        other => panic!("nothing is tracked yet, but got {other:?}"),
    }
    guest.next();
    log.start(slot).expect("tracking starts");
    guest.next();
    let round = log.take(slot).expect("the first round is taken");
    assert_eq!(round.len() as u64, guest.pages().div_ceil(64));
    assert_eq!(written(&round), [5]);
    guest.next();
    assert_eq!(written(&log.take(slot).expect("the second round is taken")), [9]);
    assert!(written(&log.take(slot).expect("an empty round is taken")).is_empty());
    log.stop(slot).expect("tracking stops");
    assert!(log.take(slot).is_err(), "tracking has stopped");
    assert!(log.start(SlotId(77)).is_err(), "there is no slot 77");
}

/// The numbers of the set bits.
fn written(round: &[u64]) -> Vec<u64> {
    let pages = round.len() as u64 * 64;
    let set = |page: &u64| {
        let word = usize::try_from(page / 64).ok().and_then(|word| round.get(word));
        word.is_some_and(|word| word >> (page % 64) & 1 != 0)
    };
    (0..pages).filter(set).collect()
}
