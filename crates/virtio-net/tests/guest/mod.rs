//! A guest with a network card, and the other end of its wire.

use std::io::ErrorKind;

use memory::{Bytes, GuestAddress};
use net::{Datagram, HEADER, Link, Mac};
use purlin_virtio_net::{Net, NetConfig};
use virtio::{
    Handle,
    conformance::{BUFFERS, Driver},
    mmio,
};

pub(crate) const RX: usize = 0;
pub(crate) const TX: usize = 1;
pub(crate) const CONTROL: usize = 2;
/// Where packets from the guest are.
pub(crate) const OUT: u64 = BUFFERS;
/// Where packets for the guest go.
pub(crate) const IN: u64 = BUFFERS + 0x2_0000;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A guest, its card, and whoever is on the same wire.
pub(crate) struct Guest {
    pub(crate) driver: Driver,
    pub(crate) handle: Handle<Net>,
    pub(crate) wire: Datagram,
}

pub(crate) fn config() -> NetConfig {
    NetConfig::new(Mac::new(MAC).unwrap())
}

/// A frame of `len` bytes.
pub(crate) fn frame(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap() ^ seed).collect()
}

impl Guest {
    /// On a wire without headers, with everything accepted but `not`.
    pub(crate) fn plain(config: NetConfig, not: u64) -> Self {
        let (ours, wire) = Datagram::pair().unwrap();
        Self::on((ours, wire), config, not)
    }

    /// On a wire with headers.
    pub(crate) fn with_header(not: u64) -> Self {
        Self::on(Datagram::pair_with_header().unwrap(), config(), not)
    }

    fn on((ours, wire): (Datagram, Datagram), config: NetConfig, not: u64) -> Self {
        let net = Net::new(ours, config).unwrap();
        let (mut driver, handle) = Driver::with_handle(mmio(net));
        driver.start(driver.offered() & !not);
        Self { driver, handle, wire }
    }

    /// Sends `packet`, header and all, in buffers of `cut` bytes: what came back.
    pub(crate) fn send(&mut self, packet: &[u8], cut: usize) -> Vec<(u32, u32)> {
        self.driver.memory().write_slice(packet, GuestAddress(OUT)).unwrap();
        let mut addr = OUT;
        let buffers: Vec<_> = packet
            .chunks(cut)
            .map(|piece| {
                let len = u32::try_from(piece.len()).unwrap();
                addr += u64::from(len);
                (addr - u64::from(len), len, false)
            })
            .collect();
        self.driver.queues[TX].offer(&buffers);
        self.driver.kick_and_run(TX);
        self.driver.queues[TX].used()
    }

    /// Offers chains of `len` bytes each, one behind the other.
    pub(crate) fn offer(&mut self, count: u32, len: u32) {
        for index in 0..count {
            self.driver.queues[RX].offer(&[(IN + u64::from(index * len), len, true)]);
        }
        self.driver.kick_and_run(RX);
    }

    /// What lies where packets for the guest go.
    pub(crate) fn room(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.driver.memory().read_slice(&mut bytes, GuestAddress(IN)).unwrap();
        bytes
    }

    /// Sends `command` to the card: the used length, and the answer.
    pub(crate) fn command(&mut self, queue: usize, command: &[u8]) -> (u32, u8) {
        self::command(&mut self.driver, queue, command)
    }

    /// The next packet on the wire, if there is one.
    pub(crate) fn sent(&mut self) -> Option<Vec<u8>> {
        let packet = match self.wire.peek() {
            Ok(packet) => packet.to_vec(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        };
        self.wire.pop();
        Some(packet)
    }

    pub(crate) fn status(&self) -> [u8; 2] {
        let mut status = [9; 2];
        self.driver.read_config(6, &mut status);
        status
    }
}

/// `packet` behind a header without work.
pub(crate) fn plain(packet: &[u8]) -> Vec<u8> {
    [&[0; HEADER][..], packet].concat()
}

/// Sends `command` to the card of `driver`: the used length, and the answer.
pub(crate) fn command(driver: &mut Driver, queue: usize, command: &[u8]) -> (u32, u8) {
    let len = u32::try_from(command.len()).unwrap();
    let memory = driver.memory().clone();
    memory.write_slice(command, GuestAddress(OUT)).unwrap();
    memory.write_obj(0xee_u8, GuestAddress(IN)).unwrap();
    let chain = [(OUT, len, false), (IN, 1, true)];
    let chain = if len == 0 { &chain[1..] } else { &chain[..] };
    driver.queues[queue].offer(chain);
    driver.kick_and_run(queue);
    let used = driver.queues[queue].used();
    assert_eq!(used.len(), 1);
    (used[0].1, memory.read_obj(GuestAddress(IN)).unwrap())
}
