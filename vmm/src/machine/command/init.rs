//! The first program in the guest: it runs a command, waits for its end, and tells its status.

use super::program::{Program, When};

/// Where a program is looked for, as in any shell.
const PATH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What is mounted: kind, where, flags, and whether the directory is made first. What is there already,
/// or has no directory in the root, fails, and that is all right.
const MOUNTS: [(&str, &str, u32, bool); 6] = [
    ("devtmpfs", "/dev", NOSUID, false),
    ("proc", "/proc", NOSUID | NODEV | NOEXEC, false),
    ("sysfs", "/sys", NOSUID | NODEV | NOEXEC, false),
    ("devpts", "/dev/pts", NOSUID | NOEXEC, true),
    ("tmpfs", "/dev/shm", NOSUID | NODEV, true),
    ("tmpfs", "/run", NOSUID | NODEV, false),
];
const NOSUID: u32 = 2;
const NODEV: u32 = 4;
const NOEXEC: u32 = 8;

/// System calls, by their numbers.
mod call {
    pub(super) const WRITE: u32 = 1;
    pub(super) const OPEN: u32 = 2;
    pub(super) const IOCTL: u32 = 16;
    pub(super) const PAUSE: u32 = 34;
    pub(super) const FORK: u32 = 57;
    pub(super) const EXECVE: u32 = 59;
    pub(super) const WAIT4: u32 = 61;
    pub(super) const MKDIR: u32 = 83;
    pub(super) const SETSID: u32 = 112;
    pub(super) const SYNC: u32 = 162;
    pub(super) const MOUNT: u32 = 165;
    pub(super) const REBOOT: u32 = 169;
    pub(super) const IOPERM: u32 = 173;
    pub(super) const EXIT_GROUP: u32 = 231;
}

const TIOCSCTTY: u32 = 0x540e;
const ANY_CHILD: u32 = u32::MAX;
const POWER_OFF: [u32; 3] = [0xfee1_dead, 672_274_793, 0x4321_fedc];

const O_WRONLY: u32 = 1;
const MS_REMOUNT: u32 = 32;

/// What a shell says of a program that is not there, or cannot be run.
const NOT_FOUND: u32 = 127;
const NOT_RUN: u32 = 126;
/// Of a command that could not even be tried.
const NOT_TRIED: u32 = 125;

/// Mounts what programs expect, runs `command`, and tells its status by writing it to the file `path`
/// and to `port`.
pub(super) fn program(command: &[String], (path, port): (&str, u16)) -> Vec<u8> {
    let mut program = Program::default();
    mount(&mut program);
    run(&mut program, command);
    finish_writing(&mut program);
    tell(&mut program, path);
    end_machine(&mut program, port);
    program.elf()
}

fn mount(program: &mut Program) {
    for (kind, place, flags, make) in MOUNTS {
        let (kind, place) = (program.text(kind.as_bytes()), program.text(place.as_bytes()));
        if make {
            program.call(call::MKDIR, &[place, 0o755]);
        }
        program.call(call::MOUNT, &[kind, place, kind, flags, 0]);
    }
}

/// Runs the command and waits until it ends; its status, as a shell has it, is then in `ebp`. What else
/// ends meanwhile has lost its parent, and is waited for too.
fn run(program: &mut Program, command: &[String]) {
    let status = program.list(&[]);
    program.set(&[0xbd], NOT_TRIED); // mov ebp, imm32
    program.call(call::FORK, &[]);
    program.raw(&[0x85, 0xc0]); // test eax, eax
    let child = program.jump(When::Zero);
    let failed = program.jump(When::Negative);
    program.raw(&[0x89, 0xc3]); // mov ebx, eax
    let wait = program.here();
    program.call(call::WAIT4, &[ANY_CHILD, status, 0, 0]);
    program.raw(&[0x39, 0xd8]); // cmp eax, ebx
    program.back(When::NotZero, wait);
    program.set(&[0x8b, 0x04, 0x25], status); // mov eax, [status]
    program.raw(&[0x89, 0xc5]); // mov ebp, eax
    program.raw(&[0x83, 0xe5, 0x7f]); // and ebp, 0x7f
    let exited = program.jump(When::Zero);
    program.raw(&[0x81, 0xc5, 128, 0, 0, 0]); // add ebp, 128
    let killed = program.jump(When::Always);
    program.land(exited);
    program.raw(&[0x0f, 0xb6, 0xec]); // movzx ebp, ah
    program.land(killed);
    let done = program.jump(When::Always);
    program.land(child);
    become_command(program, command);
    program.land(done);
    program.land(failed);
}

/// In the child: a session of its own on the console, then the command.
fn become_command(program: &mut Program, command: &[String]) {
    let name = command.first().map_or("", String::as_str);
    let words: Vec<u32> = command.iter().map(|word| program.text(word.as_bytes())).collect();
    let path = format!("PATH={}", PATH.join(":"));
    let environment = [path.as_str(), "HOME=/root", "TERM=linux"];
    let environment = environment.map(|variable| program.text(variable.as_bytes()));
    let (words, environment) = (program.list(&words), program.list(&environment));
    program.call(call::SETSID, &[]);
    program.call(call::IOCTL, &[0, TIOCSCTTY, 0]);
    let places = if name.contains('/') || name.is_empty() {
        vec![name.to_owned()]
    } else {
        PATH.iter().map(|place| format!("{place}/{name}")).collect()
    };
    let mut refused = Vec::new();
    for place in places {
        let place = program.text(place.as_bytes());
        program.call(call::EXECVE, &[place, words, environment]);
        program.raw(&[0x83, 0xf8, 0xfe]); // cmp eax, -ENOENT
        let absent = program.jump(When::Zero);
        program.raw(&[0x83, 0xf8, 0xec]); // cmp eax, -ENOTDIR
        refused.push(program.jump(When::NotZero));
        program.land(absent);
    }
    end(program, &format!("purlin: {name}: there is no such program\n"), NOT_FOUND);
    for jump in refused {
        program.land(jump);
    }
    end(program, &format!("purlin: {name}: cannot be run\n"), NOT_RUN);
}

fn end(program: &mut Program, message: &str, status: u32) {
    say(program, message);
    program.call(call::EXIT_GROUP, &[status]);
}

fn say(program: &mut Program, message: &str) {
    let (len, text) = (u32::try_from(message.len()).unwrap_or(0), program.text(message.as_bytes()));
    program.call(call::WRITE, &[2, text, len]);
}

/// What was written is on the host before the machine ends. The root is made writable, so that the file
/// for the status is: whether the host's files are is decided there.
fn finish_writing(program: &mut Program) {
    let root = program.text(b"/");
    program.call(call::SYNC, &[]);
    program.call(call::MOUNT, &[0, root, 0, MS_REMOUNT, 0]);
}

/// Writes the status, a byte, to the file `path`.
fn tell(program: &mut Program, path: &str) {
    let status = program.list(&[]);
    program.set(&[0x89, 0x2c, 0x25], status); // mov [status], ebp
    let path = program.text(path.as_bytes());
    program.call(call::OPEN, &[path, O_WRONLY]);
    program.raw(&[0x89, 0xc7]); // mov edi, eax
    program.set(&[0xbe], status); // mov esi, imm32
    program.set(&[0xba], 1); // mov edx, imm32
    program.set(&[0xb8], call::WRITE); // mov eax, imm32
    program.raw(&[0x0f, 0x05]); // syscall
}

/// Writes the status to the port, which ends the machine at once. A kernel that does not let programs
/// use ports is made to power off.
fn end_machine(program: &mut Program, port: u16) {
    program.call(call::IOPERM, &[port.into(), 1, 1]);
    program.raw(&[0x85, 0xc0]); // test eax, eax
    let denied = program.jump(When::NotZero);
    program.raw(&[0x89, 0xe8]); // mov eax, ebp
    program.set(&[0xba], port.into()); // mov edx, imm32
    program.raw(&[0xee]); // out dx, al
    program.land(denied);
    program.call(call::REBOOT, &POWER_OFF);
    let forever = program.here();
    program.call(call::PAUSE, &[]);
    program.back(When::Always, forever);
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        process::{Command, Output},
    };

    use iced_x86::{Decoder, DecoderOptions, Mnemonic};
    use vmm_sys_util::tempdir::TempDir;

    use super::*;

    /// Runs a command on this host as it would be in a guest, without the mounts and the port.
    fn runs(command: &[&str]) -> Output {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut program = Program::default();
        run(&mut program, &command);
        program.raw(&[0x89, 0xef]); // mov edi, ebp
        program.set(&[0xb8], call::EXIT_GROUP);
        program.raw(&[0x0f, 0x05]);
        start(&program)
    }

    fn start(program: &Program) -> Output {
        let directory = TempDir::new().unwrap();
        let [data, path] = ["data", "init"].map(|name| directory.as_path().join(name));
        fs::write(&data, program.elf()).unwrap();
        // By another process: children that other tests fork would keep a file busy that was open for
        // writing here.
        let install = Command::new("install").arg("-m755").args([&data, &path]).status().unwrap();
        assert!(install.success());
        Command::new(path).output().unwrap()
    }

    fn status(command: &[&str]) -> Option<i32> {
        runs(command).status.code()
    }

    #[test]
    fn the_status_of_the_command_comes_out_whole() {
        for code in [0, 1, 2, 77, 127, 128, 255] {
            assert_eq!(status(&["sh", "-c", &format!("exit {code}")]), Some(code));
        }
    }

    #[test]
    fn a_signal_counts_from_128_on() {
        assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Some(143));
        assert_eq!(status(&["/bin/sh", "-c", "kill -KILL $$"]), Some(137));
    }

    #[test]
    fn words_come_as_they_are() {
        let words = ["printf", "<%s>", "a b", "", "ü\n", "'\"$x"];
        assert_eq!(runs(&words).stdout, "<a b><><ü\n><'\"$x>".as_bytes());
        let long = "x".repeat(100_000);
        assert_eq!(runs(&["printf", "%s", &long]).stdout, long.as_bytes());
    }

    #[test]
    fn the_status_is_written_to_the_file() {
        let directory = TempDir::new().unwrap();
        let told = directory.as_path().join("status");
        fs::write(&told, "").unwrap();
        let mut program = Program::default();
        run(&mut program, &["sh".into(), "-c".into(), "exit 200".into()]);
        tell(&mut program, told.to_str().unwrap());
        program.call(call::EXIT_GROUP, &[0]);
        assert!(start(&program).status.success());
        assert_eq!(fs::read(told).unwrap(), [200]);
    }

    #[test]
    fn a_program_is_looked_for_in_the_usual_places() {
        let output = runs(&["sh", "-c", "echo $PATH $HOME $TERM"]);
        let path = PATH.join(":");
        assert_eq!(output.stdout, format!("{path} /root linux\n").as_bytes());
    }

    #[test]
    fn a_program_that_is_not_there_or_cannot_be_run_is_named() {
        let output = runs(&["no-such-program"]);
        assert_eq!(output.status.code(), Some(127));
        assert_eq!(output.stderr, b"purlin: no-such-program: there is no such program\n");
        let output = runs(&["/etc/passwd"]);
        assert_eq!(output.status.code(), Some(126));
        assert_eq!(output.stderr, b"purlin: /etc/passwd: cannot be run\n");
        assert_eq!(status(&["/etc/passwd/sh"]), Some(127));
        assert_eq!(status(&[""]), Some(127));
    }

    #[test]
    fn what_loses_its_parent_does_not_end_the_wait() {
        assert_eq!(status(&["sh", "-c", "(sleep 0.05 &) ; exit 9"]), Some(9));
    }

    #[test]
    fn every_instruction_is_one() {
        let mut program = Program::default();
        mount(&mut program);
        run(&mut program, &["sh".into(), "-c".into(), "true".into()]);
        finish_writing(&mut program);
        tell(&mut program, "/status");
        end_machine(&mut program, 0x520);
        let decoder = Decoder::new(64, program.code(), DecoderOptions::NONE);
        let mnemonics: Vec<_> = decoder.into_iter().map(|decoded| decoded.mnemonic()).collect();
        assert!(!mnemonics.contains(&Mnemonic::INVALID));
        let calls = mnemonics.iter().filter(|mnemonic| **mnemonic == Mnemonic::Syscall).count();
        assert_eq!(calls, 8 + 14 + 7);
        assert_eq!(mnemonics.iter().filter(|mnemonic| **mnemonic == Mnemonic::Out).count(), 1);
    }
}
