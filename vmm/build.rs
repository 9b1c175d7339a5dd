//! Packs the relocations of `purlin` (DT_RELR): 75 KiB that every process would otherwise read, and
//! keep mapped, before it starts. The C library has to know them, which glibc does from 2.36 on.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if native() && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether what is built here runs here, so that this machine's C library tells.
#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts by the environment")]
fn native() -> bool {
    let target = env::var("TARGET");
    target.as_ref().is_ok_and(|target| target.ends_with("-linux-gnu")) && target == env::var("HOST")
}

/// The version of the C library, if it is glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
