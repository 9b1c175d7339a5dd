//! Processors and memory.

use super::{Check, Host, State};
use crate::config::Size;

const MIB: u64 = 1 << 20;

/// The checks of processors and memory.
pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![
        processors(host),
        ram(host),
        transparent(host),
        reserved(host, "huge pages of 2M", 2048, "sysctl vm.nr_hugepages=COUNT"),
        reserved(
            host,
            "huge pages of 1G",
            1 << 20,
            "start the host with hugepagesz=1G hugepages=COUNT on its kernel command line",
        ),
        userfaultfd(host),
        locked(host),
    ]
}

fn processors(host: &Host) -> Check {
    let info = host.read("proc/cpuinfo").unwrap_or_default();
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let allowed = host.entry("proc/self/status", "Cpus_allowed_list");
    let allowed = allowed.map(|list| format!(", of which this process may use {list}"));
    let found = format!("{count}{}", allowed.unwrap_or_default());
    Check::ok("processors", "running vCPUs at the same time", found)
}

fn ram(host: &Host) -> Check {
    let purpose = "guest RAM (--memory)";
    match (host.memory(), host.kilobytes("MemAvailable")) {
        (Some(total), Some(free)) => {
            let found = format!("{}, {} available", mebibytes(total), mebibytes(free));
            let check = Check::ok("memory", purpose, found);
            let tight = "stop other programs, or give guests little memory";
            if free < 256 * MIB { check.but(State::Warning, tight) } else { check }
        }
        _ => Check::ok("memory", purpose, "the host does not say")
            .but(State::Warning, "mount /proc: mount -t proc proc /proc"),
    }
}

fn mebibytes(bytes: u64) -> Size {
    Size(bytes / MIB * MIB)
}

fn transparent(host: &Host) -> Check {
    let text = host.read("sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    let mode = text.split(['[', ']']).nth(1).unwrap_or("not built into the kernel");
    let purpose = "faster guest memory without reservation, by default (--memory ...,pages=...)";
    let check = Check::ok("transparent huge pages", purpose, mode);
    match mode {
        "always" | "madvise" => check,
        "never" => {
            let enable = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
            check.but(State::Warning, enable)
        }
        _ => check.but(State::Missing, "use a kernel with CONFIG_TRANSPARENT_HUGEPAGE"),
    }
}

fn reserved(host: &Host, name: &str, kilobytes: u64, get: &str) -> Check {
    let count =
        |file| host.number(&format!("sys/kernel/mm/hugepages/hugepages-{kilobytes}kB/{file}"));
    let purpose = format!(
        "faster guest memory from a reserve (--memory ...,pages={})",
        if kilobytes == 2048 { "2M" } else { "1G" }
    );
    match (count("free_hugepages"), count("nr_hugepages")) {
        (Some(free), Some(all)) => {
            let check = Check::ok(name, &purpose, format!("{free} free of {all} reserved"));
            if free == 0 { check.but(State::Warning, get) } else { check }
        }
        _ => Check::ok(name, &purpose, "not on this processor or kernel")
            .but(State::Missing, "use a processor that has them and a kernel with hugetlbfs"),
    }
}

fn userfaultfd(host: &Host) -> Check {
    const PTRACE: u32 = 19;
    let purpose = "restoring guests before all of their memory is read";
    let check = |found| Check::ok("userfaultfd", purpose, found);
    match host.number("proc/sys/vm/unprivileged_userfaultfd") {
        None => check("not built into the kernel")
            .but(State::Missing, "use a kernel with CONFIG_USERFAULTFD"),
        Some(_) if host.has_capability(PTRACE) => check("by CAP_SYS_PTRACE"),
        Some(_) if host.may_use("dev/userfaultfd") => check("by /dev/userfaultfd"),
        Some(1) => check("for every user (vm.unprivileged_userfaultfd=1)"),
        Some(_) => check("not for this user").but(
            State::Missing,
            "give this user access to /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1",
        ),
    }
}

fn locked(host: &Host) -> Check {
    let soft = host.limit("Max locked memory");
    let purpose = "registering io_uring buffers and locking guest RAM";
    let check = Check::ok("locked memory limit", purpose, soft.clone().unwrap_or("unknown".into()));
    match soft.as_deref().map(str::parse::<u64>) {
        Some(Ok(bytes)) if bytes < 8 * MIB => {
            check.but(State::Warning, "raise it: ulimit -l, or LimitMEMLOCK= in a systemd unit")
        }
        None => check.but(State::Warning, "mount /proc: mount -t proc proc /proc"),
        _ => check,
    }
}

impl Host {
    /// The soft limit on a resource of this process, as /proc/self/limits writes it.
    pub(super) fn limit(&self, name: &str) -> Option<String> {
        let limits = self.read("proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::fake::{Fake, named};

    fn check(fake: &Fake, name: &str) -> Check {
        named(&checks(&fake.host()), name)
    }

    #[test]
    fn memory_is_told_in_all_and_available() {
        let fake =
            Fake::new().file("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 524288 kB");
        assert_eq!(check(&fake, "memory").found, "2G, 512M available");
        assert_eq!(check(&fake, "memory").state, State::Ok);
    }

    #[test]
    fn little_memory_is_a_warning() {
        let fake = Fake::new().file("proc/meminfo", "MemTotal: 2097152 kB\nMemAvailable: 1024 kB");
        assert_eq!(check(&fake, "memory").state, State::Warning);
    }

    #[test]
    fn the_mode_of_transparent_huge_pages_is_the_one_in_brackets() {
        const PATH: &str = "sys/kernel/mm/transparent_hugepage/enabled";
        let fake = Fake::new().file(PATH, "always [madvise] never\n");
        assert_eq!(check(&fake, "transparent huge pages").found, "madvise");
        let never = check(&fake.file(PATH, "always madvise [never]\n"), "transparent huge pages");
        assert_eq!(never.state, State::Warning);
        assert_eq!(check(&Fake::new(), "transparent huge pages").state, State::Missing);
    }

    #[test]
    fn reserved_pages_are_ok_only_if_some_are_free() {
        let directory = "sys/kernel/mm/hugepages/hugepages-2048kB";
        let fake = Fake::new()
            .file(&format!("{directory}/nr_hugepages"), "8\n")
            .file(&format!("{directory}/free_hugepages"), "3\n");
        assert_eq!(check(&fake, "huge pages of 2M").found, "3 free of 8 reserved");
        assert_eq!(check(&fake, "huge pages of 2M").state, State::Ok);
        assert_eq!(check(&fake, "huge pages of 1G").state, State::Missing);
        let fake = fake.file(&format!("{directory}/free_hugepages"), "0\n");
        assert_eq!(check(&fake, "huge pages of 2M").state, State::Warning);
    }

    #[test]
    fn userfaultfd_is_there_for_those_who_may() {
        const SYSCTL: &str = "proc/sys/vm/unprivileged_userfaultfd";
        assert_eq!(check(&Fake::new(), "userfaultfd").found, "not built into the kernel");
        let fake = Fake::new().file(SYSCTL, "0");
        assert_eq!(check(&fake, "userfaultfd").state, State::Missing);
        let fake = fake.file("dev/userfaultfd", "");
        assert_eq!(check(&fake, "userfaultfd").found, "by /dev/userfaultfd");
        let fake = Fake::new().file(SYSCTL, "1");
        assert_eq!(check(&fake, "userfaultfd").state, State::Ok);
    }

    #[test]
    fn the_soft_limit_is_the_first_number() {
        let line = "Max locked memory         65536                8388608              bytes";
        let fake = Fake::new().file("proc/self/limits", line);
        assert_eq!(check(&fake, "locked memory limit").found, "65536");
        assert_eq!(check(&fake, "locked memory limit").state, State::Warning);
        let fake = fake.file("proc/self/limits", "Max locked memory  unlimited unlimited bytes");
        assert_eq!(check(&fake, "locked memory limit").state, State::Ok);
    }

    #[test]
    fn processors_are_counted() {
        let fake = Fake::new()
            .file("proc/cpuinfo", "processor : 0\nx : y\n\nprocessor : 1\n")
            .file("proc/self/status", "Cpus_allowed_list:\t1\n");
        assert_eq!(check(&fake, "processors").found, "2, of which this process may use 1");
    }
}
