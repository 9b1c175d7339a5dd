//! Networks, by the driver of a stock kernel: a tap, and the host's network through passt.
//!
//! Each test has a network namespace of its own, so that nothing of the host's network is touched and
//! passt has a default route wherever this runs.
#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    os::unix::net::UnixListener,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{Purlin, Scratch};
use nix::unistd::geteuid;
use vmm::config::{Config, Net};

use crate::{
    Guest,
    inside::{self, config, machine, printed},
    value,
};

/// How many bytes the guest downloads, and uploads.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    down: &'static str,
    up: &'static str,
}

/// A gibibyte.
const OVER_A_TAP: Sizes = Sizes { down: "1073741824", up: "16777216" };
/// Less, because passt gives a connection up after two seconds without an answer, which a nested,
/// emulated machine with one CPU for all of them may well take.
pub(crate) const THROUGH_PASST: Sizes = Sizes { down: "67108864", up: "2097152" };
/// Enough to download that much and to add it up, also under a nested, emulated KVM.
const LIMIT: Duration = Duration::from_secs(900);

/// A tap with the host's address on it.
pub(crate) const TAP: &str = "
    ip tuntap add purlin0 mode tap multi_queue
    ip addr add 198.18.0.1/24 dev purlin0
    ip link set purlin0 up";

/// An interface with a default route, which passt takes the guest's addresses from, and an address of
/// the host that is not the guest's too.
pub(crate) const UPLINK: &str = "
    ip tuntap add uplink mode tap
    ip addr add 198.18.1.2/24 dev uplink
    ip link set uplink up
    ip route add default via 198.18.1.1
    ip addr add 198.18.2.1/32 dev lo
    echo 0 2147483647 >/proc/sys/net/ipv4/ping_group_range || :";

/// The host's side: what the guest gets and gives, and iperf3; all end with the machine.
const HOST: &str = "
    seq 1 200000000 | head -c $DOWN | socat -b 65536 -u - TCP-LISTEN:8099,reuseaddr &
    socat -b 65536 -u TCP-LISTEN:8100,reuseaddr - | md5sum | sed 's/^/PURLIN-UP /' &
    iperf3 -s >/dev/null 2>&1 &
    \"$@\"";

/// Runs `guest` in a network namespace that `network` sets up: what it printed, and what the host did.
pub(crate) fn run(guest: Guest, network: &str) -> String {
    run_with(guest, network, THROUGH_PASST)
}

/// As [`run`], with so many bytes to be had.
fn run_with(guest: Guest, network: &str, sizes: Sizes) -> String {
    let guest = guest.cmdline(&format!("purlin.up={}", sizes.up));
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--pid", "--fork", "--kill-child", "sh", "-c"]);
    command.arg(format!("set -e; ip link set lo up; {network}\nset +e\n{HOST}")).arg("sh");
    command.arg(harness::binary()).args(guest.command_line()).env("DOWN", sizes.down);
    Purlin::spawn(&mut command).wait(LIMIT).output
}

/// Whether this host has what the tests need beside KVM.
pub(crate) fn has_network(test: &str) -> bool {
    let missing = ["passt", "socat", "iperf3", "ip", "unshare"].into_iter().find(|program| {
        let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
        !found.is_ok_and(|status| status.success())
    });
    let tun = std::path::Path::new("/dev/net/tun").exists();
    if let Some(missing) = missing.or((!tun).then_some("/dev/net/tun")) {
        harness::linux_lacks(test, &format!("there is no {missing}"));
    }
    missing.is_none() && tun
}

/// The sum of the first `bytes` bytes of what `seq` counts.
fn sum(bytes: &str) -> String {
    let count = format!("seq 1 200000000 | head -c {bytes} | md5sum");
    let output = Command::new("sh").args(["-c", &count]).stderr(Stdio::null()).output();
    String::from_utf8(output.expect("there is a shell").stdout).expect("sums are text")
}

/// The bytes of a packet, on average.
fn packet(output: &str, direction: &str) -> u64 {
    crate::number(output, &format!("PURLIN-PACKET-{direction} "))
}

/// All bytes came, in both directions.
pub(crate) fn assert_whole(output: &str, sizes: Sizes) {
    assert_eq!(value(output, "PURLIN-DOWN "), Some(sum(sizes.down).trim()), "{output}");
    assert_eq!(value(output, "PURLIN-UP "), Some(sum(sizes.up).trim()), "{output}");
    for direction in ["UP", "DOWN"] {
        let result = value(output, &format!("PURLIN-IPERF-{direction} "));
        assert!(result.is_some_and(|line| line.contains("Mbits/sec")), "{output}");
    }
}

#[test]
fn a_stock_kernel_moves_large_packets_over_a_tap() {
    let test = "a_stock_kernel_moves_large_packets_over_a_tap";
    let Some(guest) = Guest::new(test, "net").filter(|_| has_network(test)) else { return };
    let net = "tap=purlin0,mac=02:00:00:00:00:07,mtu=1400,queues=2";
    let guest = guest.cmdline("purlin.net=tap").programs();
    let guest = guest.arguments(["--net", net, "--cpus", "2"]);
    let output = run_with(guest, TAP, OVER_A_TAP);

    let found = value(&output, "PURLIN-NET ");
    assert_eq!(found, Some("mac=02:00:00:00:00:07 mtu=1400 queues=2"), "{output}");
    assert!(output.contains("PURLIN-OK ping"), "{output}");
    assert_whole(&output, OVER_A_TAP);
    // Without segmentation offloads no packet is larger than the MTU.
    assert!(packet(&output, "rx") > 3000, "{output}");
    assert!(packet(&output, "tx") > 3000, "{output}");
}

#[test]
fn a_stock_kernel_is_on_the_host_s_network_by_passt() {
    let test = "a_stock_kernel_is_on_the_host_s_network_by_passt";
    let Some(guest) = Guest::new(test, "net").filter(|_| has_network(test)) else { return };
    let guest = guest.programs();
    let output = run(guest.arguments(["--net", "user"]), UPLINK);

    assert_eq!(value(&output, "PURLIN-LEASE "), Some("198.18.1.2 198.18.1.1"), "{output}");
    assert!(output.contains("PURLIN-OK ping"), "{output}");
    assert_whole(&output, THROUGH_PASST);
}

#[test]
fn a_running_guest_sees_its_cable_pulled_out_and_put_in_again() {
    let test = "a_running_guest_sees_its_cable_pulled_out_and_put_in_again";
    let Some(guest) = Guest::new(test, "cable") else { return };
    let scratch = Scratch::new(test);
    let (console, socket) = (scratch.path("console"), scratch.path("socket"));
    let _other_end = UnixListener::bind(&socket).expect("the path is free");
    let net = Net { socket: Some(socket), ..Net::default() };
    let config = Config { net: vec![net], ..config(&guest, &console) };
    let machine = machine(&config);
    let cards = machine.nets();
    let ((), output) = inside::run(machine, &console, |cpus| {
        printed(cpus, &console, "PURLIN-CARRIER 1")?;
        cards.iter().for_each(|card| card.with(|card| card.set_link(false)));
        printed(cpus, &console, "PURLIN-CARRIER 0")?;
        cards.iter().for_each(|card| card.with(|card| card.set_link(true)));
        printed(cpus, &console, "PURLIN-AGAIN").map(drop)
    });

    assert_eq!(cards.len(), 1);
    assert_eq!(output.matches("PURLIN-CARRIER 1").count(), 2, "{output}");
}
