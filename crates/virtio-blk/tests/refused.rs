//! A host that takes no requests by io_uring any more, while the guest runs.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "other tests use the rest")]
mod plain;

use std::{collections::BTreeMap, env, thread};

use plain::{FLUSH, Guest, IN, OK, OUT, Plain};
use purlin_virtio_blk::{Blk, BlkConfig, Engine};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

/// From now on, `io_uring_enter` fails in this thread as if there was no ring.
fn refuse() {
    let action = SeccompAction::Errno(libc::EBADF.unsigned_abs());
    let rules = BTreeMap::from([(libc::SYS_io_uring_enter, Vec::new())]);
    let arch = env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

#[test]
fn a_guest_loses_its_io_uring_and_no_request() {
    let test = || {
        let disk = Plain::new();
        let blk = Blk::new(disk.again(), BlkConfig::default());
        let mut guest = Guest::new(blk.queues(2).engine(Engine::IoUring).unwrap());
        guest.offer(0, 0, (IN, 7));
        guest.driver.kick(0);
        guest.wait(0, 1);
        refuse();
        for round in 0..3 {
            for number in 0..4 {
                guest.put(number, &[round; 512]);
                guest.offer(0, number, (OUT, 100 + number));
                guest.offer(1, 4 + number, (IN, 200 + number));
            }
            guest.offer(0, 8, (FLUSH, 0));
            guest.driver.kick(0);
            guest.driver.kick(1);
            guest.wait(0, 5);
            guest.wait(1, 4);
            assert!([0, 1, 2, 3, 8].iter().all(|number| guest.answer(*number).0 == OK));
            assert!((100..104).all(|sector| disk.sector(sector) == [round; 512]));
            for number in 4..8 {
                assert_eq!(guest.answer(number), (OK, disk.sector(196 + number)));
            }
        }
        assert_eq!(guest.handle.with(|blk| blk.failures()), 0);
        guest.driver.reset();
    };
    // A thread of its own, with which the filter goes.
    thread::spawn(test).join().unwrap();
}
