//! What confines a VMM: Landlock, seccomp, cgroups, limits.

use super::{Check, Host, State};

/// The checks of what confines a VMM.
pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![landlock(host), seccomp(host), cgroup(host), files(host)]
}

fn landlock(host: &Host) -> Check {
    let check = |found| Check::ok("Landlock", "confining the VMM to its own files", found);
    match host.read("sys/kernel/security/lsm") {
        Some(list) if list.split(',').any(|name| name == "landlock") => check("active"),
        Some(list) => check(&format!("not among the active security modules ({list})"))
            .but(State::Missing, "add landlock to lsm= on the host's kernel command line"),
        None => check("cannot be told: /sys/kernel/security/lsm is not there").but(
            State::Warning,
            "mount securityfs: mount -t securityfs securityfs /sys/kernel/security",
        ),
    }
}

fn seccomp(host: &Host) -> Check {
    let check =
        |found| Check::ok("seccomp", "confining each thread to the system calls it needs", found);
    let actions = host.read("proc/sys/kernel/seccomp/actions_avail");
    match (host.entry("proc/self/status", "Seccomp"), actions) {
        (Some(_), Some(actions)) if actions.contains("kill_process") => check("filters can be set"),
        (Some(_), _) => check("there, without the action kill_process")
            .but(State::Warning, "use Linux 4.14 or newer"),
        (None, _) => check("not built into the kernel")
            .but(State::Missing, "use a kernel with CONFIG_SECCOMP_FILTER"),
    }
}

fn cgroup(host: &Host) -> Check {
    let check =
        |found: String| Check::ok("cgroups", "limits on the CPU time and memory of a guest", found);
    match host.read("sys/fs/cgroup/cgroup.controllers") {
        Some(list) if ["cpu", "memory"].iter().all(|name| list.split(' ').any(|found| found == *name)) => {
            check(format!("version 2 with {list}"))
        }
        Some(list) => check(format!("version 2 with {list}")).but(
            State::Warning,
            "free the controllers cpu and memory from version 1: cgroup_no_v1=all on the host's kernel command line",
        ),
        None => check("version 2 is not mounted".into())
            .but(State::Warning, "mount it: mount -t cgroup2 none /sys/fs/cgroup"),
    }
}

fn files(host: &Host) -> Check {
    let soft = host.limit("Max open files");
    let found = soft.clone().unwrap_or_else(|| "unknown".into());
    let check = Check::ok("open files limit", "guests with many devices and vCPUs", found);
    match soft.as_deref().map(str::parse::<u64>) {
        Some(Ok(files)) if files < 1024 => {
            check.but(State::Warning, "raise it: ulimit -n 1024, or LimitNOFILE= in a systemd unit")
        }
        None => check.but(State::Warning, "mount /proc: mount -t proc proc /proc"),
        _ => check,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fake::{Fake, named};

    fn state(fake: &Fake, name: &str) -> State {
        named(&checks(&fake.host()), name).state
    }

    #[test]
    fn landlock_has_to_be_among_the_active_modules() {
        const PATH: &str = "sys/kernel/security/lsm";
        assert_eq!(
            state(&Fake::new().file(PATH, "capability,landlock,yama"), "Landlock"),
            State::Ok
        );
        assert_eq!(state(&Fake::new().file(PATH, "capability"), "Landlock"), State::Missing);
        assert_eq!(state(&Fake::new(), "Landlock"), State::Warning);
    }

    #[test]
    fn seccomp_has_to_be_able_to_kill() {
        let fake = Fake::new();
        assert_eq!(state(&fake, "seccomp"), State::Missing);
        let fake = fake.file("proc/self/status", "Seccomp:\t0\n");
        assert_eq!(state(&fake, "seccomp"), State::Warning);
        let fake = fake.file("proc/sys/kernel/seccomp/actions_avail", "kill_process kill_thread");
        assert_eq!(state(&fake, "seccomp"), State::Ok);
    }

    #[test]
    fn cgroups_need_the_controllers_of_cpu_and_memory() {
        const PATH: &str = "sys/fs/cgroup/cgroup.controllers";
        assert_eq!(state(&Fake::new().file(PATH, "cpuset cpu io memory\n"), "cgroups"), State::Ok);
        assert_eq!(state(&Fake::new().file(PATH, "cpuset io\n"), "cgroups"), State::Warning);
        assert_eq!(state(&Fake::new(), "cgroups"), State::Warning);
    }

    #[test]
    fn few_open_files_are_a_warning() {
        const PATH: &str = "proc/self/limits";
        let fake = Fake::new().file(PATH, "Max open files   256   4096   files");
        assert_eq!(state(&fake, "open files limit"), State::Warning);
        let fake = fake.file(PATH, "Max open files   1024   4096   files");
        assert_eq!(state(&fake, "open files limit"), State::Ok);
    }
}
