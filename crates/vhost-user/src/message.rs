//! The messages of the protocol (QEMU, "Vhost-user Protocol", version 1). Numbers are in the host's
//! byte order.

/// A request: its number and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request(pub(crate) u32, pub(crate) &'static str);

pub(crate) const GET_FEATURES: Request = Request(1, "GET_FEATURES");
pub(crate) const SET_FEATURES: Request = Request(2, "SET_FEATURES");
pub(crate) const SET_OWNER: Request = Request(3, "SET_OWNER");
pub(crate) const SET_MEM_TABLE: Request = Request(5, "SET_MEM_TABLE");
pub(crate) const SET_VRING_NUM: Request = Request(8, "SET_VRING_NUM");
pub(crate) const SET_VRING_ADDR: Request = Request(9, "SET_VRING_ADDR");
pub(crate) const SET_VRING_BASE: Request = Request(10, "SET_VRING_BASE");
pub(crate) const GET_VRING_BASE: Request = Request(11, "GET_VRING_BASE");
pub(crate) const SET_VRING_KICK: Request = Request(12, "SET_VRING_KICK");
pub(crate) const SET_VRING_CALL: Request = Request(13, "SET_VRING_CALL");
pub(crate) const GET_PROTOCOL_FEATURES: Request = Request(15, "GET_PROTOCOL_FEATURES");
pub(crate) const SET_PROTOCOL_FEATURES: Request = Request(16, "SET_PROTOCOL_FEATURES");
pub(crate) const GET_QUEUE_NUM: Request = Request(17, "GET_QUEUE_NUM");
pub(crate) const SET_VRING_ENABLE: Request = Request(18, "SET_VRING_ENABLE");
pub(crate) const SET_BACKEND_REQ_FD: Request = Request(21, "SET_BACKEND_REQ_FD");
pub(crate) const GET_CONFIG: Request = Request(24, "GET_CONFIG");
pub(crate) const SET_CONFIG: Request = Request(25, "SET_CONFIG");
pub(crate) const GET_INFLIGHT_FD: Request = Request(31, "GET_INFLIGHT_FD");
pub(crate) const SET_INFLIGHT_FD: Request = Request(32, "SET_INFLIGHT_FD");
pub(crate) const RESET_DEVICE: Request = Request(34, "RESET_DEVICE");

/// A request of the back end's own: its configuration space has changed.
pub(crate) const CONFIG_CHANGE: u32 = 2;

/// The feature bit of the protocol's own features. No guest sees it.
pub(crate) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// More queues than two.
pub(crate) const MQ: u64 = 1 << 0;
/// Requests that are answered by whether they worked.
pub(crate) const REPLY_ACK: u64 = 1 << 3;
/// Requests from the back end.
pub(crate) const BACKEND_REQ: u64 = 1 << 5;
/// A configuration space.
pub(crate) const CONFIG: u64 = 1 << 9;
/// Memory shared between a back end and the next one.
pub(crate) const INFLIGHT_SHMFD: u64 = 1 << 12;
/// A reset without a new connection.
pub(crate) const RESET: u64 = 1 << 13;
/// What this front end makes use of.
pub(crate) const OURS: u64 = MQ | REPLY_ACK | BACKEND_REQ | CONFIG | INFLIGHT_SHMFD | RESET;

/// Bytes of a header: request, flags, length of what follows.
pub(crate) const HEADER: usize = 12;
/// Version of the protocol, in the flags.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
/// The flags that have a meaning.
const KNOWN: u32 = 0xf;

/// A message as it goes over the socket.
pub(crate) fn encode(request: Request, body: &[u8], need_reply: bool) -> Vec<u8> {
    let flags = VERSION | if need_reply { NEED_REPLY } else { 0 };
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut message = words(&[request.0, flags, len]);
    message.extend_from_slice(body);
    message
}

/// Whether `header` begins the answer to `request`: how many bytes follow, or what is wrong.
pub(crate) fn answer(request: Request, header: &[u8; HEADER]) -> Result<u32, String> {
    let [code, flags, len] = numbers(header);
    if code != request.0 {
        return Err(format!("a message of request {code}"));
    }
    if flags & KNOWN & !NEED_REPLY != VERSION | REPLY {
        return Err(format!("a message with flags {flags:#x}"));
    }
    Ok(len)
}

/// Whether `header` begins a request of the back end's: its number, whether it is to be answered, and
/// how many bytes follow.
pub(crate) fn request(header: &[u8; HEADER]) -> Option<(u32, bool, u32)> {
    let [code, flags, len] = numbers(header);
    (flags & (REPLY | 3) == VERSION).then_some((code, flags & NEED_REPLY != 0, len))
}

/// The answer to a request of the back end's.
pub(crate) fn acknowledge(code: u32, value: u64) -> Vec<u8> {
    let mut message = words(&[code, VERSION | REPLY, 8]);
    message.extend_from_slice(&value.to_ne_bytes());
    message
}

/// 32-bit numbers as bytes.
pub(crate) fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// Bytes as 32-bit numbers; what is missing is 0.
pub(crate) fn numbers<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut numbers = [0; N];
    let (chunks, _) = bytes.as_chunks();
    for (number, chunk) in numbers.iter_mut().zip(chunks) {
        *number = u32::from_ne_bytes(*chunk);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(code: u32, flags: u32, len: u32) -> [u8; HEADER] {
        words(&[code, flags, len]).try_into().unwrap()
    }

    #[test]
    fn a_message_is_a_header_and_its_body() {
        let message = encode(SET_FEATURES, &[7; 8], true);
        assert_eq!(numbers::<3>(&message), [2, 9, 8]);
        assert_eq!(message[HEADER..], [7; 8]);
    }

    #[test]
    fn an_answer_repeats_the_request_and_says_that_it_is_one() {
        assert_eq!(answer(GET_FEATURES, &header(1, 5, 8)), Ok(8));
        assert_eq!(answer(GET_FEATURES, &header(1, 13, 8)), Ok(8));
        for (code, flags) in [(2, 5), (1, 1), (1, 4), (1, 6), (1, 7)] {
            assert!(answer(GET_FEATURES, &header(code, flags, 8)).is_err(), "{code} {flags}");
        }
    }

    #[test]
    fn a_request_of_the_back_end_is_no_answer() {
        assert_eq!(request(&header(2, 1, 0)), Some((2, false, 0)));
        assert_eq!(request(&header(2, 9, 0)), Some((2, true, 0)));
        assert_eq!(request(&header(2, 5, 0)), None);
        assert_eq!(request(&header(2, 2, 0)), None);
    }
}
