//! System calls of taps and sockets. The crate's only unsafe code: ioctls with arguments that are ours
//! and outlive the call.
#![expect(unsafe_code, reason = "these ioctls have no safe wrapper")]

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use libc::{c_int, c_short, c_ulong, ifreq};

/// Flags of a tap that this crate makes: Ethernet frames, with the header of virtio and nothing else in
/// front.
const TAP: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Makes `tun` a queue of the interface `name`, of one that has several if `many`: its name, which the
/// host chooses if `name` has a `%d`.
pub(crate) fn attach(tun: &OwnedFd, name: &str, many: bool) -> io::Result<String> {
    attach_as(tun, name, if many { TAP | libc::IFF_MULTI_QUEUE } else { TAP })
}

/// The same with any `flags`, as another program may choose them.
pub(crate) fn attach_as(tun: &OwnedFd, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = request(name)?;
    set_flags(&mut request, flags);
    ioctl(tun, libc::TUNSETIFF, &mut request)?;
    Ok(name_of(&request))
}

/// Name and flags of the interface that `tun` is a queue of.
pub(crate) fn attached(tun: &OwnedFd) -> io::Result<(String, c_int)> {
    let mut request = request("")?;
    ioctl(tun, libc::TUNGETIFF, &mut request)?;
    Ok((name_of(&request), flags(&request)))
}

/// How many bytes are in front of each packet.
pub(crate) fn set_header(tun: &OwnedFd, bytes: usize) -> io::Result<()> {
    let mut bytes = c_int::try_from(bytes).map_err(io::Error::other)?;
    ioctl(tun, libc::TUNSETVNETHDRSZ, &mut bytes)
}

/// Which packets the reader understands that need more work.
pub(crate) fn set_offloads(tun: &OwnedFd, bits: u32) -> io::Result<()> {
    // SAFETY: the argument of this request is a number.
    done(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(bits)) })
}

/// Whether this queue gets packets.
pub(crate) fn set_queue(tun: &OwnedFd, active: bool) -> io::Result<()> {
    let mut request = request("")?;
    set_flags(&mut request, if active { libc::IFF_ATTACH_QUEUE } else { libc::IFF_DETACH_QUEUE });
    ioctl(tun, libc::TUNSETQUEUE, &mut request)
}

/// Whether the interface `name` is up on the host's side, which is asked through any socket.
pub(crate) fn is_up(socket: &impl AsFd, name: &str) -> io::Result<bool> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
    Ok(flags(&request) & libc::IFF_UP != 0)
}

/// Takes the interface up.
pub(crate) fn set_up(socket: &impl AsFd, name: &str) -> io::Result<()> {
    let mut request = request(name)?;
    ioctl(socket, libc::SIOCGIFFLAGS, &mut request)?;
    let now = flags(&request);
    set_flags(&mut request, now | libc::IFF_UP);
    ioctl(socket, libc::SIOCSIFFLAGS, &mut request)
}

/// How much of what was written to a unix socket nobody has read yet.
pub(crate) fn unread(socket: &impl AsFd) -> io::Result<c_int> {
    let mut bytes = 0;
    // `SIOCOUTQ` by its other name.
    ioctl(socket, libc::TIOCOUTQ, &mut bytes)?;
    Ok(bytes)
}

/// A descriptor of our own for what `fd` is, which somebody has left us.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call takes a number, and fails if nothing is open there.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    done(copy)?;
    // SAFETY: the kernel has made it just now, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn ioctl<T>(fd: &impl AsFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    let argument: *mut T = argument;
    // SAFETY: each request of this file reads and writes at most a `T`, which is `argument`'s.
    done(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, argument) })
}

fn done(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A request about the interface `name`, all else 0.
fn request(name: &str) -> io::Result<ifreq> {
    let mut bytes = [0; libc::IFNAMSIZ];
    if name.len() >= bytes.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in bytes.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: plain numbers, for all of which 0 is a value.
    let ifr_ifru = unsafe { std::mem::zeroed() };
    Ok(ifreq { ifr_name: bytes, ifr_ifru })
}

fn name_of(request: &ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|byte| byte.to_ne_bytes());
    let bytes: Vec<u8> = bytes.map(|[byte]| byte).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn flags(request: &ifreq) -> c_int {
    // SAFETY: whoever filled the union in, these are initialized bytes of it.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    c_int::from(u16::from_ne_bytes(flags.to_ne_bytes()))
}

fn set_flags(request: &mut ifreq, flags: c_int) {
    let [low, high, ..] = flags.to_le_bytes();
    request.ifr_ifru.ifru_flags = c_short::from_le_bytes([low, high]);
}
