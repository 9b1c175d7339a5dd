//! Hosts whose /dev/kvm is absent, forbidden, or something else.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use harness::{Exit, Guest, Purlin, Scratch, guest, skipped};

use crate::{LIMIT, test_name};

/// Runs a guest in a mount namespace whose /dev was made by the shell script `dev`; `None` where this
/// user or host cannot make one.
fn run_with_dev(dev: &str, program: &[&str]) -> Option<Exit> {
    let script = format!("mount -t tmpfs -o mode=755 none /dev && {dev}");
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command
    };
    let trial = unshare(&script).stdin(Stdio::null()).output();
    if !trial.as_ref().is_ok_and(|output| output.status.success()) {
        skipped(&test_name(), &format!("no mount namespace with a /dev of its own: {trial:?}"));
        return None;
    }
    let scratch = Scratch::new("host");
    // Another user must be able to read them, wherever the workspace is.
    let binary = scratch.path("purlin");
    fs::copy(harness::binary(), &binary).unwrap();
    let kernel = Guest::default().then(guest::POWER_OFF).file(&scratch);
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = unshare(&format!("{script} && exec \"$@\""));
    command.args(program).arg(binary).args(["run", "--memory", "16M", "--kernel"]).arg(kernel);
    Some(Purlin::spawn(&mut command).wait(LIMIT))
}

fn refused(exit: &Exit, parts: &[&str]) {
    assert_eq!(exit.status, 4, "{}", exit.errors);
    assert_eq!(exit.errors.lines().count(), 1, "{}", exit.errors);
    for part in parts {
        assert!(exit.errors.contains(part), "{part:?} is not in {}", exit.errors);
    }
}

#[test]
fn no_kvm_is_told_with_how_to_get_it() {
    if let Some(exit) = run_with_dev("true", &[]) {
        let told = "purlin: error: /dev/kvm does not exist; load the module kvm_intel or kvm_amd";
        refused(&exit, &[told]);
    }
}

#[test]
fn no_permission_is_told_with_how_to_get_it() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if let Some(exit) = run_with_dev("mknod -m 600 /dev/kvm c 10 232", &nobody) {
        refused(&exit, &["purlin: error: no permission to open /dev/kvm; join the group"]);
    }
}

#[test]
fn what_is_no_kvm_is_refused() {
    if let Some(exit) = run_with_dev("mknod -m 666 /dev/kvm c 1 3", &[]) {
        refused(&exit, &["purlin: error: ", "/dev/kvm"]);
    }
}

#[test]
fn a_device_without_a_driver_is_refused() {
    // Major number 240 is for local and experimental use.
    if let Some(exit) = run_with_dev("mknod -m 666 /dev/kvm c 240 99", &[]) {
        refused(&exit, &["purlin: error: /dev/kvm ", "load the module kvm_intel or kvm_amd"]);
    }
}
