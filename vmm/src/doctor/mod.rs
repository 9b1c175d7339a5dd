//! What a host can do for guests, told without changing anything.
//!
//! Every check reads files below [`Host::root`] and nothing else, except that /dev/kvm is opened
//! and asked.

mod check;
mod confine;
mod devices;
mod host;
mod kvm;
mod memory;
mod report;

pub use check::{Check, State};
pub use host::Host;
pub use kvm::Backend;
pub use report::Report;

/// Looks at `host`.
pub fn examine(host: &Host) -> Report {
    let backend = Backend::of(host);
    let mut checks = kvm::checks(host, backend, &kvm::ask(host));
    checks.extend(memory::checks(host));
    checks.extend(devices::checks(host));
    checks.extend(confine::checks(host));
    Report::new(backend, checks)
}

#[cfg(test)]
mod fake;
