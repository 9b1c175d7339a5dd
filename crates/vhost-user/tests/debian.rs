//! The back ends of Debian, unchanged, behind the driver of the conformance suite. What is not
//! installed is named and left out, unless `REQUIRE_PEERS` is set.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test code"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use memory::{Bytes, GuestAddress};
use purlin_vhost_user::{Settings, VhostUser};
use virtio::conformance::{BUFFERS, Driver};
use vmm_sys_util::tempdir::TempDir;

const SECTORS: u64 = 64;

/// The first of `places` that is there.
fn program(test: &str, places: &[&str]) -> Option<PathBuf> {
    let found = places.iter().map(PathBuf::from).find(|place| place.exists());
    if found.is_none() {
        assert!(env::var_os("REQUIRE_PEERS").is_none(), "{test} needs one of {places:?}");
        eprintln!("SKIPPED {test}: none of {places:?} is installed");
    }
    found
}

/// A passt that is a back end: what `cargo xtask guests` has found or fetched, or this machine's. That of
/// Debian 12 is none, so none is asked for.
fn passt(test: &str) -> Option<PathBuf> {
    let fetched = env::var_os("PURLIN_LINUX").map(|guests| PathBuf::from(guests).join("passt"));
    let is_backend = |program: &PathBuf| {
        let said = Command::new(program).arg("--help").output();
        said.is_ok_and(|said| {
            String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).contains("--vhost-user")
        })
    };
    let found = fetched.into_iter().chain(["/usr/bin/passt".into()]).find(is_backend);
    if found.is_none() {
        eprintln!("SKIPPED {test}: there is no passt with --vhost-user (Debian 13 has it)");
    }
    found
}

/// A process that is killed when dropped.
struct Server(Child);

impl Server {
    fn start(command: &mut Command, socket: &Path) -> Self {
        drop(fs::remove_file(socket));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self(quiet.spawn().unwrap());
        wait_until("the socket is there", || {
            socket.exists() || server.0.try_wait().unwrap().is_some()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn storage_daemon(program: &Path, scratch: &TempDir) -> Server {
    let path = |name: &str| scratch.as_path().join(name).display().to_string();
    let blockdev = format!("driver=file,node-name=disk,filename={}", path("disk"));
    let export = "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=2";
    let export = format!("{export},addr.type=unix,addr.path={}", path("socket"));
    let mut command = Command::new(program);
    command.args(["--blockdev", &blockdev, "--export", &export]);
    Server::start(&mut command, &scratch.as_path().join("socket"))
}

/// A device whose back end listens at `socket`, or is about to.
fn connect<const ID: u32>(socket: &Path, settings: &Settings) -> VhostUser<ID> {
    let mut device = None;
    wait_until("the back end listens", || {
        device = VhostUser::connect(socket, settings.clone()).ok();
        device.is_some()
    });
    device.unwrap()
}

/// A request of type `kind` (0 reads, 1 writes) for sector `sector`, in slot `slot`.
fn offer(driver: &mut Driver, queue: usize, (kind, sector, slot): (u32, u64, u64)) {
    let at = BUFFERS + 0x1000 * slot;
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    driver.memory().write_slice(&header, GuestAddress(at)).unwrap();
    driver.memory().write_obj(0xee_u8, GuestAddress(at + 0x300)).unwrap();
    let chain = [(at, 16, false), (at + 0x100, 512, kind == 0), (at + 0x300, 1, true)];
    driver.queues[queue].offer(&chain);
    driver.kick(queue);
}

/// Waits for so many requests, which have all succeeded.
fn finish(driver: &mut Driver, queue: usize, count: usize) {
    let mut done = 0;
    wait_until("the requests are answered", || {
        driver.run();
        done += driver.queues[queue].used().len();
        done >= count
    });
    for slot in (0..).take(count) {
        let status: u8 =
            driver.memory().read_obj(GuestAddress(BUFFERS + 0x1000 * slot + 0x300)).unwrap();
        assert_eq!(status, 0, "request {slot} succeeds");
    }
}

/// Data of slot `slot`.
fn data(driver: &Driver, slot: u64) -> [u8; 512] {
    let mut data = [0; 512];
    driver.memory().read_slice(&mut data, GuestAddress(BUFFERS + 0x1000 * slot + 0x100)).unwrap();
    data
}

#[test]
fn qemu_storage_daemon_serves_a_disk_dies_and_comes_back() {
    let test = "qemu_storage_daemon_serves_a_disk_dies_and_comes_back";
    let Some(program) = program(test, &["/usr/bin/qemu-storage-daemon"]) else { return };
    let scratch = TempDir::new().unwrap();
    let disk: Vec<u8> =
        (0..SECTORS).flat_map(|sector| [u8::try_from(sector).unwrap(); 512]).collect();
    fs::write(scratch.as_path().join("disk"), disk).unwrap();
    let mut daemon = storage_daemon(&program, &scratch);
    let settings = Settings::block().queues(2).unwrap();
    let block = connect::<2>(&scratch.as_path().join("socket"), &settings);
    let mut driver = Driver::new(virtio::mmio(block));
    let mut capacity = [0; 8];
    driver.read_config(0, &mut capacity);
    assert_eq!(u64::from_le_bytes(capacity), SECTORS);
    driver.start(driver.offered());
    for round in 0..20 {
        for queue in 0..2 {
            (0..4).for_each(|slot| offer(&mut driver, queue, (0, 8 + slot + round, slot)));
            if round % 5 == 4 {
                drop(daemon);
                daemon = storage_daemon(&program, &scratch);
            }
            finish(&mut driver, queue, 4);
            for slot in 0..4 {
                assert_eq!(data(&driver, slot), [u8::try_from(8 + slot + round).unwrap(); 512]);
            }
        }
    }
    let at = GuestAddress(BUFFERS + 0x100);
    driver.memory().write_slice(&[0x5a; 512], at).unwrap();
    offer(&mut driver, 0, (1, 1, 0));
    finish(&mut driver, 0, 1);
    driver.reset();
    drop(daemon);
    let disk = fs::read(scratch.as_path().join("disk")).unwrap();
    assert_eq!((disk[511], disk[512], disk[1023], disk[1024]), (0, 0x5a, 0x5a, 2));
}

#[test]
fn virtiofsd_begins_a_session() {
    let test = "virtiofsd_begins_a_session";
    let places = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
    let Some(program) = program(test, &places) else { return };
    let scratch = TempDir::new().unwrap();
    let socket = scratch.as_path().join("socket");
    let mut command = Command::new(program);
    command.arg(format!("--socket-path={}", socket.display()));
    command.arg("-o").arg(format!("source={}", scratch.as_path().display()));
    let _server = Server::start(command.args(["-o", "sandbox=chroot"]), &socket);
    if !socket.exists() {
        eprintln!("SKIPPED {test}: virtiofsd does not start here; it needs root");
        return;
    }
    let settings = Settings::fs("home").unwrap();
    let mut driver = Driver::new(virtio::mmio(connect::<26>(&socket, &settings)));
    driver.start(driver.offered());
    // FUSE_INIT, version 7.31: length 56, operation 26, number 1.
    let words: [u32; 14] = [56, 26, 1, 0, 0, 0, 0, 0, 0, 0, 7, 31, 0x2_0000, 0];
    let request: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    driver.memory().write_slice(&request, GuestAddress(BUFFERS)).unwrap();
    driver.queues[1].offer(&[(BUFFERS, 56, false), (BUFFERS + 0x1000, 80, true)]);
    driver.kick(1);
    wait_until("the session is there", || {
        driver.run();
        !driver.queues[1].used().is_empty()
    });
    let answer: [u32; 5] = driver.memory().read_obj(GuestAddress(BUFFERS + 0x1000)).unwrap();
    assert_eq!((answer[1], answer[2], answer[4]), (0, 1, 7), "no error, number 1, version 7");
}

/// The driver asks for the address of a host, in slot `slot`, and is told it.
fn resolves(driver: &mut Driver, slot: u64) {
    const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 9];
    let ethernet = [&[0xff; 6], GUEST.as_slice(), &[8, 6]].concat();
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    let question = [GUEST.as_slice(), &[198, 18, 7, 2], &[0; 6], &[198, 18, 7, 9]].concat();
    // After the header of a packet, which says nothing.
    let packet = [&[0; 12], ethernet.as_slice(), &arp, &question].concat();
    let at = BUFFERS + 0x1000 * slot;
    driver.memory().write_slice(&packet, GuestAddress(at)).unwrap();
    driver.queues[1].offer(&[(at, u32::try_from(packet.len()).unwrap(), false)]);
    driver.kick(1);
    let mut answered = false;
    wait_until("the question is answered", || {
        driver.run();
        drop(driver.queues[1].used());
        for (head, len) in driver.queues[0].used() {
            // Buffers come back in turn, and heads are given out in turn.
            let place = RECEIVED + 0x1000 * u64::from(head % 4);
            let mut packet = vec![0; usize::try_from(len).unwrap()];
            driver.memory().read_slice(&mut packet, GuestAddress(place)).unwrap();
            let asked = packet.get(12 + 12..12 + 14) == Some(&[8, 6]);
            let told = packet.get(12 + 28..12 + 32) == Some(&[198, 18, 7, 9]);
            answered |= asked && told && packet.get(12 + 20..12 + 22) == Some(&[0, 2]);
            driver.queues[0].offer(&[(place, 0x1000, true)]);
            driver.kick(0);
        }
        answered
    });
}

/// Where packets are received.
const RECEIVED: u64 = BUFFERS + 0x4000;

#[test]
fn passt_serves_a_network_card_dies_and_comes_back() {
    let test = "passt_serves_a_network_card_dies_and_comes_back";
    let Some(program) = passt(test) else { return };
    let scratch = TempDir::new().unwrap();
    let socket = scratch.as_path().join("socket");
    let start = || {
        let mut command = Command::new(&program);
        command.args(["--vhost-user", "--foreground", "--quiet", "--no-map-gw", "--socket"]);
        Server::start(command.arg(&socket), &socket)
    };
    let mut server = start();
    if !socket.exists() {
        eprintln!("SKIPPED {test}: passt does not start here");
        return;
    }
    let settings = Settings::net([2, 0, 0, 0, 0, 9]);
    let card = connect::<1>(&socket, &settings);
    let mut driver = Driver::new(virtio::mmio(card));
    driver.start(driver.offered());
    for slot in 0..4 {
        driver.queues[0].offer(&[(RECEIVED + 0x1000 * slot, 0x1000, true)]);
    }
    driver.kick(0);
    for round in 0..4 {
        resolves(&mut driver, round % 2);
        resolves(&mut driver, round % 2);
        drop(server);
        server = start();
    }
    resolves(&mut driver, 0);
    assert!(!driver.is_broken());
}
