//! What every virtio device must do, and what a restore means to this one.

use crate::guest::{Guest, Packet, RST, RW, Scratch};
use purlin_virtio_vsock::{Cid, Endpoint, Vsock, VsockConfig};
use virtio::{
    conformance::{self, BUFFERS, Driver},
    mmio,
};

#[test]
fn it_conforms() {
    // Sockets are removed with their devices; two of which may be there at a time.
    let scratch = Scratch::new();
    let number = std::cell::Cell::new(0);
    conformance::device(|| {
        number.set(number.get() + 1);
        let endpoint = Endpoint::bind(scratch.path(&number.get().to_string())).unwrap();
        Vsock::new(endpoint, VsockConfig::default()).unwrap()
    });
}

#[test]
fn the_configuration_is_the_guests_address() {
    let scratch = Scratch::new();
    let config = VsockConfig { cid: Cid::new(0x1234_5678).unwrap(), ..VsockConfig::default() };
    let vsock = Vsock::new(Endpoint::bind(scratch.path("v")).unwrap(), config).unwrap();
    let driver = Driver::new(mmio(vsock));
    let mut space = [0xff; 8];
    driver.read_config(0, &mut space);
    assert_eq!(space, 0x1234_5678_u64.to_le_bytes());
    assert_eq!(driver.offered() & 0xff, 1 << 0 | 1 << 2);
}

#[test]
fn a_restored_guest_is_told_that_its_connections_are_gone() {
    let mut guest = Guest::new();
    let listener = guest.listen(7);
    guest.connect(1000, 7, &listener);
    let Guest { driver, handle, scratch, .. } = guest;
    let endpoint = Endpoint::bind(scratch.path("w")).unwrap();
    let vsock = Vsock::new(endpoint, VsockConfig::default()).unwrap();
    let mut driver = driver.transplant(mmio(vsock));
    assert_eq!(handle.with(|vsock| vsock.connections()), 1);

    // The buffer that was offered before.
    driver.run();
    assert_eq!(driver.queues[2].used(), [(0, 4)]);
    // And only once.
    driver.queues[2].offer(&[(BUFFERS, 4, true)]);
    driver.kick_and_run(2);
    assert_eq!(driver.queues[2].used(), []);
}

#[test]
fn a_reset_of_the_device_ends_all_connections() {
    let mut guest = Guest::new();
    let listener = guest.listen(7);
    let mut host = guest.connect(1000, 7, &listener);
    guest.driver.start(guest.driver.offered());
    assert_eq!(guest.connections(), 0);
    assert_eq!(std::io::Read::read(&mut host, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn without_stream_sockets_there_is_no_connection() {
    let mut guest = Guest::new();
    let _listener = guest.listen(7);
    guest.driver.start(1 << 2);
    guest.send(&Packet::data(RW, 1000, 7, b"x"));
    guest.expect(RST, 7, 1000);
    guest.send(&Packet::new(crate::guest::REQUEST, 1000, 7));
    guest.expect(RST, 7, 1000);
    assert_eq!(guest.connections(), 0);
}
