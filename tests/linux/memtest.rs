//! A bzImage that is no Linux.

use std::time::Duration;

use harness::{Purlin, linux};

use crate::BOOT;

#[test]
fn memtest86_draws_its_screen_on_the_serial_port() {
    let Some(directory) = linux("memtest86_draws_its_screen_on_the_serial_port") else { return };
    let kernel = directory.join("memtest86+");
    assert!(kernel.exists(), "{} is not there", kernel.display());
    let kernel = kernel.to_str().expect("the path is text");
    let cmdline = "console=ttyS0,115200";
    let mut purlin =
        Purlin::start(["run", "--kernel", kernel, "--memory", "64M", "--cmdline", cmdline]);
    purlin.expect("Memtest86+", BOOT);
    purlin.signal(nix::sys::signal::Signal::SIGKILL);
    purlin.wait(Duration::from_secs(10));
}
