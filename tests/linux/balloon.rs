//! The memory balloon: what the guest gives up, the host has.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use harness::Purlin;

use crate::{BOOT, Guest, number};

/// How much memory the process has, MiB.
fn resident(purlin: &Purlin) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", purlin.id())).unwrap();
    number(&status.replace("kB", ""), "VmRSS:") / 1024
}

/// Waits until the process has less than `most` MiB.
fn shrinks(purlin: &Purlin, most: u64) {
    let end = Instant::now() + BOOT;
    while resident(purlin) >= most {
        assert!(Instant::now() < end, "{} MiB are resident, not {most}", resident(purlin));
        thread::sleep(Duration::from_millis(100));
    }
}

/// How much memory the process has, MiB, once no more goes back: guests report what is free every two
/// seconds.
fn settled(purlin: &Purlin) -> u64 {
    let mut before = resident(purlin);
    loop {
        thread::sleep(Duration::from_secs(5));
        let now = resident(purlin);
        if now + 1 >= before {
            return now;
        }
        before = now;
    }
}

/// A guest of 512 MiB, all of which are the host's to begin with, that has got `balloon`.
fn start(test: &str, memory: &str, balloon: &str) -> Option<Purlin> {
    let guest = Guest::new(test, "balloon")?.cmdline("purlin.fill=150");
    let mut purlin = guest.arguments(["--memory", memory, "--balloon", balloon]).start();
    purlin.expect("PURLIN-READY balloon", BOOT);
    Some(purlin)
}

#[test]
fn memory_in_the_balloon_leaves_the_guest_and_the_host() {
    let test = "memory_in_the_balloon_leaves_the_guest_and_the_host";
    for backing in ["private", "shared"] {
        let memory = format!("512M,prefault=on,backing={backing}");
        let Some(mut purlin) = start(test, &memory, "256M") else { return };
        shrinks(&purlin, 300);
        purlin.type_in("\n\n\n");
        let output = purlin.wait(BOOT).output;
        let total = number(&output, "PURLIN-TOTAL ") / 1024;
        assert!((150..256).contains(&total), "{total} MiB are left to the guest: {output}");
        assert!(output.contains("PURLIN-FILLED 150"), "{output}");
    }
}

#[test]
fn free_pages_go_back_to_the_host_by_themselves() {
    let test = "free_pages_go_back_to_the_host_by_themselves";
    let balloon = "on,free-page-reporting=on,statistics=1";
    let Some(mut purlin) = start(test, "512M,prefault=on", balloon) else { return };
    shrinks(&purlin, 250);
    let before = settled(&purlin);
    purlin.type_in("\n");
    purlin.expect("PURLIN-FILLED 150", BOOT);
    let filled = resident(&purlin);
    assert!(filled > before + 100, "{before} MiB, and {filled} MiB with 150 more");
    purlin.type_in("\n");
    shrinks(&purlin, filled - 100);
    purlin.type_in("\n");
    assert_eq!(purlin.wait(BOOT).status, 0);
}

#[test]
fn a_guest_that_runs_out_of_memory_takes_it_back_from_the_balloon() {
    let test = "a_guest_that_runs_out_of_memory_takes_it_back_from_the_balloon";
    let Some(mut purlin) = start(test, "256M", "128M,deflate-on-oom=on") else { return };
    purlin.type_in("\n");
    purlin.expect("PURLIN-FILLED 150", BOOT);
    purlin.type_in("\n\n");
    assert_eq!(purlin.wait(BOOT).status, 0);
}
