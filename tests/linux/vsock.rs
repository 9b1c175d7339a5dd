//! Sockets between guest and host, by the driver of a stock kernel and socat.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use harness::Scratch;

use crate::{BOOT, Guest, value};

/// A guest cannot tell when its service listens, so the host asks until then.
const LISTENING: Duration = Duration::from_secs(60);

/// Sends back what it receives, to as many as come.
fn echo(path: PathBuf) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            thread::spawn(move || {
                let mut client = client.unwrap();
                std::io::copy(&mut client.try_clone().unwrap(), &mut client).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
            });
        }
    });
}

/// A connection to `port` of the guest, if it accepts.
fn dial(path: &Path, port: u32) -> Option<BufReader<UnixStream>> {
    let mut stream = BufReader::new(UnixStream::connect(path).unwrap());
    writeln!(stream.get_mut(), "CONNECT {port}").unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line.starts_with("OK ").then_some(stream)
}

fn dial_until_accepted(path: &Path, port: u32) -> BufReader<UnixStream> {
    let end = Instant::now() + LISTENING;
    loop {
        if let Some(stream) = dial(path, port) {
            return stream;
        }
        assert!(Instant::now() < end, "the guest does not accept within {LISTENING:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends `seed` kilobytes and some through the guest.
fn talk(path: &Path, seed: u8) {
    let mut stream = dial_until_accepted(path, 52);
    let sent: Vec<u8> = (0..usize::from(seed) * 1000 + 1)
        .map(|at| seed.wrapping_mul(31).wrapping_add(u8::try_from(at % 251).unwrap()))
        .collect();
    let mut writer = stream.get_ref().try_clone().unwrap();
    let copy = sent.clone();
    let writer = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert!(received == sent, "{} bytes of {} came back", received.len(), sent.len());
}

/// Guest and host talk on `bus`.
fn talks_both_ways(test: &str, bus: &str) {
    let Some(guest) = Guest::new(test, "vsock") else { return };
    // Short: such paths have an end.
    let scratch = Scratch::new("vsock");
    let path = scratch.path("s");
    let place = |port: u32| scratch.path(&format!("s_{port}"));
    echo(place(50));
    let end = UnixListener::bind(place(51)).unwrap();
    let flags = ["--bus", bus, "--vsock", path.to_str().unwrap()];
    let mut purlin = guest.programs().arguments(flags).start();
    purlin.expect("PURLIN-READY vsock", BOOT);

    assert!(dial(&path, 999).is_none(), "the guest accepts where nobody listens");
    let talks: Vec<_> = (1..=20)
        .map(|seed| {
            let path = path.clone();
            thread::spawn(move || talk(&path, seed * 10))
        })
        .collect();
    talks.into_iter().for_each(|talk| talk.join().unwrap());
    end.accept().unwrap().0.write_all(b"has seen enough").unwrap();

    let exit = purlin.wait(BOOT);
    let output = exit.output;
    for ok in ["PURLIN-OK echo", "PURLIN-OK refused", "PURLIN-END vsock 0"] {
        assert!(output.contains(ok), "{output}");
    }
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    assert_eq!(value(&output, "PURLIN-MANY "), Some("1 2 3 4 5 6 7 8"), "{output}");
    assert_eq!(value(&output, "PURLIN-HOST "), Some("has seen enough"), "{output}");
    assert_eq!(exit.status, 0, "{output}");
    assert!(!path.exists(), "the socket is left behind");
}

#[test]
fn a_stock_kernel_talks_to_the_host_and_the_host_to_it() {
    talks_both_ways("a_stock_kernel_talks_to_the_host_and_the_host_to_it", "pci");
}

#[test]
fn sockets_work_by_mmio_too() {
    talks_both_ways("sockets_work_by_mmio_too", "mmio");
}
