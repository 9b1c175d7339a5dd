//! What is wrong with a configuration.

use std::{io, path::PathBuf};

use arch::{LayoutError, MAX_CPUS, TopologyError};

use super::{MAX_IO_THREADS, MIN_MEMORY, Size};

/// What is wrong with a configuration, and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("{}, line {line}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with the line.
        message: String,
    },
    /// A value has not the form of its kind.
    #[error("{text:?}: {message}")]
    Value {
        /// The value.
        text: String,
        /// What is wrong with it.
        message: String,
    },
    /// There is nothing to boot.
    #[error("no kernel was given; say --kernel PATH, or kernel = \"PATH\" in the file")]
    NoKernel,
    /// RAM of an impossible size.
    #[error("memory of {size}: {right}")]
    Memory {
        /// The size asked for.
        size: Size,
        /// What would be right.
        right: String,
    },
    /// Devices served by nobody, or by too many.
    #[error("io-threads of {0}; devices are served by 1 to {MAX_IO_THREADS} threads")]
    IoThreads(u32),
    /// A machine's memory cannot grow like that.
    #[error("memory-max of {size}: {right}")]
    MemoryMax {
        /// The size asked for.
        size: Size,
        /// What would be right.
        right: String,
    },
    /// RAM that no machine has.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// More RAM than the host has.
    #[error("memory of {size} is more than the {host} that this host has in all; ask for less")]
    HostMemory {
        /// The size asked for.
        size: Size,
        /// The size of the host's RAM.
        host: Size,
    },
    /// No machine, or more than a machine can have.
    #[error("{0} CPUs; a machine has 1 to {MAX_CPUS}")]
    Cpus(u32),
    /// The topology does not have that many CPUs.
    #[error(
        "{count} CPUs cannot be {threads} threads x {cores} cores x {sockets} sockets, \
         which are {}; leave one of them out to have it computed",
        u64::from(*threads) * u64::from(*cores) * u64::from(*sockets)
    )]
    Product {
        /// CPUs asked for.
        count: u32,
        /// Threads of a core.
        threads: u32,
        /// Cores of a socket.
        cores: u32,
        /// Sockets.
        sockets: u32,
    },
    /// Sockets without a path.
    #[error("sockets between guest and host need a path; say --vsock PATH, or path in [vsock]")]
    NoSocket,
    /// An address that no guest can have.
    #[error(transparent)]
    Cid(#[from] virtio_vsock::CidError),
    /// No machine has that topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A name that no directory can be mounted by.
    #[error(transparent)]
    FsTag(#[from] virtio_fs::TagError),
    /// Two directories with one tag.
    #[error("two directories have the tag `{0}`; give one of them another, as in tag=other")]
    Tag(String),
    /// A command that has nowhere to run.
    #[error(
        "a command runs in a directory that is the guest's root; say --root DIR, or leave it out"
    )]
    NoRoot,
    /// A command that cannot be told to the guest.
    #[error("no word of a command can have a NUL")]
    Command,
    /// No network card can be so.
    #[error("a network card {0}")]
    Network(String),
    /// No device of another process can be so.
    #[error("the vhost-user device at {socket:?} {why}")]
    VhostUser {
        /// Its socket.
        socket: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// No disk can be so.
    #[error("the disk {} {why}", path.display())]
    Disk {
        /// Its image.
        path: PathBuf,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Two ports share what only one can have.
    #[error(
        "{first} and {second} are both on {target}; set one of them to none or to another target"
    )]
    Shared {
        /// One port.
        first: &'static str,
        /// The other.
        second: &'static str,
        /// What they share.
        target: String,
    },
    /// The balloon is too large.
    #[error("a balloon of {size} in a machine with memory of {memory}; it must be smaller")]
    Balloon {
        /// How much should be in it.
        size: Size,
        /// How much memory there is.
        memory: Size,
    },
    /// A file that is made anew is something else too.
    #[error(
        "{first} and {second} are both the file {}; give {second} another, because it is made anew",
        path.display()
    )]
    Overwritten {
        /// What would be lost.
        first: &'static str,
        /// What is made anew.
        second: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl ConfigError {
    pub(super) fn too_small(size: Size) -> Self {
        Self::Memory { size, right: format!("a machine needs at least {}", Size(MIN_MEMORY)) }
    }
}

/// What a decoder says of a word that it does not know, with the nearest that it does.
pub(super) fn readable(message: &str) -> String {
    let kind = match message {
        _ if message.starts_with("unknown field `") => "key",
        _ if message.starts_with("unknown variant `") => "value",
        _ => return message.into(),
    };
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = words.next().unwrap_or_default();
    let known: Vec<&str> = words.collect();
    let distance =
        |word: &str| strsim::damerau_levenshtein(&unknown.to_lowercase(), &word.to_lowercase());
    // A word that differs in more than a third of its letters was hardly meant.
    let nearest = known
        .iter()
        .filter(|word| distance(word) <= word.len().div_ceil(3))
        .min_by_key(|word| distance(word));
    match nearest {
        Some(nearest) => format!("unknown {kind} `{unknown}`; did you mean `{nearest}`?"),
        None => format!("unknown {kind} `{unknown}`; those known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest() {
        let message = "unknown field `memroy`, expected one of `kernel`, `memory`, `cpus`";
        assert_eq!(readable(message), "unknown key `memroy`; did you mean `memory`?");
    }

    #[test]
    fn a_word_near_to_none_is_answered_with_all() {
        let message = "unknown variant `fast`, expected `exit` or `reboot`";
        assert_eq!(readable(message), "unknown value `fast`; those known are exit, reboot");
    }

    #[test]
    fn other_messages_stay_as_they_are() {
        assert_eq!(readable("invalid `x`"), "invalid `x`");
    }
}
