//! What every virtio device must do.

#![expect(clippy::unwrap_used, reason = "test code")]

use purlin_virtio_fs::{Fs, FsConfig};
use virtio::conformance::{self, Request};

fn fs() -> Fs {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
    // Requests are random, and the files are ours.
    let config = FsConfig { read_only: true, ..FsConfig::new("source".parse().unwrap()) };
    Fs::open(source, config).unwrap()
}

fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(40 + body.len()).unwrap();
    let mut bytes = [len.to_le_bytes(), opcode.to_le_bytes()].concat();
    bytes.extend([7_u64, node, 0, 0].map(u64::to_le_bytes).concat());
    bytes.extend(body);
    bytes
}

#[test]
fn it_conforms() {
    conformance::device(fs);
}

#[test]
fn a_request_that_fails_is_answered_in_any_buffers() {
    let mut answer = vec![16, 0, 0, 0];
    answer.extend((-2_i32).to_le_bytes());
    answer.extend(7_u64.to_le_bytes());
    let readable = request(1, 1, b"nothing\0");
    let request = Request { queue: 1, readable, room: 144, answer: Some(answer), len: 16 };
    conformance::serves(fs, &request);
}

#[test]
fn a_request_that_succeeds_is_answered_in_any_buffers() {
    let readable = request(17, 1, &[]);
    conformance::serves(fs, &Request { queue: 1, readable, room: 96, answer: None, len: 96 });
}

#[test]
fn what_forgets_gets_no_answer() {
    let readable = request(2, 1, &1_u64.to_le_bytes());
    conformance::serves(fs, &Request { queue: 0, readable, room: 0, answer: None, len: 0 });
    let batch = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &[9; 16]].concat();
    let readable = request(42, 0, &batch);
    conformance::serves(fs, &Request { queue: 0, readable, room: 0, answer: None, len: 0 });
}
