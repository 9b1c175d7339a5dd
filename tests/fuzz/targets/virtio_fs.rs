//! The shared directory, read-only: a guest that may write could fill the host's disk, which is the
//! host's to limit.
#![no_main]

use std::{fs, os::unix::fs::symlink, path::PathBuf, sync::LazyLock};

use virtio_fs::{Fs, FsConfig};

/// A file, a directory with a file, and a link that leads out.
static DIRECTORY: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("purlin-fuzz-fs-{}", std::process::id()));
    fs::create_dir_all(path.join("d")).expect("there can be directories");
    fs::write(path.join("f"), "content").expect("there can be files");
    fs::write(path.join("d/f"), "content").expect("there can be files");
    symlink("/etc/passwd", path.join("l")).expect("there can be links");
    path
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let fs = || {
        let tag = "t".parse().expect("it is a tag");
        let config = FsConfig { read_only: true, descriptors: 16, ..FsConfig::new(tag) };
        Fs::open(&*DIRECTORY, config).expect("the directory is there")
    };
    virtio::conformance::fuzz(fs, input);
});
