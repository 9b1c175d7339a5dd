//! Why a machine is not built, or does not run.

use std::{io, path::PathBuf};

use arch::LayoutError;
use board::{BoardError, ServeError};
use boot::BootError;
use hypervisor::{CreateError, MapError, StateError};
use memory::RamError;
use vcpu::{SpawnError, VcpusError};

use crate::config::ConfigError;

/// Why a machine could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the configuration cannot be opened.
    #[error("the {what} {} cannot be opened", path.display())]
    Open {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// A console cannot be connected.
    #[error("{port} cannot be connected to {target}")]
    Console {
        /// The serial port or debug console.
        port: String,
        /// Its other end.
        target: String,
        /// What the host said.
        source: io::Error,
    },
    /// RAM of an impossible size.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The host does not give the RAM.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The host does not give the machine or a vCPU.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The host does not map the RAM.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A disk's image cannot be used.
    #[error(transparent)]
    Disk(#[from] disk::OpenError),
    /// An image of which nobody said what it is.
    #[error(
        "disk image {path:?} begins as a qcow2 image does, and its format was not given: say \
         format=qcow2 if it is one, or format=raw if these bytes are the guest's own"
    )]
    Qcow2 {
        /// The image.
        path: PathBuf,
    },
    /// An image with another one behind it, which nobody allowed.
    #[error(
        "disk image {path:?} is backed by {name:?}, and no backing image was allowed; allow it with \
         backing=FILE, backing=DIRECTORY or backing=on, or make an image that stands alone with \
         `qemu-img convert -O qcow2`"
    )]
    Backing {
        /// The image.
        path: PathBuf,
        /// What is behind it, as the image has it.
        name: String,
    },
    /// An image that the host has for reading only.
    #[error(
        "disk image {path:?} can be read but not written; add read-only=on, or make it writable"
    )]
    ReadOnly {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image cannot be used past the page cache.
    #[error("disk image {path:?} cannot be used with direct=on; leave it out")]
    Direct {
        /// The image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disk cannot have the engine that was asked for.
    #[error(transparent)]
    Engine(#[from] virtio_blk::EngineError),
    /// The host has no timer for a device: to limit its rate, or to ask its guest.
    #[error("the host gives no timer for a device")]
    Timer(#[source] io::Error),
    /// A disk's identity cannot be.
    #[error(transparent)]
    Identity(#[from] virtio_blk::IdentityError),
    /// A file cannot be persistent memory.
    #[error(transparent)]
    Pmem(#[from] virtio_pmem::ImageError),
    /// The machine's memory cannot grow like that.
    #[error(transparent)]
    Mem(#[from] virtio_mem::MemError),
    /// The guest cannot be asked to have that much memory.
    #[error(transparent)]
    Requested(#[from] virtio_mem::RequestedError),
    /// A tap cannot be used.
    #[error(transparent)]
    Tap(#[from] net::TapError),
    /// A network's socket cannot be used.
    #[error(transparent)]
    Stream(#[from] net::StreamError),
    /// There is no user networking.
    #[error(transparent)]
    Passt(#[from] net::PasstError),
    /// A network card cannot be made.
    #[error(transparent)]
    Net(#[from] virtio_net::NetError),
    /// There is no socket to the guest.
    #[error(transparent)]
    Bind(#[from] virtio_vsock::BindError),
    /// The sockets cannot be watched.
    #[error("the host gives no descriptor for the sockets between guest and host")]
    Sockets(#[source] io::Error),
    /// The virtio console cannot have such ports.
    #[error(transparent)]
    Terminals(#[from] virtio_console::ConsoleError),
    /// A directory cannot be shared.
    #[error(transparent)]
    Fs(#[from] virtio_fs::OpenError),
    /// The command cannot be told to the guest.
    #[error("the command cannot be put into a file for the guest")]
    Command(#[source] io::Error),
    /// The process that is to serve a device cannot.
    #[error(transparent)]
    Backend(#[from] vhost_user::BackendError),
    /// A device was not attached.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// What is to be booted cannot be loaded.
    #[error("the {what} {} cannot be loaded", path.display())]
    Load {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: BootError,
    },
    /// The machine's memory cannot be prepared for the kernel.
    #[error(transparent)]
    Boot(BootError),
    /// A vCPU was not prepared.
    #[error("vCPU {index} cannot be prepared")]
    Start {
        /// The vCPU.
        index: u32,
        /// Why.
        source: StateError,
    },
    /// The vCPUs got no threads.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
}

impl BuildError {
    /// Whether the user asked for what cannot be, rather than the host failing.
    pub fn is_users(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Open { .. }
                | Self::Console { .. }
                | Self::Layout(_)
                | Self::Disk(_)
                | Self::Terminals(_)
                | Self::Qcow2 { .. }
                | Self::Backing { .. }
                | Self::ReadOnly { .. }
                | Self::Direct { .. }
                | Self::Engine(virtio_blk::EngineError::NoFile)
                | Self::Identity(_)
                | Self::Fs(_)
                | Self::Pmem(_)
                | Self::Tap(_)
                | Self::Stream(_)
                | Self::Passt(_)
                | Self::Bind(_)
                | Self::Backend(_)
                | Self::Board(BoardError::Pio(_) | BoardError::Mmio(_))
                | Self::Load { .. }
                | Self::Boot(_)
        )
    }
}

/// Why a machine no longer runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// There is no thread for the devices.
    #[error("the host gives no thread for the devices")]
    Thread(#[source] io::Error),
    /// The devices' thread ended by itself.
    #[error("the thread of the devices is gone")]
    Io,
    /// The devices are no longer served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The vCPUs cannot be run.
    #[error(transparent)]
    Vcpus(#[from] VcpusError),
}
