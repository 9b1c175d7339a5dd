//! Alone in its process, because it counts what the process has open.
#![expect(clippy::unwrap_used, reason = "test code")]

mod backend;

use std::{fs, sync::Mutex};

use backend::{Backend, Lie, Options, Scratch};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use purlin_vhost_user::{Settings, VhostUser};

fn open() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Tests count what the other opens.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn descriptors_that_a_back_end_sends_unasked_are_closed() {
    let _alone = ALONE.lock();
    let before = open();
    for lie in [Lie::File, Lie::Files, Lie::AllFiles].repeat(20) {
        let scratch = Scratch::new();
        let options = Options { lie: Some((24, lie)), ..Options::default() };
        let _backend = Backend::new(&scratch.socket("a"), options);
        VhostUser::<2>::connect(scratch.socket("a"), Settings::block()).unwrap_err();
    }
    assert_eq!(open(), before);
}

/// The kernel then hands over some, and says that there were more.
#[test]
fn descriptors_for_which_the_process_has_no_room_are_closed() {
    let _alone = ALONE.lock();
    let scratch = Scratch::new();
    let before = open();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(before).unwrap() + 60, hard).unwrap();
    let errors: Vec<_> = (0..5)
        .map(|round| {
            let socket = scratch.socket(&round.to_string());
            let options = Options { lie: Some((24, Lie::AllFiles)), ..Options::default() };
            let _backend = Backend::new(&socket, options);
            VhostUser::<2>::connect(socket, Settings::block()).unwrap_err().to_string()
        })
        .collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(open(), before);
    for error in errors {
        assert!(error.contains("more file descriptors than can be taken"), "{error}");
    }
}
