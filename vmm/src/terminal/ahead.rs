//! Keys that are read whether or not the guest wants them.

use std::{
    io::{self, ErrorKind, PipeReader, Read, Write},
    os::fd::AsFd,
    thread,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

/// Reads `input` in a thread named `keys`, ahead of who reads what is returned: by as much as a pipe
/// holds. A console reads no more than its guest has asked for, and the keys that are for the VMM must
/// work for a guest that asks for none.
///
/// # Errors
/// The host gives no pipe or thread.
pub fn read_ahead(input: impl Read + AsFd + Send + 'static) -> io::Result<PipeReader> {
    let (reader, writer) = io::pipe()?;
    thread::Builder::new().name("keys".to_owned()).spawn(move || pump(input, writer))?;
    Ok(reader)
}

/// Ends with the input, or when nobody reads any more.
fn pump(mut input: impl Read + AsFd, mut output: impl Write) {
    let mut buffer = [0; 256];
    loop {
        // The descriptor may be one that somebody else has made non-blocking.
        let ready = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        if ready.is_err_and(|error| error != Errno::EINTR) {
            return;
        }
        let read = match input.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => buffer.get(..read).unwrap_or_default(),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                continue;
            }
            Err(_) => return,
        };
        if output.write_all(read).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_typed_comes_out_to_its_end() {
        let (mut keyboard, input) = UnixStream::pair().unwrap();
        input.set_nonblocking(true).unwrap();
        let mut keys = read_ahead(input).unwrap();
        keyboard.write_all(b"abc").unwrap();
        let mut seen = [0; 3];
        keys.read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"abc");
        keyboard.write_all(b"def").unwrap();
        drop(keyboard);
        assert_eq!(io::read_to_string(keys).unwrap(), "def");
    }
}
