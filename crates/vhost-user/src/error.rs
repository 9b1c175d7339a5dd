//! What can go wrong with a back end.

use std::{io, path::PathBuf, time::Duration};

/// Why a back end cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Nobody answers at the socket.
    #[error(
        "no vhost-user back end at the socket {}; start it before the machine", socket.display()
    )]
    Connect {
        /// The path.
        socket: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The host has no event or timer left.
    #[error("the host has no event or timer left for a vhost-user device")]
    Host(#[source] io::Error),
    /// The connection broke in the middle of a request.
    #[error("the vhost-user back end cannot be reached for {request}")]
    Io {
        /// The request.
        request: &'static str,
        /// What the host said.
        source: io::Error,
    },
    /// The back end closed the connection.
    #[error("the vhost-user back end has closed the connection{during}", during = during(request))]
    Closed {
        /// The request that it should have answered, if any.
        request: Option<&'static str>,
    },
    /// The back end does not answer.
    #[error(
        "the vhost-user back end has not answered {request} within {limit:?}, which is what it has \
         for all that it is asked"
    )]
    Silent {
        /// The request.
        request: &'static str,
        /// How long it may keep this end waiting, for all requests together.
        limit: Duration,
    },
    /// The back end does not keep to the protocol.
    #[error(
        "the vhost-user back end does not keep to the protocol: {request} is answered by {what}"
    )]
    Nonsense {
        /// The request.
        request: &'static str,
        /// What came instead of an answer.
        what: String,
    },
    /// The back end says no.
    #[error("the vhost-user back end refuses {request}")]
    Refused {
        /// The request.
        request: &'static str,
    },
    /// The back end lacks what a device cannot be without.
    #[error("the vhost-user back end does not offer {0}, which this device needs")]
    Missing(&'static str),
    /// The back end has fewer queues.
    #[error("the vhost-user back end has {offered} queues; the device is to have {wanted}")]
    Queues {
        /// As many as were asked for.
        wanted: u16,
        /// As many as the back end has.
        offered: u64,
    },
    /// The back end that came back is another one.
    #[error("the vhost-user back end came back as another one, with {0}")]
    Changed(String),
    /// Guest RAM is this process's own.
    #[error(
        "{len} bytes at {addr:#x} are no RAM that a vhost-user back end can share; \
         guest RAM has to be a memfd or a shared file"
    )]
    Unshared {
        /// Guest physical address.
        addr: u64,
        /// Length, bytes.
        len: u64,
    },
}

fn during(request: &Option<&'static str>) -> String {
    request.map(|request| format!(" instead of answering {request}")).unwrap_or_default()
}
