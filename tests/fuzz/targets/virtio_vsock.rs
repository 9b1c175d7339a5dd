//! The socket device, with a program of the host that connects, and others that listen on the first
//! ports.
#![no_main]

use std::{
    cell::RefCell,
    fs,
    io::Write,
    os::unix::net::{UnixListener, UnixStream},
    process,
};

use nix::sys::signal::{SigSet, Signal};
use virtio_vsock::{Endpoint, Vsock, VsockConfig};

/// Ports of the host on which somebody listens.
const PORTS: u32 = 4;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Rust programs ignore it from their start; this one is libFuzzer's.
    let blocked = SigSet::from(Signal::SIGPIPE).thread_block();
    blocked.expect("a signal can be blocked");
    let directory = std::env::temp_dir().join(format!("purlin-fuzz-vsock-{}", process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).expect("there is a temporary directory");
    let host = RefCell::new((Vec::new(), Vec::new()));
    let vsock = || {
        let (listeners, clients) = &mut *host.borrow_mut();
        let path = directory.join(clients.len().to_string());
        let endpoint = Endpoint::bind(&path).expect("the path is free");
        for port in 0..PORTS {
            let path = format!("{}_{port}", path.display());
            listeners.push(UnixListener::bind(path).expect("the path is free"));
        }
        let mut client = UnixStream::connect(&path).expect("the device listens");
        client.write_all(b"CONNECT 1\nsomething for the guest").expect("a socket has room");
        clients.push(client);
        Vsock::new(endpoint, VsockConfig::default()).expect("the host gives descriptors")
    };
    virtio::conformance::fuzz(vsock, input);
    let _ = fs::remove_dir_all(&directory);
});
