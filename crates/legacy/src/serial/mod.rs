//! 16550 serial ports: COM1 to COM4.

mod backend;
mod input;
mod uart;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Read, Write},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use device::{
    AccessError, Action, Attach, AttachError, BusDevice, EventFd, Irq, MutBusDevice, Node, Range,
    Wiring,
};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

pub use self::{
    backend::{Backend, FileMode, Stream},
    uart::SavedSerial,
};
use self::{input::Input, uart::Uart};
use crate::{lock, output::Output, tally::Tally};

/// One of the four serial ports that PC software expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Com {
    /// Ports 0x3f8 to 0x3ff, interrupt line 4.
    Com1,
    /// Ports 0x2f8 to 0x2ff, interrupt line 3.
    Com2,
    /// Ports 0x3e8 to 0x3ef, any free line: sharing COM1's, as old PCs do, needs level triggering.
    Com3,
    /// Ports 0x2e8 to 0x2ef, any free line.
    Com4,
}

impl Com {
    /// First of the 8 ports.
    pub fn port(self) -> u16 {
        match self {
            Self::Com1 => 0x3f8,
            Self::Com2 => 0x2f8,
            Self::Com3 => 0x3e8,
            Self::Com4 => 0x2e8,
        }
    }

    fn irq(self) -> Irq {
        match self {
            Self::Com1 => Irq::Fixed(4),
            Self::Com2 => Irq::Fixed(3),
            Self::Com3 | Self::Com4 => Irq::Any,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Com1 => "com1",
            Self::Com2 => "com2",
            Self::Com3 => "com3",
            Self::Com4 => "com4",
        }
    }
}

/// A 16550 serial port.
///
/// Transmitted bytes are written to the sink and flushed one by one, on the vCPU's thread. A sink
/// that blocks holds that vCPU back and nothing else: the port's registers, its input and the I/O
/// threads go on. A sink that fails loses the byte; losses are counted and logged at a limited rate.
///
/// Received bytes are read by an I/O thread, no more of them than the guest's FIFO has room for, so
/// that nothing is lost however slowly the guest reads. When the input ends the guest runs on.
#[derive(Debug)]
pub struct Serial {
    com: Com,
    backend: Backend,
    input: io::Result<()>,
}

impl Serial {
    /// COM1, writing to `out`.
    pub fn com1(out: impl Write + Send + 'static) -> Self {
        Self::new(Com::Com1, Backend::new(out))
    }

    /// COM2, writing to `out`.
    pub fn com2(out: impl Write + Send + 'static) -> Self {
        Self::new(Com::Com2, Backend::new(out))
    }

    /// COM3, writing to `out`.
    pub fn com3(out: impl Write + Send + 'static) -> Self {
        Self::new(Com::Com3, Backend::new(out))
    }

    /// COM4, writing to `out`.
    pub fn com4(out: impl Write + Send + 'static) -> Self {
        Self::new(Com::Com4, Backend::new(out))
    }

    /// The port `com` on `backend`.
    pub fn new(com: Com, backend: Backend) -> Self {
        Self { com, backend, input: Ok(()) }
    }

    /// Has the guest receive what `source` has to say: [`Backend::input`]. Attaching fails if the
    /// host gives no descriptor for it.
    #[must_use]
    pub fn input(mut self, source: impl Read + AsRawFd + Send + 'static) -> Self {
        match self.backend.clone().input(source) {
            Ok(backend) => self.backend = backend,
            Err(error) => self.input = Err(error),
        }
        self
    }
}

impl Attach for Serial {
    type Handle = SerialHandle;

    fn attach(self, wiring: &mut dyn Wiring) -> Result<SerialHandle, AttachError> {
        self.input?;
        let (com, backend) = (self.com, self.backend);
        let (gsi, line) = wiring.irq(com.irq())?;
        let drained = EventFd::new(EFD_NONBLOCK)?;
        let uart = Arc::new(Mutex::new(Uart::new(line, drained.try_clone()?)));
        let out = Output::new(com.name(), Box::new(backend.sink));
        let handle = SerialHandle { lost: out.lost(), path: backend.path };
        let port = Port { uart: Arc::clone(&uart), out: Mutex::new(out) };
        wiring.pio(Range::new(com.port(), uart::PORTS)?, Arc::new(port));
        if let Some(source) = backend.source {
            let input = Input::new(Box::new(source), Arc::clone(&uart), drained);
            wiring.poll(Arc::new(Mutex::new(input)));
        }
        wiring.persist(uart);
        wiring.announce(Node::Uart { port: com.port(), gsi });
        Ok(handle)
    }
}

/// What the rest of the program can ask of an attached serial port. Clones ask the same port.
#[derive(Clone, Debug)]
pub struct SerialHandle {
    lost: Tally,
    path: Option<PathBuf>,
}

impl SerialHandle {
    /// How many transmitted bytes the sink refused. What a pty or socket discards because nobody is
    /// connected does not count.
    pub fn lost(&self) -> u64 {
        self.lost.count()
    }

    /// Where to connect: the pty's path, the socket's or the file's. `None` for other sinks.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

/// The port as its bus sees it.
///
/// The sink has a lock of its own, so that a sink that blocks keeps neither input nor a snapshot
/// from the registers.
#[derive(Debug)]
struct Port {
    uart: Arc<Mutex<Uart>>,
    out: Mutex<Output>,
}

impl BusDevice for Port {
    fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        lock(&self.uart).read(offset, data)?;
        // A byte that a signal held back leaves as soon as the guest looks at the port again. If
        // the lock is taken, its holder writes that byte.
        if let Ok(mut out) = self.out.try_lock() {
            out.flush();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<Action, AccessError> {
        let (action, transmitted) = {
            let mut uart = lock(&self.uart);
            (uart.write(offset, data)?, uart.transmitted())
        };
        if let Some(byte) = transmitted {
            lock(&self.out).put(byte);
        }
        Ok(action)
    }
}
