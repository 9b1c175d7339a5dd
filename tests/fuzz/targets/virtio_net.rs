//! The network card with two pairs of queues, on a wire whose other end stays silent.
#![no_main]

use net::{Datagram, Link};
use virtio_net::{Net, NetConfig};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut kept = Vec::new();
    let kept = std::cell::RefCell::new(&mut kept);
    let make = || {
        let link = || {
            let (ours, theirs) = Datagram::pair_with_header().expect("sockets can be had");
            kept.borrow_mut().push(theirs);
            Box::new(ours) as Box<dyn Link>
        };
        let mac = "02:00:00:00:00:01".parse().expect("an address");
        Net::with_pairs(vec![link(), link()], NetConfig::new(mac)).expect("a card can be had")
    };
    virtio::conformance::fuzz(make, input);
});
