//! Alone in its process, because it counts what the process has open.
#![expect(clippy::unwrap_used, reason = "test code")]

mod backend;

use std::fs;

use backend::{Backend, Lie, Options, Scratch};
use purlin_vhost_user::{Settings, VhostUser};

fn open() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn descriptors_that_a_back_end_sends_unasked_are_closed() {
    let before = open();
    for lie in [Lie::File, Lie::Files].repeat(20) {
        let scratch = Scratch::new();
        let options = Options { lie: Some((24, lie)), ..Options::default() };
        let _backend = Backend::new(&scratch.socket("a"), options);
        VhostUser::<2>::connect(scratch.socket("a"), Settings::block()).unwrap_err();
    }
    assert_eq!(open(), before);
}
