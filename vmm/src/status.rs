//! What the exit status of `purlin` says.

use std::process::ExitCode;

use vcpu::Stop;

/// The exit statuses of `purlin`. Its own are even: the odd ones belong to guests that end the run
/// through the debug exit port 0xf4, where writing `n` gives `2n + 1` modulo 256, as in QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// 0: the guest powered off, or the command did what was asked.
    Done,
    /// 2: a wrong flag or configuration; nothing ran.
    Usage,
    /// 4: the host or the VMM failed.
    Failed,
    /// 6: the guest asked for a reset, and `--on-reset exit` is in force.
    Reset,
    /// 8: the guest's kernel reported a panic (pvpanic).
    Panic,
    /// 10: the guest crashed: triple fault, or an instruction that the host cannot run.
    Crash,
    /// 14: stopped from outside before the guest powered off: Ctrl-A x, or the signals SIGTERM and
    /// SIGINT after the grace period or twice.
    Stopped,
    /// Odd: the guest's own code.
    Guest(u8),
}

impl ExitStatus {
    /// The statuses with fixed numbers, and what they mean in a line.
    pub const TABLE: [(Self, &'static str); 7] = [
        (Self::Done, "the guest powered off"),
        (Self::Usage, "wrong flag or configuration; nothing ran"),
        (Self::Failed, "the host or the VMM failed"),
        (Self::Reset, "the guest asked for a reset (with --on-reset exit)"),
        (Self::Panic, "the guest's kernel panicked"),
        (Self::Crash, "the guest crashed (its registers are on stderr)"),
        (Self::Stopped, "stopped from outside, by Ctrl-A x or a signal"),
    ];

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Usage => 2,
            Self::Failed => 4,
            Self::Reset => 6,
            Self::Panic => 8,
            Self::Crash => 10,
            Self::Stopped => 14,
            Self::Guest(code) => code,
        }
    }
}

impl From<&Stop> for ExitStatus {
    fn from(stop: &Stop) -> Self {
        match stop {
            Stop::PowerOff => Self::Done,
            Stop::Reset => Self::Reset,
            Stop::Panic => Self::Panic,
            Stop::Exit(code) => Self::Guest(*code),
            Stop::Fault(_) => Self::Crash,
            Stop::Requested => Self::Stopped,
            // A debugger's stop, which nothing here asks for; a halt for good, which KVM never reports
            // because its own local APIC could end it.
            _ => Self::Failed,
        }
    }
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn own_statuses_are_even_and_differ() {
        let codes: BTreeSet<u8> =
            ExitStatus::TABLE.iter().map(|(status, _)| status.code()).collect();
        assert_eq!(codes.len(), ExitStatus::TABLE.len());
        assert!(codes.iter().all(|code| code % 2 == 0));
    }

    #[test]
    fn every_stop_has_its_status() {
        let stops = [Stop::PowerOff, Stop::Reset, Stop::Panic, Stop::Requested];
        let codes = stops.each_ref().map(|stop| ExitStatus::from(stop).code());
        assert_eq!(codes, [0, 6, 8, 14]);
        assert_eq!(ExitStatus::from(&Stop::Debug { pc: 0 }), ExitStatus::Failed);
    }

    #[test]
    fn a_guests_own_code_is_passed_through() {
        assert_eq!(ExitStatus::from(&Stop::Exit(0x43)).code(), 0x43);
    }
}
