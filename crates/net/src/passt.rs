//! User-mode networking: the program `passt`, which gives a guest the host's network without any
//! privilege.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, poll},
    unistd::pipe2,
};

use crate::{Abilities, Link, Offloads, Stream, stream::widen, sys};

/// The most that is kept of what passt says.
const WORDS: u64 = 4096;

/// How often is looked whether it reads already, milliseconds.
const LOOK: u8 = 1;
/// A frame that means nothing to anybody: to all, from no card there is, of the type for experiments.
const HELLO: [u8; 14] = [255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0, 0x88, 0xb5];

/// What a passt process is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PasstConfig {
    /// The MTU that it announces to the guest; its own default if `None`.
    pub mtu: Option<u16>,
    /// TCP ports of the host that lead to the guest, as passt's option `--tcp-ports` has them, for
    /// example `2222:22,8080`; none if `None`.
    pub tcp_ports: Option<String>,
    /// The same for UDP.
    pub udp_ports: Option<String>,
}

/// A passt process of our own, and the connection to it.
///
/// It ends with the connection, however that ends: when this is dropped, and when this process is
/// killed.
pub struct Passt {
    stream: Stream,
    child: Child,
    words: File,
    told: bool,
}

/// Why there is no user-mode networking.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasstError {
    /// The program is not there.
    #[error(
        "user networking needs the program `passt`, which is not in the PATH; install the package \
         `passt`, or use a tap"
    )]
    Missing,
    /// It cannot be started.
    #[error("the program `passt` cannot be started")]
    Start(#[source] io::Error),
    /// It has ended right away.
    #[error("the program `passt` does not run ({status}): {words}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
}

impl Passt {
    /// Starts the `passt` of the PATH.
    ///
    /// # Errors
    /// There is none, or it cannot be started. Whether it then goes on running [`ready`](Self::ready)
    /// tells.
    pub fn start(config: &PasstConfig) -> Result<Self, PasstError> {
        Self::start_program("passt", config)
    }

    /// Starts another program that understands passt's options.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub fn start_program(program: &str, config: &PasstConfig) -> Result<Self, PasstError> {
        let (ours, theirs) = UnixStream::pair().map_err(PasstError::Start)?;
        widen(&theirs);
        let stream =
            Stream::new(ours).map_err(|error| PasstError::Start(io::Error::other(error)))?;
        // Non-blocking: what nobody reads must not hold passt up.
        let pipe = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK);
        let (words, stderr) = pipe.map_err(|error| PasstError::Start(error.into()))?;
        let mut command = Command::new(program);
        // With --fd it ends when the connection does.
        // Its default gives the guest what listens on the host's loopback, by the gateway's address.
        command.args(["--foreground", "--quiet", "--no-map-gw", "--fd", "0"]);
        if let Some(mtu) = config.mtu {
            command.args(["--mtu", &mtu.to_string()]);
        }
        for (option, ports) in
            [("--tcp-ports", &config.tcp_ports), ("--udp-ports", &config.udp_ports)]
        {
            if let Some(ports) = ports {
                command.args([option, ports]);
            }
        }
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(stderr);
        // Ctrl-C at the terminal is for us; the guest may still need its network.
        command.process_group(0);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PasstError::Missing,
            _ => PasstError::Start(error),
        })?;
        Ok(Self { stream, child, words: words.into(), told: false })
    }

    /// Waits until it takes packets, `limit` at most: what it has to say against its options or its host
    /// it says before.
    ///
    /// # Errors
    /// It has ended.
    pub fn ready(&mut self, limit: Duration) -> Result<(), PasstError> {
        let end = Instant::now() + limit;
        // If that fails it has ended, which is seen below.
        drop(self.stream.send(&HELLO));
        loop {
            // That a connection has ended is told without being asked for. Nothing tells that what was
            // sent has been read, so we look.
            let mut polled = [PollFd::new(self.stream.fd(), PollFlags::empty())];
            if poll(&mut polled, LOOK).is_ok_and(|events| events > 0) {
                let status = self.child.wait().map_err(PasstError::Start)?;
                return Err(PasstError::Ended { status, words: self.words() });
            }
            if sys::unread(&self.stream.fd()).is_ok_and(|bytes| bytes == 0) || Instant::now() > end
            {
                return Ok(());
            }
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said and nobody has read yet, on one line.
    fn words(&mut self) -> String {
        let mut words = Vec::new();
        // Ends with what there is: the pipe does not block.
        drop((&mut self.words).take(WORDS).read_to_end(&mut words));
        let words = String::from_utf8_lossy(&words).into_owned();
        let lines = words.lines().map(str::trim).filter(|line| !is_noise(line));
        let words = lines.collect::<Vec<_>>().join("; ");
        if words.is_empty() { "it does not say why".into() } else { words }
    }

    fn tell_end(&mut self) {
        if self.told || self.stream.is_up() {
            return;
        }
        self.told = true;
        let words = self.words();
        log::warn!("user networking has ended: the program `passt` is gone: {words}");
    }
}

/// What passt says on every host that is as it may be.
fn is_noise(line: &str) -> bool {
    line.is_empty()
        || line.starts_with("Failed to send") && line.ends_with("to syslog")
        || line.starts_with("Don't run as root")
}

impl Link for Passt {
    fn fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }

    fn abilities(&self) -> Abilities {
        self.stream.abilities()
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        self.stream.set_offloads(offloads)
    }

    fn peek(&mut self) -> io::Result<&[u8]> {
        // Not asked afterwards: what is shown borrows the stream.
        if !self.stream.is_up() {
            self.tell_end();
        }
        self.stream.peek()
    }

    fn pop(&mut self) {
        self.stream.pop();
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<()> {
        self.stream.send(packet)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }

    fn is_up(&self) -> bool {
        self.stream.is_up()
    }
}

impl AsFd for Passt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.fd()
    }
}

impl Drop for Passt {
    fn drop(&mut self) {
        // Sooner than by the end of the connection, and nothing of it is left.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl fmt::Debug for Passt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passt")
            .field("stream", &self.stream)
            .field("process", &self.child.id())
            .finish_non_exhaustive()
    }
}
