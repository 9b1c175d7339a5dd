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
    /// A disk's identity cannot be.
    #[error(transparent)]
    Identity(#[from] virtio_blk::IdentityError),
    /// A device was not attached.
    #[error(transparent)]
    Board(#[from] BoardError),
    /// The kernel was not loaded.
    #[error(transparent)]
    Boot(#[from] BootError),
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
                | Self::Identity(_)
                | Self::Board(BoardError::Pio(_) | BoardError::Mmio(_))
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
