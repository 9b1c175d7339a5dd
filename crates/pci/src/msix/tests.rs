use super::*;
use crate::testing::TestVector;

const MESSAGE: Message = Message { address: 0xfee0_1000, data: 0x41 };

fn msix(vectors: usize) -> (Arc<Msix>, Vec<Arc<TestVector>>) {
    let sources: Vec<Arc<TestVector>> = (0..vectors).map(|_| Arc::default()).collect();
    let dynamic = sources.iter().map(|source| Arc::clone(source) as Arc<dyn MsiVector>);
    (Arc::new(Msix::new(dynamic.collect())), sources)
}

/// Writes entry `vector`, its control word last, as a driver does.
fn program(msix: &Msix, vector: u64, message: Message, control: u32) {
    let at = vector * ENTRY;
    msix.table_write(at, &message.address.to_le_bytes()).unwrap();
    msix.table_write(at + 8, &message.data.to_le_bytes()).unwrap();
    msix.table_write(at + 12, &control.to_le_bytes()).unwrap();
}

fn delivered(vector: &TestVector) -> Vec<Message> {
    lock(&vector.delivered).clone()
}

fn pending(msix: &Msix) -> u64 {
    let mut data = [0; 8];
    msix.pba_read(0, &mut data).unwrap();
    u64::from_le_bytes(data)
}

#[test]
fn vectors_are_masked_at_first() {
    let (msix, _) = msix(2);
    let mut data = [0; 4];
    msix.table_read(28, &mut data).unwrap();
    assert_eq!(data, [1, 0, 0, 0]);
}

#[test]
fn an_unmasked_vector_delivers_its_message() {
    let (msix, sources) = msix(2);
    msix.control(true, false);
    program(&msix, 1, MESSAGE, 0);
    msix.line(1).raise().unwrap();
    assert_eq!(delivered(&sources[1]), [MESSAGE]);
    assert!(delivered(&sources[0]).is_empty());
}

#[test]
fn a_masked_vector_is_pending_and_delivered_once_on_unmask() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    program(&msix, 0, MESSAGE, 1);
    msix.raise(0).unwrap();
    msix.raise(0).unwrap();
    assert_eq!((pending(&msix), delivered(&sources[0])), (1, vec![]));
    msix.table_write(12, &[0; 4]).unwrap();
    assert_eq!((pending(&msix), delivered(&sources[0])), (0, vec![MESSAGE]));
}

#[test]
fn the_function_mask_masks_every_vector() {
    let (msix, sources) = msix(2);
    msix.control(true, true);
    program(&msix, 0, MESSAGE, 0);
    program(&msix, 1, MESSAGE, 1);
    msix.raise(0).unwrap();
    msix.raise(1).unwrap();
    assert_eq!(pending(&msix), 0b11);
    msix.control(true, false);
    assert_eq!(pending(&msix), 0b10, "vector 1 has a mask of its own");
    assert_eq!(delivered(&sources[0]), [MESSAGE]);
}

#[test]
fn what_is_raised_while_msix_is_off_is_lost_and_switching_off_forgets_what_is_pending() {
    let (msix, sources) = msix(1);
    program(&msix, 0, MESSAGE, 0);
    msix.raise(0).unwrap();
    msix.control(true, true);
    msix.raise(0).unwrap();
    msix.control(false, false);
    msix.control(true, false);
    assert_eq!((pending(&msix), delivered(&sources[0])), (0, vec![]));
}

#[test]
fn a_message_that_is_the_same_is_programmed_once() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    for control in [0, 1, 0, 1, 0] {
        program(&msix, 0, MESSAGE, control);
    }
    assert_eq!(*lock(&sources[0].programs), 1);
}

#[test]
fn a_changed_message_is_what_is_delivered_next() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    program(&msix, 0, MESSAGE, 0);
    let other = Message { data: 0x42, ..MESSAGE };
    program(&msix, 0, other, 0);
    msix.raise(0).unwrap();
    assert_eq!(delivered(&sources[0]), [other]);
}

#[test]
fn a_message_that_the_host_refuses_is_an_error_until_another_is_written() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    program(&msix, 0, MESSAGE, 0);
    program(&msix, 0, Message { address: 0xbad0_0000, data: 1 }, 0);
    assert!(msix.raise(0).is_err());
    msix.table_write(12, &[1, 0, 0, 0]).unwrap();
    program(&msix, 0, MESSAGE, 0);
    assert_eq!(delivered(&sources[0]), [MESSAGE], "the one that was refused");
    msix.raise(0).unwrap();
    assert_eq!(delivered(&sources[0]), [MESSAGE; 2]);
}

#[test]
fn a_message_that_the_host_refused_is_tried_again_at_the_next_unmask() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    *lock(&sources[0].refuse) = 2;
    program(&msix, 0, MESSAGE, 0);
    assert!(msix.raise(0).is_err());
    for control in [1_u32, 0] {
        msix.table_write(12, &control.to_le_bytes()).unwrap();
    }
    assert_eq!(delivered(&sources[0]), [MESSAGE], "what was raised meanwhile comes now");
    msix.raise(0).unwrap();
    assert_eq!((delivered(&sources[0]), pending(&msix)), (vec![MESSAGE; 2], 0));
}

#[test]
fn a_message_that_the_host_refused_is_tried_again_when_the_function_is_unmasked() {
    let (msix, sources) = msix(1);
    msix.control(true, false);
    *lock(&sources[0].refuse) = 2;
    program(&msix, 0, MESSAGE, 0);
    assert!(msix.raise(0).is_err());
    msix.control(true, true);
    msix.control(true, false);
    assert_eq!(delivered(&sources[0]), [MESSAGE]);
}

#[test]
fn a_message_that_the_host_refuses_is_tried_again_now_and_then() {
    const RAISES: u32 = 1_000_000;
    let (msix, sources) = msix(1);
    msix.control(true, false);
    *lock(&sources[0].refuse) = u32::MAX;
    program(&msix, 0, MESSAGE, 0);
    assert!((0..RAISES).all(|_| msix.raise(0).is_err()));
    let tries = u32::MAX - *lock(&sources[0].refuse);
    assert_eq!(tries, 1 + RAISES.ilog2() + 1, "once as it is written, and at 1, 2, 4, ...");
    *lock(&sources[0].refuse) = 0;
    // Up to the next power of two.
    while msix.raise(0).is_err() {}
    assert_eq!(delivered(&sources[0]), [MESSAGE]);
}

#[test]
fn a_vector_that_is_not_there_is_an_error() {
    let (msix, _) = msix(1);
    msix.control(true, false);
    assert!(msix.raise(1).is_err());
}

#[test]
fn the_table_takes_whole_aligned_dwords_and_qwords_only() {
    let (msix, _) = msix(1);
    let write = |offset, len| msix.table_write(offset, &[0xff; 8][..len]).err();
    assert_eq!([1, 2, 3].map(|len| write(0, len)), [Some(AccessError::Width); 3]);
    assert_eq!([write(2, 4), write(4, 8)], [Some(AccessError::Misaligned); 2]);
    assert_eq!([write(16, 4), write(1 << 40, 8)], [Some(AccessError::NoRegister); 2]);
    assert_eq!(write(8, 8), None);
}

#[test]
fn reserved_bits_of_the_table_read_as_zero() {
    let (msix, _) = msix(1);
    msix.table_write(0, &[0xff; 8]).unwrap();
    msix.table_write(8, &[0xff; 8]).unwrap();
    let (mut low, mut high) = ([0; 8], [0; 8]);
    msix.table_read(0, &mut low).unwrap();
    msix.table_read(8, &mut high).unwrap();
    assert_eq!(low, [0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(high, [0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0]);
}

#[test]
fn pending_bits_are_in_order_over_several_qwords() {
    let (msix, _) = msix(70);
    msix.control(true, true);
    msix.raise(9).unwrap();
    msix.raise(69).unwrap();
    let (mut first, mut second) = ([0; 4], [0; 8]);
    msix.pba_read(0, &mut first).unwrap();
    msix.pba_read(8, &mut second).unwrap();
    assert_eq!((first, second), ([0, 2, 0, 0], [0x20, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(msix.pba_read(16, &mut second), Err(AccessError::NoRegister));
}

#[test]
fn a_saved_state_comes_back_with_what_is_pending() {
    let (from, _) = msix(2);
    from.control(true, true);
    program(&from, 1, MESSAGE, 0);
    from.raise(1).unwrap();
    let saved = from.save();
    let (to, sources) = msix(2);
    to.check(&saved).unwrap();
    to.restore(&saved, true, true);
    assert_eq!(to.save(), saved);
    to.control(true, false);
    assert_eq!(delivered(&sources[1]), [MESSAGE]);
}

#[test]
fn a_state_of_another_function_is_refused_with_what_is_wrong() {
    let (msix, _) = msix(1);
    let entry = [0, 0, 0, 1];
    let why =
        |table: Vec<[u32; 4]>, pending| msix.check(&SavedMsix { table, pending }).unwrap_err();
    assert_eq!(why(vec![entry; 2], vec![]), "2 MSI-X vectors instead of 1");
    assert_eq!(why(vec![entry], vec![1]), "MSI-X vector 1 of 1 is pending");
    assert!(why(vec![[1, 0, 0, 0]], vec![]).contains("reserved bits"));
}
