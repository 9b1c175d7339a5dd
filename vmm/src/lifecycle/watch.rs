//! What the main thread does while the guest runs.

use std::time::Instant;

use nix::sys::signal::Signal;
use vcpu::Vcpus;

use super::control::{Control, ControlError, Wake};
use crate::machine::{Buttons, TerminalSize};

/// Who ended a run that the guest did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The escape key, or whoever signalled [`Control::quit_event`].
    Quit,
    /// A signal, after which the guest did not shut down in time, or a second one.
    Signal(Signal),
}

/// Who wanted the end, if not the guest.
pub(super) struct Wish {
    pub(super) cause: Cause,
    /// Whether the machine was stopped, and not only its power button pressed.
    pub(super) stopped: bool,
}

/// Obeys `control` until the machine has stopped. Returns who asked for the end, if not the guest: a
/// guest that answers the power button with a reset must not boot again.
pub(super) fn until_stopped(
    cpus: &Vcpus,
    buttons: &Buttons,
    terminal: Option<&TerminalSize>,
    control: &mut Control,
) -> Result<Option<Wish>, ControlError> {
    let mut watch = control.watch(cpus.stop_event())?;
    let mut closing: Option<(Signal, Instant)> = None;
    loop {
        let cause = match watch.next(closing.map(|(_, end)| end)) {
            Wake::Stopped => {
                let wish = |(signal, _)| Wish { cause: Cause::Signal(signal), stopped: false };
                return Ok(closing.map(wish));
            }
            Wake::CtrlAltDel => {
                if !buttons.ctrl_alt_del() {
                    log::warn!("the guest does not listen to its keyboard");
                }
                continue;
            }
            Wake::Resized => {
                terminal.inspect(|terminal| terminal.follow());
                continue;
            }
            Wake::Terminate(signal) if closing.is_none() => {
                log::info!("{}: pressing the power button", signal.as_str());
                buttons.power();
                closing = Some((signal, Instant::now() + watch.grace()));
                continue;
            }
            Wake::Terminate(signal) | Wake::Quit(Some(signal)) => Cause::Signal(signal),
            Wake::Quit(None) => Cause::Quit,
            Wake::Late => {
                log::warn!("the guest did not shut down within {:?}", watch.grace());
                closing.map_or(Cause::Quit, |(signal, _)| Cause::Signal(signal))
            }
        };
        cpus.request_stop();
        return Ok(Some(Wish { cause, stopped: true }));
    }
}
