use std::{
    fs::File,
    io::{Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use vmm_sys_util::tempdir::TempDir;

use super::*;
use crate::FileMode;

fn blocked<T: fmt::Debug>(result: io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Waits until the stream says that something has changed.
fn wait(stream: &Stream) {
    let outer = Epoll::new().unwrap();
    let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
    outer.ctl(ControlOperation::Add, stream.fd(), EpollEvent::new(events, 0)).unwrap();
    assert_eq!(outer.wait(10_000, &mut [EpollEvent::default()]).unwrap(), 1);
}

/// A backend of one end of a pair that blocks, and its other end.
fn pair() -> (Stream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let backend = Backend::new(ours.try_clone().unwrap()).input(ours).unwrap();
    (Stream::new(backend).unwrap(), theirs)
}

#[test]
fn a_descriptor_that_blocks_is_read_only_when_it_has_something() {
    let (mut stream, mut other) = pair();
    let mut buffer = [0; 8];
    assert!(blocked(stream.read(&mut buffer)));
    other.write_all(b"abc").unwrap();
    wait(&stream);
    assert_eq!(stream.read(&mut buffer[..2]).unwrap(), 2);
    assert_eq!(stream.read(&mut buffer).unwrap(), 1);
    assert!(blocked(stream.read(&mut buffer)));
    drop(other);
    wait(&stream);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_file_is_read_to_its_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("end");
    std::fs::write(&path, "abc").unwrap();
    let backend = Backend::null().input(File::open(&path).unwrap()).unwrap();
    let mut stream = Stream::new(backend).unwrap();
    let mut buffer = [0; 8];
    assert_eq!(stream.read(&mut buffer).unwrap(), 3);
    assert_eq!(stream.read(&mut buffer).unwrap(), 0);
}

#[test]
fn what_has_no_input_is_at_its_end() {
    let mut stream = Stream::new(Backend::null()).unwrap();
    assert!(stream.is_connected());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(stream.write(b"abc").unwrap(), 3);
}

#[test]
fn output_that_is_not_read_waits_and_is_all_there_afterwards() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("end");
    let mut stream = Stream::new(Backend::unix_socket(&path).unwrap()).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    assert!(stream.is_connected());
    let mut sent = 0;
    let error = loop {
        match stream.write(&[b'x'; 1000]) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let mut taken = vec![0; sent];
    client.read_exact(&mut taken).unwrap();
    wait(&stream);
    assert_eq!(stream.write(b"y").unwrap(), 1);
    client.read_exact(&mut taken[..1]).unwrap();
    assert_eq!(taken[0], b'y');
}

#[test]
fn clients_of_a_socket_come_and_go() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("end");
    let mut stream = Stream::new(Backend::unix_socket(&path).unwrap()).unwrap();
    let mut buffer = [0; 8];
    for text in [b"one", b"two"] {
        assert!(!stream.is_connected());
        assert!(blocked(stream.read(&mut buffer)));
        assert_eq!(stream.write(b"lost").unwrap(), 4);
        let mut client = UnixStream::connect(&path).unwrap();
        wait(&stream);
        assert!(stream.is_connected());
        client.write_all(text).unwrap();
        wait(&stream);
        assert_eq!(stream.read(&mut buffer).unwrap(), 3);
        assert_eq!(&buffer[..3], text);
        assert_eq!(stream.write(b"kept").unwrap(), 4);
        client.read_exact(&mut buffer[..4]).unwrap();
        assert_eq!(&buffer[..4], b"kept");
        drop(client);
        wait(&stream);
        assert!(blocked(stream.read(&mut buffer)));
    }
    assert!(!stream.is_connected());
}

#[test]
fn a_pty_that_is_full_waits_and_one_without_a_client_does_not() {
    let backend = Backend::pty().unwrap();
    let path = backend.path().unwrap().to_owned();
    let mut stream = Stream::new(backend).unwrap();
    for _ in 0..1000 {
        assert_eq!(stream.write(&[b'x'; 1000]).unwrap(), 1000);
    }
    let mut client = File::options().read(true).write(true).open(path).unwrap();
    let mut sent = 0;
    let full = loop {
        match stream.write(&[b'x'; 1000]) {
            Ok(written) => sent += written,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    let mut taken = vec![0; sent];
    client.read_exact(&mut taken).unwrap();
    assert!(taken.iter().all(|byte| *byte == b'x'));
    wait(&stream);
    assert!(stream.write(b"y").is_ok());
    client.write_all(b"in").unwrap();
    wait(&stream);
    let mut buffer = [0; 8];
    assert_eq!(stream.read(&mut buffer).unwrap(), 2);
}

#[test]
fn a_pipe_is_not_made_non_blocking_for_others() {
    let (reader, writer) = io::pipe().unwrap();
    let mut sink = super::super::stdio::tests::blocking(OwnedFd::from(writer).into());
    let mut sent = 0;
    while let Ok(written) = sink.try_write(&[0; 1000]) {
        sent += written;
    }
    assert!(sent >= 4096, "{sent}");
    let mut taken = vec![0; sent];
    (&reader).read_exact(&mut taken).unwrap();
    assert!(sink.try_write(&[0]).is_ok());
}

#[test]
fn a_file_as_output_is_appended_to() {
    let dir = TempDir::new().unwrap();
    let path = dir.as_path().join("end");
    std::fs::write(&path, "").unwrap();
    let backend = Backend::file(&path, FileMode::Append).unwrap();
    let mut stream = Stream::new(backend).unwrap();
    stream.write(b"abc").unwrap();
    stream.write(b"def").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
}
