//! Requests that the device understands.

use memory::{Bytes, GuestAddress};

use super::{
    Driver, Transport,
    queue::{BUFFERS, Queue},
};
use crate::{Device, feature, mmio, pci};

const TABLE: u64 = BUFFERS;
const OUT: u64 = BUFFERS + 0x1000;
const IN: u64 = BUFFERS + 0x2_0000;
/// How often each request is made, so that the ring wraps around.
const TIMES: usize = 40;

/// A request that the device serves at once, and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The queue it is for.
    pub queue: usize,
    /// What the driver writes, at most 64 KiB.
    pub readable: Vec<u8>,
    /// The room for the answer, at most 64 KiB.
    pub room: u32,
    /// What must be in that room afterwards; `None` if only its length is known.
    pub answer: Option<Vec<u8>>,
    /// The length that must be used.
    pub len: u32,
}

/// `request` is served as told: in direct and indirect chains, cut at any place, with and without
/// event index, one after the other and several at once, across a snapshot, a queue reset and a
/// device reset.
pub fn serves<D: Device>(make: impl Fn() -> D, request: &Request) {
    serves_on(&|| mmio(make()), request);
    serves_on(&|| pci(make()), request);
}

fn serves_on<T: Transport>(make: &impl Fn() -> T, request: &Request) {
    for features in [0, feature::EVENT_IDX] {
        let mut driver = Driver::new(make());
        driver.start(driver.offered() & !feature::EVENT_IDX | features);
        serves_again_and_again(&mut driver, request);
        serves_several_at_once(&mut driver, request);
        driver = serves_across_a_snapshot(driver, make, request);
        assert!(driver.reset_queue(request.queue), "the queue can be reset");
        driver.queues[request.queue].events = features != 0;
        assert!(driver.enable(request.queue), "the queue can be used again");
        serves_again_and_again(&mut driver, request);
        driver.start(driver.offered() & !feature::EVENT_IDX | features);
        serves_again_and_again(&mut driver, request);
    }
}

fn serves_again_and_again(driver: &mut Driver, request: &Request) {
    for time in 0..TIMES {
        put(driver, request);
        let indirect = time % 2 == 1 || driver.queues[request.queue].size < 4;
        let head = offer(&mut driver.queues[request.queue], request, time, indirect);
        driver.kick_and_run(request.queue);
        check(driver, request, &[head]);
    }
}

fn serves_several_at_once(driver: &mut Driver, request: &Request) {
    put(driver, request);
    let queue = &mut driver.queues[request.queue];
    let size = queue.size;
    // All descriptors of the ring name the same table, and a full ring is more than a budget.
    let heads: Vec<u16> = (0..size).map(|_| offer(queue, request, 0, true)).collect();
    driver.kick_and_run(request.queue);
    check(driver, request, &heads);
}

fn serves_across_a_snapshot<T: Transport>(
    mut driver: Driver,
    make: &impl Fn() -> T,
    request: &Request,
) -> Driver {
    put(&driver, request);
    let head = offer(&mut driver.queues[request.queue], request, 0, true);
    let mut driver = driver.transplant(make());
    driver.run();
    check(&mut driver, request, &[head]);
    driver
}

/// Writes the request to RAM, and clears the room for its answer.
fn put(driver: &Driver, request: &Request) {
    let memory = driver.memory();
    let room = usize::try_from(request.room).expect("requests are small");
    memory.write_slice(&request.readable, GuestAddress(OUT)).expect("buffers lie in RAM");
    memory.write_slice(&vec![0; room], GuestAddress(IN)).expect("buffers lie in RAM");
}

/// Offers the request, each side cut in two at a place that depends on `time`: its head.
fn offer(queue: &mut Queue, request: &Request, time: usize, indirect: bool) -> u16 {
    let time = u32::try_from(time).unwrap_or(0);
    let out = u32::try_from(request.readable.len()).expect("requests are small");
    let sides = [(OUT, out, false), (IN, request.room, true)];
    let halves = sides.into_iter().flat_map(|(addr, len, write)| {
        let cut = time % len.max(1);
        [(addr, cut, write), (addr + u64::from(cut), len - cut, write)]
    });
    let chain: Vec<_> = halves.filter(|half| half.1 > 0).collect();
    if indirect { queue.offer_indirect(TABLE, &chain) } else { queue.offer(&chain) }
}

fn check(driver: &mut Driver, request: &Request, heads: &[u16]) {
    let queue = request.queue;
    let used = driver.queues[queue].used();
    let expected: Vec<_> = heads.iter().map(|head| (u32::from(*head), request.len)).collect();
    assert_eq!(used, expected, "queue {queue} uses other chains or lengths");
    let Some(answer) = &request.answer else { return };
    let mut found = vec![0; answer.len()];
    driver.memory().read_slice(&mut found, GuestAddress(IN)).expect("buffers lie in RAM");
    assert_eq!(&found, answer, "queue {queue} answers something else");
}
