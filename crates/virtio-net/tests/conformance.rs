//! What every virtio device must do, and what a snapshot must hold of this one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Mutex;

use device::Persist;
use net::{Datagram, Link, Mac};
use purlin_virtio_net::{Net, NetConfig, NetError, NetState};
use virtio::conformance::{self, Driver, Request};

fn mac() -> Mac {
    "02:00:00:00:00:01".parse().unwrap()
}

fn config() -> NetConfig {
    NetConfig { mtu: Some(9000), ..NetConfig::new(mac()) }
}

/// A card whose other ends stay, which must not be closed while it is tested.
fn net(pairs: usize, header: bool) -> Net {
    static KEPT: Mutex<Vec<Datagram>> = Mutex::new(Vec::new());
    let link = |_| {
        let pair = if header { Datagram::pair_with_header() } else { Datagram::pair() };
        let (ours, theirs) = pair.unwrap();
        KEPT.lock().unwrap().push(theirs);
        Box::new(ours) as Box<dyn Link>
    };
    Net::with_pairs((0..pairs).map(link).collect(), config()).unwrap()
}

#[test]
fn it_conforms_over_every_kind_of_link() {
    conformance::device(|| net(1, false));
    conformance::device(|| net(1, true));
}

#[test]
fn it_conforms_with_several_pairs() {
    conformance::device(|| net(3, true));
}

#[test]
fn packets_and_commands_are_served_however_they_are_cut() {
    // The other end is gone, so that nothing is ever in the way.
    let make = || Net::new(Datagram::pair().unwrap().0, config()).unwrap();
    let packet =
        Request { queue: 1, readable: vec![0; 12 + 60], room: 0, answer: Some(Vec::new()), len: 0 };
    conformance::serves(make, &packet);
    for (command, answer) in [(vec![0, 0, 1], 0), (vec![0, 0, 2], 1), (vec![9, 9], 1)] {
        let answer = Some(vec![answer]);
        let command = Request { queue: 2, readable: command, room: 1, answer, len: 1 };
        conformance::serves(make, &command);
    }
}

#[test]
fn a_snapshot_keeps_what_the_guest_has_set() {
    let mut net = self::net(2, true);
    let state = net.save().unwrap();
    let plain = NetState {
        mac: [2, 0, 0, 0, 0, 1],
        pairs: 2,
        mtu: Some(9000),
        active: 1,
        offloads: None,
        plugged: true,
    };
    assert_eq!(state, plain);
    let set = NetState {
        mac: [2, 0, 0, 0, 0, 9],
        active: 2,
        offloads: Some(1 << 1),
        plugged: false,
        ..plain
    };
    net.restore(set).unwrap();
    assert_eq!(net.save().unwrap(), set);
    assert!(!net.is_up());
}

#[test]
fn a_snapshot_of_another_card_is_refused() {
    let mut net = self::net(2, true);
    let own = net.save().unwrap();
    for (state, why) in [
        (NetState { pairs: 3, ..own }, "(3, Some(9000)) and are (2, Some(9000))"),
        (NetState { mtu: None, ..own }, "(2, None) and are"),
        (NetState { active: 0, ..own }, "0 of 2 pairs"),
        (NetState { active: 3, ..own }, "3 of 2 pairs"),
        (NetState { mac: [1; 6], ..own }, "cannot be the address of a card"),
        (NetState { offloads: Some(1), ..own }, "that the card lacks"),
    ] {
        let error = net.restore(state).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        assert_eq!(net.save().unwrap(), own);
    }
}

#[test]
fn a_snapshot_is_taken_in_the_middle_of_waiting() {
    let mut driver = Driver::new(virtio::mmio(net(1, false)));
    driver.start(driver.offered());
    let head = {
        let queue = driver.queues.first_mut().unwrap();
        queue.offer(&[(conformance::BUFFERS, 2048, true)])
    };
    driver.kick_and_run(0);
    let (ours, mut theirs) = Datagram::pair().unwrap();
    let mut driver = driver.transplant(virtio::mmio(Net::new(ours, config()).unwrap()));
    driver.run();
    theirs.send(&[7; 60]).unwrap();
    driver.run();
    let used = driver.queues.first_mut().unwrap().used();
    assert_eq!(used, [(u32::from(head), 72)]);
}

#[test]
fn cards_that_cannot_be_are_refused() {
    let none = Net::with_pairs(Vec::new(), config()).unwrap_err();
    assert!(matches!(none, NetError::Pairs(0)), "{none}");
    let (with, without) = (Datagram::pair_with_header().unwrap().0, Datagram::pair().unwrap().0);
    let mixed = Net::with_pairs(vec![Box::new(with), Box::new(without)], config()).unwrap_err();
    assert!(matches!(mixed, NetError::Links), "{mixed}");
    for mtu in [0, 67, 65_521] {
        let config = NetConfig { mtu: Some(mtu), ..config() };
        let error = Net::new(Datagram::pair().unwrap().0, config).unwrap_err();
        assert_eq!(error.to_string(), format!("an MTU of {mtu}; it must be 68 to 65520"));
    }
}
