//! What devices are made of: tap, vhost, io_uring.

use super::{Check, Host, State};

const NET_ADMIN: u32 = 12;

/// The checks of what devices are made of.
pub(super) fn checks(host: &Host) -> Vec<Check> {
    vec![
        tap(host),
        node(host, "vhost-net", "network traffic that the host's kernel moves", "vhost_net"),
        node(
            host,
            "vhost-vsock",
            "sockets between host and guest, moved by the host's kernel",
            "vhost_vsock",
        ),
        io_uring(host),
    ]
}

fn tap(host: &Host) -> Check {
    let check = |found| Check::ok("tap", "guest networks by tap", found);
    let (there, usable) = (host.exists("dev/net/tun"), host.may_use("dev/net/tun"));
    match (there, usable, host.has_capability(NET_ADMIN)) {
        (false, ..) => check("/dev/net/tun does not exist").but(
            State::Missing,
            "load the module: modprobe tun; in a container, pass the device in",
        ),
        (_, false, _) => check("this user may not open /dev/net/tun")
            .but(State::Missing, "change the device's mode or group, or run as root"),
        (.., true) => check("/dev/net/tun may be opened, and CAP_NET_ADMIN is there"),
        _ => check("/dev/net/tun may be opened, but CAP_NET_ADMIN is not there").but(
            State::Warning,
            "have root make the tap device for this user: ip tuntap add NAME mode tap user USER",
        ),
    }
}

fn node(host: &Host, name: &str, purpose: &str, module: &str) -> Check {
    let path = format!("dev/{name}");
    match (host.exists(&path), host.may_use(&path)) {
        (_, true) => Check::ok(name, purpose, format!("/{path} may be opened")),
        (true, _) => Check::ok(name, purpose, format!("this user may not open /{path}"))
            .but(State::Missing, "change the device's mode or group, or run as root"),
        _ => Check::ok(name, purpose, format!("/{path} does not exist"))
            .but(State::Missing, format!("load the module: modprobe {module}")),
    }
}

fn io_uring(host: &Host) -> Check {
    let check =
        |found: &str| Check::ok("io_uring", "disks without a thread for each request", found);
    let enable =
        "sysctl kernel.io_uring_disabled=0; in a container, allow it in the seccomp profile";
    match (host.number("proc/sys/kernel/io_uring_disabled"), host.kernel()) {
        (Some(0), _) => check("for every user"),
        (Some(1), _) => check("for the group kernel.io_uring_group and CAP_SYS_ADMIN only")
            .but(State::Warning, enable),
        (Some(_), _) => {
            check("switched off (kernel.io_uring_disabled=2)").but(State::Missing, enable)
        }
        // Linux 6.6 brought the switch: before, its absence says nothing.
        (None, Some(version)) if ((5, 1)..(6, 6)).contains(&version) => {
            check("in kernels of this version, unless built without")
                .but(State::Warning, "use Linux 6.6 or newer to be sure")
        }
        (None, _) => check("not built into the kernel")
            .but(State::Missing, "use a kernel with CONFIG_IO_URING"),
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
    fn tap_needs_the_node_and_the_capability() {
        assert_eq!(check(&Fake::new(), "tap").state, State::Missing);
        let fake = Fake::new().file("dev/net/tun", "");
        assert_eq!(check(&fake, "tap").state, State::Warning);
        let fake = fake.file("proc/self/status", "CapEff:\t1000\n");
        assert_eq!(check(&fake, "tap").state, State::Ok);
    }

    #[test]
    fn a_node_that_is_not_there_names_its_module() {
        let missing = check(&Fake::new(), "vhost-net");
        assert_eq!(missing.remedy.as_deref(), Some("load the module: modprobe vhost_net"));
        let fake = Fake::new().file("dev/vhost-net", "");
        assert_eq!(check(&fake, "vhost-net").state, State::Ok);
        assert_eq!(check(&fake, "vhost-vsock").state, State::Missing);
    }

    #[test]
    fn io_uring_is_told_from_its_switch() {
        const SWITCH: &str = "proc/sys/kernel/io_uring_disabled";
        let states =
            ["0", "1", "2"].map(|value| check(&Fake::new().file(SWITCH, value), "io_uring").state);
        assert_eq!(states, [State::Ok, State::Warning, State::Missing]);
    }

    #[test]
    fn io_uring_without_a_switch_depends_on_the_version() {
        const RELEASE: &str = "proc/sys/kernel/osrelease";
        let states = ["6.1.0", "6.12.0", "4.19.0"]
            .map(|release| check(&Fake::new().file(RELEASE, release), "io_uring").state);
        assert_eq!(states, [State::Warning, State::Missing, State::Missing]);
    }
}
