//! Memory in which a back end notes what it has taken and not given back, so that the next one can go
//! on where it died. This end only keeps it.

use std::os::fd::{AsRawFd, RawFd};

use crate::{BackendError, message, socket::Received};

/// Bytes of its description, with the padding that the field has at its end.
const LEN: usize = 24;

/// The memory, and how the back end describes it.
#[derive(Debug)]
pub(crate) struct Inflight {
    file: Received,
    body: Vec<u8>,
}

/// The description of what is wanted.
pub(crate) fn wanted(queues: u16, size: u16) -> Vec<u8> {
    let mut body = vec![0; 16];
    body.extend([queues, size].into_iter().flat_map(u16::to_ne_bytes));
    body.resize(LEN, 0);
    body
}

impl Inflight {
    /// The memory that a back end has made for `wanted`: so many queues of so many entries.
    pub(crate) fn of(
        body: Vec<u8>,
        file: Received,
        wanted: (u16, u16),
    ) -> Result<Self, BackendError> {
        let [len, _, _, _, shape, _] = message::numbers(&body);
        let asked = [wanted.0.to_ne_bytes(), wanted.1.to_ne_bytes()].concat();
        if len == 0 || shape.to_ne_bytes().as_slice() != asked {
            let what = format!("{len} bytes of memory for other queues ({shape:#x})");
            return Err(BackendError::Nonsense { request: message::GET_INFLIGHT_FD.1, what });
        }
        Ok(Self { file, body })
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
