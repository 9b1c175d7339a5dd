use kvm_bindings::KVM_EXIT_NMI;

use super::*;

/// A run page with the exit `reason` and `fields` at their offsets in the exit's own part.
fn page(reason: u32, fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut page = vec![0; 0x3000];
    page[8..12].copy_from_slice(&reason.to_le_bytes());
    for (offset, bytes) in fields {
        page[UNION + offset..][..bytes.len()].copy_from_slice(bytes);
    }
    page
}

fn unexpected(exit: u32) -> Result<Exit<'static>, FaultReason> {
    Err(FaultReason::Unexpected { exit })
}

#[test]
fn a_string_of_port_writes_keeps_its_width() {
    let io: &[u8] = &[1, 2, 0xf8, 0x03, 3, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0];
    let mut page = page(KVM_EXIT_IO, &[(0, io)]);
    page[0x1000..0x1006].copy_from_slice(b"abcdef");
    assert_eq!(decode(&mut page), Ok(Exit::PioOut { port: 0x3f8, width: 2, data: b"abcdef" }));
}

#[test]
fn a_port_read_starts_as_all_ones_and_is_answered_in_the_page() {
    let io: &[u8] = &[0, 4, 0x10, 0, 1, 0, 0, 0, 0x00, 0x10, 0, 0, 0, 0, 0, 0];
    let mut page = page(KVM_EXIT_IO, &[(0, io)]);
    let Ok(Exit::PioIn { port: 0x10, width: 4, data }) = decode(&mut page) else {
        panic!("not a port read")
    };
    assert_eq!(data, [0xff; 4]);
    data.copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(page[0x1000..0x1004], [1, 2, 3, 4]);
}

#[test]
fn port_data_outside_the_page_is_no_exit() {
    let io: &[u8] = &[0, 4, 0x10, 0, 1, 0, 0, 0, 0xfd, 0x2f, 0, 0, 0, 0, 0, 0];
    assert_eq!(decode(&mut page(KVM_EXIT_IO, &[(0, io)])), unexpected(KVM_EXIT_IO));
    let huge: &[u8] = &[0, 4, 0x10, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0x80];
    assert_eq!(decode(&mut page(KVM_EXIT_IO, &[(0, huge)])), unexpected(KVM_EXIT_IO));
}

#[test]
fn memory_mapped_accesses_have_their_length() {
    let addr = 0xd000_0000u64.to_le_bytes();
    let write = page(KVM_EXIT_MMIO, &[(0, &addr), (8, b"xy"), (16, &[2]), (20, &[1])]);
    let read = page(KVM_EXIT_MMIO, &[(0, &addr), (16, &[8])]);
    assert_eq!(decode(&mut write.clone()), Ok(Exit::MmioWrite { addr: 0xd000_0000, data: b"xy" }));
    assert_eq!(
        decode(&mut read.clone()),
        Ok(Exit::MmioRead { addr: 0xd000_0000, data: &mut [0xff; 8] })
    );
}

#[test]
fn a_memory_mapped_access_of_more_than_eight_bytes_is_no_exit() {
    let mut page = page(KVM_EXIT_MMIO, &[(16, &[9])]);
    assert_eq!(decode(&mut page), unexpected(KVM_EXIT_MMIO));
}

#[test]
fn system_events_are_told_apart() {
    let event = |kind: u32| page(KVM_EXIT_SYSTEM_EVENT, &[(0, &kind.to_le_bytes())]);
    assert_eq!(decode(&mut event(KVM_SYSTEM_EVENT_SHUTDOWN)), Ok(Exit::PowerOff));
    assert_eq!(decode(&mut event(KVM_SYSTEM_EVENT_RESET)), Ok(Exit::Reset));
    assert_eq!(decode(&mut event(KVM_SYSTEM_EVENT_CRASH)), Err(FaultReason::GuestCrash));
    assert_eq!(decode(&mut event(99)), unexpected(KVM_EXIT_SYSTEM_EVENT));
}

#[test]
fn a_breakpoint_has_its_address() {
    let mut page = page(KVM_EXIT_DEBUG, &[(8, &0x7c05u64.to_le_bytes())]);
    assert_eq!(decode(&mut page), Ok(Exit::Debug { pc: 0x7c05 }));
}

#[test]
fn an_internal_error_has_at_most_the_words_that_fit() {
    let mut page = page(KVM_EXIT_INTERNAL_ERROR, &[(0, &[1]), (4, &[0xff; 4]), (8, &[7])]);
    let Err(FaultReason::InternalError { suberror, data }) = decode(&mut page) else {
        panic!("not an internal error")
    };
    assert_eq!((suberror, data.len(), data[0]), (1, 16, 7));
}

#[test]
fn what_nothing_here_asks_for_is_named_by_its_number() {
    assert_eq!(decode(&mut page(KVM_EXIT_NMI, &[])), unexpected(KVM_EXIT_NMI));
}

#[test]
fn a_short_page_is_no_exit_and_no_panic() {
    assert_eq!(decode(&mut [0; 8]), unexpected(0));
    assert_eq!(decode(&mut []), unexpected(0));
}
