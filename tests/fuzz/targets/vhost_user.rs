//! The vhost-user front end, with a back end whose every answer is the input's: what an honest one would
//! say, with bytes changed, headers too, and the connection closed in the middle.
#![no_main]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process, thread,
};

use vhost_user::{Settings, VhostUser};
use virtio::conformance::Driver;

const HEADER: usize = 12;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
/// The longest request that there is.
const MOST: usize = 4096;

const GET_FEATURES: u32 = 1;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
/// Those that are answered with a body like their own: rings, configuration, requests in flight.
const ECHOED: [u32; 3] = [11, 24, 31];

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let socket = std::env::temp_dir().join(format!("purlin-fuzz-vhost-user-{}", process::id()));
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).expect("the path is free");
    thread::scope(|scope| {
        // Once only: nobody is there for a second attempt.
        let back_end = scope.spawn(move || {
            let stream = listener.accept().map(|(stream, _)| stream);
            drop(listener);
            stream.ok().and_then(|stream| serve(stream, input))
        });
        if let Ok(device) = VhostUser::<2>::connect(&socket, Settings::block()) {
            drive(device);
        }
        back_end.join().expect("it does not panic");
    });
    let _ = fs::remove_file(&socket);
});

/// What a driver does first, and goes on doing while the back end dies.
fn drive(device: VhostUser<2>) {
    let mut driver = Driver::new(virtio::mmio(device));
    if driver.negotiate(driver.offered()) {
        driver.enable(0);
        driver.set_status(15);
    }
    for _ in 0..4 {
        driver.kick(0);
        driver.turn();
        driver.read_config(0, &mut [0; 8]);
    }
    driver.reset();
}

/// Answers requests until the input ends, or the front end has enough. The value is of no interest.
fn serve(mut stream: UnixStream, mut input: &[u8]) -> Option<()> {
    loop {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).ok()?;
        let [request, flags, size] = [0, 4, 8].map(|at| word(&header, at));
        let mut body = vec![0; usize::try_from(size).ok().filter(|size| *size <= MOST)?];
        stream.read_exact(&mut body).ok()?;
        let Some(honest) = answer(request, flags, body) else { continue };
        let (how, rest) = input.split_first()?;
        input = rest;
        let mut reply =
            [request, 1 | REPLY, u32::try_from(honest.len()).ok()?].map(u32::to_le_bytes).concat();
        reply.extend(honest);
        // The low bits say how many bytes are changed, the highest whether those of the header are.
        let from = if how & 0x80 != 0 { 0 } else { HEADER };
        let count = usize::from(how & 0x3f).min(input.len());
        let (changes, rest) = input.split_at(count);
        input = rest;
        reply.iter_mut().skip(from).zip(changes).for_each(|(byte, change)| *byte ^= change);
        if how & 0x40 != 0 {
            stream.write_all(reply.get(..reply.len() / 2)?).ok()?;
            return None;
        }
        stream.write_all(&reply).ok()?;
    }
}

/// The body of an honest answer, if one is due.
fn answer(request: u32, flags: u32, body: Vec<u8>) -> Option<Vec<u8>> {
    let number = |number: u64| Some(number.to_le_bytes().to_vec());
    match request {
        GET_FEATURES => number(1 << 32 | 1 << 30),
        // MQ, REPLY_ACK and CONFIG.
        GET_PROTOCOL_FEATURES => number(1 | 1 << 3 | 1 << 9),
        GET_QUEUE_NUM => number(1),
        _ if ECHOED.contains(&request) => Some(body),
        _ if flags & NEED_REPLY != 0 => number(0),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    u32::from_le_bytes(word.unwrap_or_default())
}
