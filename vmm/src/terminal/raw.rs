//! Raw mode, and back.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic,
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use nix::{
    sys::termios::{self, SetArg, Termios},
    unistd::{getpgrp, tcgetpgrp},
};

/// The user's terminal and its settings, while it is raw. Global, because a panic and a signal end
/// the process from wherever they find it.
static SAVED: Mutex<Option<Saved>> = Mutex::new(None);

struct Saved {
    terminal: OwnedFd,
    settings: Termios,
}

/// Keeps a terminal raw as long as it lives: keys go to the guest as they are typed, unechoed, and
/// none of them is a signal. Output is still what the user's settings make of it, so that messages
/// of the VMM look right among those of the guest.
///
/// The settings come back when this is dropped, when the process panics (even if it then aborts),
/// and by [`restore`]. A process has one raw terminal at a time.
#[derive(Debug)]
#[must_use = "the settings come back when this is dropped"]
pub struct Terminal(());

impl Terminal {
    /// Makes `input` raw. Gives `None`, and does nothing, if it is no terminal. If this process is
    /// in the background of the terminal, the settings are left alone until [`reapply`] finds it in
    /// the foreground: changing them would stop the process.
    ///
    /// # Errors
    /// The terminal does not give its settings, or does not take them.
    pub fn raw(input: impl AsFd) -> io::Result<Option<Self>> {
        let input = input.as_fd();
        if !input.is_terminal() {
            return Ok(None);
        }
        restore_on_panic();
        let settings = termios::tcgetattr(input)?;
        *saved() = Some(Saved { terminal: input.try_clone_to_owned()?, settings });
        // From here on, an early return restores.
        let terminal = Self(());
        apply(raw_settings)?;
        Ok(Some(terminal))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its user's settings back, if it is raw. May be called from any thread, any
/// number of times; not from a signal handler.
pub fn restore() {
    // What fails here cannot be told to anyone, and the process is about to end.
    let _ = lend();
    *saved() = None;
}

/// Gives the terminal its user's settings back for the time being, if it is raw: for SIGTSTP, when a
/// shell gets the terminal. [`reapply`] takes it again.
///
/// # Errors
/// The terminal does not take the settings.
pub fn lend() -> io::Result<()> {
    apply(Termios::clone)
}

/// Makes the terminal raw again if a [`Terminal`] lives: for SIGCONT, when a shell has had the
/// terminal in between.
///
/// # Errors
/// The terminal does not take the settings.
pub fn reapply() -> io::Result<()> {
    apply(raw_settings)
}

fn saved() -> MutexGuard<'static, Option<Saved>> {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sets what `change` makes of the user's settings.
fn apply(change: impl Fn(&Termios) -> Termios) -> io::Result<()> {
    match &*saved() {
        Some(Saved { terminal, settings }) if in_foreground(terminal.as_fd()) => {
            Ok(termios::tcsetattr(terminal, SetArg::TCSANOW, &change(settings))?)
        }
        _ => Ok(()),
    }
}

/// Whether this process may change the terminal. One that is not its controlling terminal, which
/// gives no process group, does not stop it for that.
fn in_foreground(terminal: BorrowedFd<'_>) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

fn raw_settings(user: &Termios) -> Termios {
    let mut raw = user.clone();
    termios::cfmakeraw(&mut raw);
    raw.output_flags = user.output_flags;
    raw
}

fn restore_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A panic in this very module may hold the lock.
            if SAVED.try_lock().is_ok() {
                restore();
            }
            report(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::thread;

    use nix::{
        pty::{OpenptyResult, openpty},
        sys::termios::{InputFlags, LocalFlags, OutputFlags},
    };

    use super::*;

    /// The state under test is the process's: one test at a time.
    static TURN: Mutex<()> = Mutex::new(());

    fn turn() -> MutexGuard<'static, ()> {
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a [`Terminal`] lives.
    fn is_raw() -> bool {
        saved().is_some()
    }

    fn pty() -> OpenptyResult {
        openpty(None, None).unwrap()
    }

    fn flags(pty: &OpenptyResult) -> (LocalFlags, InputFlags, OutputFlags) {
        let settings = termios::tcgetattr(&pty.slave).unwrap();
        (settings.local_flags, settings.input_flags, settings.output_flags)
    }

    fn is_canonical(pty: &OpenptyResult) -> bool {
        flags(pty).0.contains(LocalFlags::ICANON)
    }

    #[test]
    fn a_raw_terminal_neither_echoes_nor_edits_nor_signals() {
        let (_turn, pty) = (turn(), pty());
        let _terminal = Terminal::raw(&pty.slave).unwrap().unwrap();
        let (local, input, output) = flags(&pty);
        assert!(!local.intersects(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG));
        assert!(!input.intersects(InputFlags::ICRNL | InputFlags::IXON));
        assert!(output.contains(OutputFlags::OPOST));
        assert!(is_raw());
    }

    #[test]
    fn the_users_settings_come_back_on_drop() {
        let (_turn, pty) = (turn(), pty());
        let before = flags(&pty);
        let terminal = Terminal::raw(&pty.slave).unwrap();
        assert_ne!(flags(&pty), before);
        drop(terminal);
        assert_eq!(flags(&pty), before);
        assert!(!is_raw());
    }

    #[test]
    fn the_users_settings_come_back_when_a_thread_panics() {
        let (_turn, pty) = (turn(), pty());
        let before = flags(&pty);
        let terminal = Terminal::raw(&pty.slave).unwrap();
        thread::spawn(|| panic!("on purpose")).join().unwrap_err();
        let after = flags(&pty);
        drop(terminal);
        assert_eq!(after, before);
    }

    #[test]
    fn restore_works_from_anywhere_and_twice() {
        let (_turn, pty) = (turn(), pty());
        let terminal = Terminal::raw(&pty.slave).unwrap();
        thread::spawn(restore).join().unwrap();
        restore();
        assert!(is_canonical(&pty));
        drop(terminal);
    }

    #[test]
    fn reapply_makes_it_raw_again_after_someone_else_had_it() {
        let (_turn, pty) = (turn(), pty());
        let before = termios::tcgetattr(&pty.slave).unwrap();
        let _terminal = Terminal::raw(&pty.slave).unwrap();
        termios::tcsetattr(&pty.slave, SetArg::TCSANOW, &before).unwrap();
        reapply().unwrap();
        assert!(!is_canonical(&pty));
    }

    #[test]
    fn reapply_without_a_raw_terminal_does_nothing() {
        let _turn = turn();
        reapply().unwrap();
        assert!(!is_raw());
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let _turn = turn();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Terminal::raw(&file).unwrap().is_none());
        assert!(!is_raw());
    }
}
