//! What the main thread does while the guest runs.

use std::time::Instant;

use nix::sys::signal::Signal;
use vcpu::Vcpus;

use super::control::{Control, Wake};
use crate::machine::Buttons;

/// Who ended a run that the guest did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The escape key, or whoever signalled [`Control::quit_event`].
    Quit,
    /// A signal, after which the guest did not shut down in time, or a second one.
    Signal(Signal),
}

/// Obeys `control` until the machine has stopped. Returns who stopped it, if not the guest.
pub(super) fn until_stopped(
    cpus: &Vcpus,
    buttons: &Buttons,
    control: &mut Control,
) -> Option<Cause> {
    let mut closing: Option<(Signal, Instant)> = None;
    loop {
        let cause = match control.wait(cpus.stop_event(), closing.map(|(_, end)| end)) {
            Wake::Stopped => return None,
            Wake::Terminate(signal) if closing.is_none() => {
                log::info!("{signal}: pressing the power button");
                buttons.power();
                closing = Some((signal, Instant::now() + control.grace()));
                continue;
            }
            Wake::Terminate(signal) | Wake::Quit(Some(signal)) => Cause::Signal(signal),
            Wake::Quit(None) => Cause::Quit,
            Wake::Late => {
                log::warn!("the guest did not shut down within {:?}", control.grace());
                closing.map_or(Cause::Quit, |(signal, _)| Cause::Signal(signal))
            }
        };
        cpus.request_stop();
        return Some(cause);
    }
}
