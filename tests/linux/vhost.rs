//! Devices that other processes serve: virtiofsd, qemu-storage-daemon and passt of Debian, unchanged.

use std::{
    ffi::OsString,
    fs,
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use harness::Scratch;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::{BOOT, Guest, net, value};

const SIZE: u64 = 8 << 20;
/// How often the disk's server is killed.
const KILLS: u32 = 5;

/// Where Debian has a program, if it is installed. If not, the test says what it leaves out.
fn program(test: &str, places: &[&str]) -> Option<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|path| path.exists());
    if found.is_none() {
        harness::linux_lacks(test, &format!("none of {places:?} is installed"));
    }
    found
}

/// Another process, killed when dropped.
struct Server(Child);

impl Server {
    fn start(program: &Path, arguments: &[OsString]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // As sudden as it can be.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn storage_daemon(program: &Path, image: &Path, socket: &Path) -> Server {
    let blockdev = format!("driver=file,node-name=disk,filename={}", image.display());
    let export = format!(
        "type=vhost-user-blk,id=export,node-name=disk,writable=on,addr.type=unix,addr.path={}",
        socket.display()
    );
    let arguments = ["--blockdev", &blockdev, "--export", &export].map(OsString::from);
    let _ = fs::remove_file(socket);
    let server = Server::start(program, &arguments);
    let end = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(socket).is_err() {
        assert!(Instant::now() < end, "qemu-storage-daemon does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    server
}

/// virtiofsd for one connection. It is given the socket, because it would note its own in a directory
/// that tests may not write to.
fn share(program: &Path, directory: &Path, socket: &Path) -> Server {
    let listener = UnixListener::bind(socket).unwrap();
    fcntl(&listener, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let fd = format!("--fd={}", listener.as_raw_fd());
    let source = format!("source={}", directory.display());
    let arguments = [fd.as_str(), "-o", &source, "-o", "sandbox=chroot"].map(OsString::from);
    Server::start(program, &arguments)
}

#[test]
fn a_guest_survives_the_death_of_the_process_that_serves_its_disk() {
    let test = "a_guest_survives_the_death_of_the_process_that_serves_its_disk";
    let Some(mut guest) = Guest::new(test, "vhost") else { return };
    let Some(daemon) = program(test, &["/usr/bin/qemu-storage-daemon"]) else { return };
    let virtiofsd = program(test, &["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"]);
    let scratch = Scratch::new("vhost");
    let image = scratch.file("disk.img", &[]);
    fs::File::options().write(true).open(&image).unwrap().set_len(SIZE).unwrap();
    let disk = scratch.path("disk.sock");
    let mut server = Some(storage_daemon(&daemon, &image, &disk));
    guest = guest.arguments(["--vhost-user", &format!("{},type=blk", disk.display())]);

    let directory = scratch.path("home");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("from-host"), "written by host").unwrap();
    let socket = scratch.path("home.sock");
    let shared = virtiofsd.map(|virtiofsd| share(&virtiofsd, &directory, &socket));
    if shared.is_some() {
        let device = format!("{},type=fs,tag=home", socket.display());
        guest = guest.arguments(["--vhost-user", &device]).cmdline("purlin.share=on");
    }

    let mut purlin = guest.start();
    for round in 1..=KILLS {
        purlin.expect(&format!("PURLIN-ROUND {round}"), BOOT);
        drop(server.take());
        server = Some(storage_daemon(&daemon, &image, &disk));
    }
    let output = purlin.wait(BOOT).output;
    let found = format!("sectors={} serial=vhost_user_blk", SIZE / 512);
    assert_eq!(value(&output, "PURLIN-DISK "), Some(found.as_str()), "{output}");
    assert!(!output.contains("PURLIN-FAIL"), "{output}");
    assert!(value(&output, "PURLIN-SUM ").is_some(), "{output}");
    if shared.is_some() {
        assert_eq!(value(&output, "PURLIN-FILE "), Some("written by host"), "{output}");
        let written = fs::read_to_string(directory.join("from-guest")).unwrap();
        assert_eq!(written, "written by guest\n");
        let large = fs::read(directory.join("large")).unwrap();
        assert_eq!(large.len(), 32 << 16);
    }
}

/// A passt that is a back end, which `cargo xtask guests` has or fetches where it can.
fn backend_of_a_network(guest: &Guest, test: &str) -> Option<PathBuf> {
    let passt = Some(guest.directory.join("passt")).filter(|passt| passt.exists());
    if passt.is_none() {
        // Debian 12 has none, and not every machine can fetch that of Debian 13.
        harness::skipped(test, "there is no passt with --vhost-user (Debian 13 has it)");
    }
    passt
}

#[test]
fn a_guest_is_on_the_network_of_a_process_that_serves_its_network_card() {
    let test = "a_guest_is_on_the_network_of_a_process_that_serves_its_network_card";
    let Some(guest) = Guest::new(test, "net").filter(|_| net::has_network(test)) else { return };
    let Some(passt) = backend_of_a_network(&guest, test) else { return };
    let scratch = Scratch::new("vhost-net");
    let socket = scratch.path("net.sock");
    let (passt, socket) = (passt.display(), socket.display());
    let network = format!(
        "{}
        {passt} --vhost-user --foreground --quiet --no-map-gw --socket {socket} &
        tries=0
        until [ -S {socket} ] || [ $tries -ge 1000 ]; do
            tries=$((tries + 1))
            sleep 0.01
        done",
        net::UPLINK
    );
    let device = format!("{socket},type=net,mac=02:00:00:00:00:09");
    let output = net::run(guest.programs().arguments(["--vhost-user", &device]), &network);

    assert_eq!(value(&output, "PURLIN-LEASE "), Some("198.18.1.2 198.18.1.1"), "{output}");
    let found = value(&output, "PURLIN-NET ");
    assert!(found.is_some_and(|net| net.starts_with("mac=02:00:00:00:00:09 ")), "{output}");
    assert!(output.contains("PURLIN-OK ping"), "{output}");
    net::assert_whole(&output, net::THROUGH_PASST);
}
