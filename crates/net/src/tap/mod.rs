//! Tap devices: an interface of the host whose other end we hold.

mod error;

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, net::UnixDatagram},
    },
    path::{Path, PathBuf},
};

use libc::c_int;
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
    /// It is no tap, or one without `IFF_NO_PI`, which shows only if the tap is in the network
    /// namespace of `/sys`.
    pub fn from_fd(fd: RawFd) -> Result<Self, TapError> {
        let failed = |source| TapError::Descriptor { fd, source };
        let tun = sys::duplicate(fd).map_err(failed)?;
        let (name, flags) = sys::attached(&tun).map_err(failed)?;
        if flags & libc::IFF_TAP == 0 || !is_bare(&name, flags) {
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
    tun_flags(name).exists()
}

/// Whether packets of the tap `name`, which the host says has `flags`, have nothing in front that this
/// crate does not know. Among `flags`, the bit of `IFF_NO_PI` is `IFF_NOFILTER` as well, and nearly
/// always set; the file has it as it is.
fn is_bare(name: &str, flags: c_int) -> bool {
    let told = fs::read_to_string(tun_flags(name)).ok();
    let told = told.as_deref().and_then(|text| text.trim().strip_prefix("0x"));
    let told = told.and_then(|digits| c_int::from_str_radix(digits, 16).ok());
    flags & told.unwrap_or(flags) & libc::IFF_NO_PI != 0
}

/// Where the host shows the flags of an interface that has a `/dev/net/tun` end.
fn tun_flags(name: &str) -> PathBuf {
    Path::new("/sys/class/net").join(name).join("tun_flags")
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
    use std::env;

    use libc::{IFF_NO_PI, IFF_TAP, IFF_TUN, IFF_VNET_HDR};

    use super::*;

    /// Whether this process may make interfaces.
    #[expect(clippy::disallowed_methods, reason = "tests are told what must not be skipped")]
    fn may_make_taps(test: &str) -> bool {
        match Tap::open("purlin%d") {
            Ok(_) => true,
            Err(error @ (TapError::Device(_) | TapError::Permission(_))) => {
                assert!(env::var_os("REQUIRE_TAP").is_none(), "{test}: {error}");
                eprintln!("SKIPPED {test}: {error}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn an_inherited_tun_or_tap_with_packets_of_another_form_is_refused() {
        if !may_make_taps("an_inherited_tun_or_tap_with_packets_of_another_form_is_refused") {
            return;
        }
        for (flags, other) in [
            (IFF_TUN, true),
            (IFF_TUN | IFF_NO_PI, true),
            (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, true),
            (IFF_TAP, true),
            (IFF_TAP | IFF_VNET_HDR, true),
            (IFF_TAP | IFF_NO_PI, false),
            (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, false),
        ] {
            let tun = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
            let tun = OwnedFd::from(tun);
            sys::attach_as(&tun, "purlin%d", flags).unwrap();
            let fd = tun.as_raw_fd();
            match Tap::from_fd(fd) {
                Ok(tap) => {
                    assert!(!other, "taken with flags {flags:#x}");
                    assert_eq!(tap.abilities().header, flags & IFF_VNET_HDR != 0, "{flags:#x}");
                }
                Err(error) => {
                    assert!(other, "refused with flags {flags:#x}: {error}");
                    let told = error.to_string();
                    assert!(told.starts_with(&format!("descriptor {fd} is no tap")), "{told}");
                    let TapError::Descriptor { source, .. } = error else { panic!("{error:?}") };
                    assert_eq!(source.to_string(), "it has packets of another form");
                }
            }
        }
    }

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
