//! A host that gives no io_uring. A process of its own, because it takes descriptors from all of it.

use std::{fs::File, io::Write, os::fd::AsRawFd};

use disk::{Access, Raw};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use purlin_virtio_blk::{Blk, BlkConfig, Engine, EngineError};

#[test]
fn without_io_uring_the_engine_is_sync_unless_io_uring_was_named() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = path.join(format!("fallback-{}", std::process::id()));
    File::create(&path).unwrap().write_all(&[0; 4096]).unwrap();
    let open = || Blk::new(Raw::open(&path, Access::ReadOnly).unwrap(), BlkConfig::default());
    let (named, auto) = (open(), open());
    std::fs::remove_file(&path).unwrap();

    // No further descriptor: a ring is one.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let next = File::open("/dev/null").unwrap().as_raw_fd();
    setrlimit(Resource::RLIMIT_NOFILE, u64::try_from(next).unwrap(), hard).unwrap();
    let (named, auto) = (named.engine(Engine::IoUring), auto.engine(Engine::Auto));
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();

    let error = named.unwrap_err();
    assert!(matches!(error, EngineError::IoUring(_)), "{error}");
    assert!(error.to_string().contains("kernel.io_uring_disabled"), "{error}");
    assert!(!auto.unwrap().is_io_uring());
}
