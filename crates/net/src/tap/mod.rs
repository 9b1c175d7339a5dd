//! Tap devices: an interface of the host whose other end we hold.

mod error;

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, net::UnixDatagram},
    },
    path::Path,
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rustix::io::{Errno, read, write};

pub use error::TapError;

use crate::{Abilities, HEADER, Link, Offloads, slot::Slot, sys};

/// The most queues of a tap (the kernel's `MAX_TAP_QUEUES`).
const QUEUES: usize = 256;

/// One queue of a tap device, which is an Ethernet interface of the host with us at the other end.
///
/// The interface stays as long as the tap lives, or longer if it was there before.
#[derive(Debug)]
pub struct Tap {
    tun: OwnedFd,
    name: String,
    header: bool,
    slot: Slot,
    up: bool,
}

impl Tap {
    /// The tap `name` with one queue, made if it is not there. In the name of a new one, `%d` stands
    /// for a number that the host chooses.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open(name: &str) -> Result<Self, TapError> {
        Self::open_queue(name, 1)
    }

    /// The tap `name` with `count` queues, made if it is not there.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn open_queues(name: &str, count: usize) -> Result<Vec<Self>, TapError> {
        if count == 0 || count > QUEUES {
            return Err(TapError::Count(count));
        }
        let first = Self::open_queue(name, count)?;
        let name = first.name.clone();
        let mut queues = vec![first];
        for _ in 1..count {
            queues.push(Self::open_queue(&name, count)?);
        }
        Ok(queues)
    }

    /// The tap that the program which started this one has left open at `fd`, with one queue.
    /// Whether packets have headers is as it was set there.
    ///
    /// # Errors
    /// It is no tap.
    pub fn from_fd(fd: RawFd) -> Result<Self, TapError> {
        let failed = |source| TapError::Descriptor { fd, source };
        let tun = sys::duplicate(fd).map_err(failed)?;
        let (name, flags) = sys::attached(&tun).map_err(failed)?;
        if flags & libc::IFF_TAP == 0 || flags & libc::IFF_NO_PI == 0 {
            return Err(failed(io::Error::other("it has packets of another form")));
        }
        let set = fcntl(&tun, FcntlArg::F_GETFL).and_then(|now| {
            let flags = OFlag::from_bits_retain(now) | OFlag::O_NONBLOCK;
            fcntl(&tun, FcntlArg::F_SETFL(flags))
        });
        set.map_err(|error| failed(error.into()))?;
        Self::set_up(tun, name, flags & libc::IFF_VNET_HDR != 0)
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn open_queue(name: &str, count: usize) -> Result<Self, TapError> {
        let fits = (1..libc::IFNAMSIZ).contains(&name.len());
        if !fits || name.contains(|letter: char| letter == '/' || !letter.is_ascii_graphic()) {
            return Err(TapError::Name(name.into()));
        }
        let mut options = File::options();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let tun = OwnedFd::from(options.open("/dev/net/tun").map_err(TapError::Device)?);
        let mut attached = sys::attach(&tun, name, count > 1);
        // A tap that was made for several queues wants to hear so, even if there is one.
        if count == 1 && is_invalid(&attached) {
            attached = sys::attach(&tun, name, true);
        }
        let found = attached.map_err(|source| refused(name, count, source))?;
        let tap = Self::set_up(tun, found, true)?;
        tap.raise();
        Ok(tap)
    }

    fn set_up(tun: OwnedFd, name: String, header: bool) -> Result<Self, TapError> {
        let mut set = Ok(());
        if header {
            set = sys::set_header(&tun, HEADER).and_then(|()| sys::set_offloads(&tun, 0));
        }
        match set {
            Ok(()) => Ok(Self { tun, name, header, slot: Slot::new(), up: true }),
            Err(source) => Err(TapError::Setup { name, source }),
        }
    }

    /// Takes the interface up on the host's side, if we may. One that others have made is theirs.
    fn raise(&self) {
        let raised = UnixDatagram::unbound().and_then(|socket| {
            if sys::is_up(&socket, &self.name)? { Ok(()) } else { sys::set_up(&socket, &self.name) }
        });
        if let Err(error) = raised {
            let name = &self.name;
            log::warn!("tap {name} stays down: {error}; to take it up: ip link set {name} up");
        }
    }
}

fn is_invalid<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
}

/// Whether there is an interface of this name, of the kind that has a `/dev/net/tun` end.
fn is_tap(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("tun_flags").exists()
}

fn refused(name: &str, count: usize, source: io::Error) -> TapError {
    let name = name.to_owned();
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => TapError::Permission(name),
        Some(libc::EBUSY) => TapError::Busy(name),
        Some(libc::EINVAL | libc::E2BIG) if is_tap(&name) => TapError::Queues { name, count },
        Some(libc::EINVAL) => TapError::Kind(name),
        _ => TapError::Setup { name, source },
    }
}

impl Link for Tap {
    fn fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }

    fn abilities(&self) -> Abilities {
        let offloads = if self.header { Offloads::ALL } else { Offloads::NONE };
        Abilities { header: self.header, direct: true, offloads }
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        if !self.header {
            return if offloads == Offloads::NONE {
                Ok(())
            } else {
                Err(ErrorKind::Unsupported.into())
            };
        }
        let Offloads { checksum, tso4, tso6, ecn } = offloads;
        // The kernel refuses the others without checksums.
        let wanted = [
            (true, libc::TUN_F_CSUM),
            (tso4, libc::TUN_F_TSO4),
            (tso6, libc::TUN_F_TSO6),
            (ecn && (tso4 || tso6), libc::TUN_F_TSO_ECN),
        ];
        let bits = wanted.iter().filter(|(wanted, _)| checksum && *wanted);
        sys::set_offloads(&self.tun, bits.fold(0, |bits, (_, bit)| bits | bit))
    }

    fn set_active(&mut self, active: bool) -> io::Result<()> {
        match sys::set_queue(&self.tun, active) {
            // It is as it should be already.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            other => other,
        }
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        let Self { tun, slot, up, .. } = self;
        slot.peek(|room| {
            loop {
                match read(&*tun, &mut *room) {
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => return Err(ErrorKind::WouldBlock.into()),
                    Err(error) => {
                        // The interface was deleted.
                        *up = false;
                        return Err(error.into());
                    }
                    Ok(len) => return Ok(len),
                }
            }
        })
    }

    fn pop(&mut self) {
        self.slot.pop();
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        loop {
            match write(&self.tun, packet) {
                Err(Errno::INTR) => {}
                other => return other.map(drop).map_err(Into::into),
            }
        }
    }

    fn is_up(&self) -> bool {
        self.up
    }
}

impl AsRawFd for Tap {
    fn as_raw_fd(&self) -> RawFd {
        self.tun.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_refuses_is_told_with_what_to_do() {
        let told =
            |errno, count| refused("tap7", count, io::Error::from_raw_os_error(errno)).to_string();
        for errno in [libc::EPERM, libc::EACCES] {
            let error = told(errno, 1);
            assert!(error.starts_with("no permission to use tap `tap7`"), "{error}");
            assert!(error.contains("ip tuntap add tap7 mode tap user"), "{error}");
        }
        assert!(told(libc::EBUSY, 1).contains("`tap7` is in use"));
        assert!(told(libc::EINVAL, 1).contains("another network interface"));
        assert!(told(libc::ENOMEM, 2).contains("cannot be set up"));
    }
}
