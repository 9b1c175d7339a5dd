//! The socket device, with packets that nearly make sense, and host programs that come, talk and go.
#![no_main]

use std::{
    fs,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::PathBuf,
    process,
};

use memory::{Bytes, GuestAddress};
use nix::sys::signal::{SigSet, Signal};
use virtio::conformance::{BUFFERS, Driver};
use virtio_vsock::{Endpoint, Vsock, VsockConfig};

/// Ports of the host on which somebody listens.
const PORTS: u32 = 3;
/// Those of host programs that connect.
const FIRST: u32 = 1 << 30;
const TX: u64 = BUFFERS;
const RX: u64 = BUFFERS + 0x1_0000;
/// Chains of two descriptors for which there is room in a queue of the driver.
const CHAINS: usize = 8;

struct World {
    directory: PathBuf,
    listeners: Vec<UnixListener>,
    hosts: Vec<UnixStream>,
    driver: Driver,
    /// How many chains the device has, of each queue.
    held: [usize; 2],
}

impl World {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("purlin-fuzz-streams-{}", process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("there is a temporary directory");
        let path = directory.join("s");
        let endpoint = Endpoint::bind(&path).expect("the path is free");
        let listen = |port| {
            let listener = UnixListener::bind(directory.join(format!("s_{port}")));
            let listener = listener.expect("the path is free");
            listener.set_nonblocking(true).expect("a socket takes flags");
            listener
        };
        let listeners = (0..PORTS).map(listen).collect();
        let config = VsockConfig { connections: 6, ..VsockConfig::default() };
        let vsock = Vsock::new(endpoint, config).expect("the host gives descriptors");
        let mut driver = Driver::new(virtio::mmio(vsock));
        driver.start(driver.offered());
        Self { directory, listeners, hosts: Vec::new(), driver, held: [0; 2] }
    }

    fn step(&mut self, command: [u8; 8]) {
        let [action, which, a, b, c, d, e, f] = command;
        match action % 8 {
            0..=2 => self.send([which, a, b, c, d, e, f]),
            3 | 4 => self.receive(u32::from(a) << 5 | 1),
            5 => self.dial(u32::from(which) % 4),
            6 => self.accept(),
            _ => self.talk(usize::from(which), a, b),
        }
    }

    /// A packet of the guest.
    fn send(&mut self, [which, op, flags, len, lie, room, taken]: [u8; 7]) {
        let guest = u32::from(which % 4);
        let host = match which >> 2 & 7 {
            port @ 0..=3 => u32::from(port),
            port => FIRST + u32::from(port) - 4,
        };
        let data = u32::from(len) << 4;
        let said = if lie == 0xff { u32::MAX } else { data.saturating_sub(u32::from(lie >> 4)) };
        let mut packet = Vec::new();
        packet.extend(3_u64.to_le_bytes());
        packet.extend(2_u64.to_le_bytes());
        packet.extend([guest, host, said].iter().flat_map(|word| word.to_le_bytes()));
        packet.extend([1, 0, op % 9, 0, flags, 0, 0, 0]);
        packet.extend((u32::from(room) << 8).to_le_bytes());
        packet.extend((u32::from(taken) << 4).to_le_bytes());
        packet.resize(packet.len() + usize::from(len) * 16, op);
        let total = u32::try_from(packet.len()).expect("packets are small");
        self.driver.memory().write_slice(&packet, GuestAddress(TX)).expect("it lies in RAM");
        self.offer(1, [(TX, 44, false), (TX + 44, total - 43, false)]);
    }

    /// Offers a chain if there is room, and takes back what the device has done with.
    fn offer(&mut self, queue: usize, chain: [(u64, u32, bool); 2]) {
        if self.held[queue] < CHAINS {
            self.driver.queues[queue].offer(&chain);
            self.held[queue] += 1;
        }
        self.driver.kick_and_run(queue);
        for (held, queue) in self.held.iter_mut().zip(&mut self.driver.queues) {
            let back = queue.used();
            *held -= back.len();
            let header = |(_, len): &(u32, u32)| *len == 0 || *len >= 44;
            assert!(back.iter().all(header), "a packet has a header: {back:?}");
        }
    }

    fn receive(&mut self, room: u32) {
        self.offer(0, [(RX, 44, true), (RX + 44, room, true)]);
    }

    fn dial(&mut self, port: u32) {
        if let Ok(mut host) = UnixStream::connect(self.directory.join("s")) {
            let _ = host.set_nonblocking(true);
            let _ = writeln!(host, "CONNECT {port}");
            self.hosts.push(host);
        }
        self.driver.run();
    }

    fn accept(&mut self) {
        for listener in &self.listeners {
            while let Ok((host, _)) = listener.accept() {
                let _ = host.set_nonblocking(true);
                self.hosts.push(host);
            }
        }
    }

    /// A host program says something, reads something, or ends.
    fn talk(&mut self, which: usize, what: u8, much: u8) {
        let Some(which) = which.checked_rem(self.hosts.len()) else { return };
        let host = &mut self.hosts[which];
        match what % 6 {
            0 | 1 => drop(host.write(&vec![what; usize::from(much) << 5])),
            2 | 3 => drop(host.read(&mut vec![0; usize::from(much) << 10])),
            4 => {
                let how = [Shutdown::Read, Shutdown::Write, Shutdown::Both];
                let _ = host.shutdown(how[usize::from(much % 3)]);
            }
            _ => drop(self.hosts.swap_remove(which)),
        }
        self.driver.run();
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // Rust programs ignore it from their start; this one is libFuzzer's.
    let blocked = SigSet::from(Signal::SIGPIPE).thread_block();
    blocked.expect("a signal can be blocked");
    let mut world = World::new();
    for command in input.chunks_exact(8) {
        world.step(command.try_into().expect("chunks have 8 bytes"));
    }
    assert!(!world.driver.is_broken(), "no packet breaks the device");
    let _ = fs::remove_dir_all(&world.directory);
});
