//! The console: a terminal that takes everything, a port that nobody reads, one that always has more to
//! say.
#![no_main]

use std::{fs::File, os::unix::net::UnixStream};

use legacy::Backend;
use virtio_console::{Console, Port};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Both ends stay open as long as the device may use them, and their buffers fill.
    let (ours, _theirs) = UnixStream::pair().expect("there are sockets");
    ours.set_nonblocking(true).expect("a socket need not block");
    let console = || {
        let unread = ours.try_clone().expect("there are descriptors");
        let zero = File::open("/dev/zero").expect("every host has it");
        let endless = Backend::null().input(zero).expect("there are descriptors");
        let mut console = Console::new(vec![
            Port::console(Backend::null()),
            Port::stream(Backend::new(unread), "unread"),
            Port::console(endless).named("endless"),
        ])
        .expect("there may be three ports");
        console.resize(80, 25);
        console
    };
    virtio::conformance::fuzz(console, input);
});
