//! What only a broken or malicious driver does.

use memory::{Bytes, GuestAddress};

use super::{
    Driver, Random, Transport,
    queue::{BUFFERS, Descriptor, INDIRECT, NEXT, Queue},
};
use crate::{feature, status};

/// Where indirect tables are put.
const TABLE: u64 = BUFFERS;
/// Where the buffers of random requests are.
const DATA: u64 = BUFFERS + 0x1_0000;
/// How often a request is made whose answer looks like what was there.
const TRIES: usize = 8;
/// A chain of this many buffers is too long for any queue of the driver's.
const GIANT: u16 = 1025;

/// A way to offer a chain that makes no sense: its head.
type Malformed = (&'static str, fn(&mut Queue) -> u16);

/// A way to break a ring.
type Broken = (&'static str, fn(&mut Queue));

const MALFORMED: [Malformed; 15] = [
    ("of length 0", |queue| queue.offer(&[(DATA, 0, false)])),
    ("of length 0 to write", |queue| queue.offer(&[(DATA, 0, true)])),
    ("outside RAM", |queue| queue.offer(&[(1 << 40, 16, true)])),
    ("that leaves RAM", |queue| queue.offer(&[(0x10_0000 - 8, 16, false)])),
    ("around the end of the address space", |queue| queue.offer(&[(u64::MAX - 7, 16, true)])),
    ("of 4 GiB", |queue| queue.offer(&[(DATA, u32::MAX, true)])),
    ("in a loop", |queue| own(queue, Descriptor { addr: DATA, len: 1, flags: NEXT, next: 0 })),
    ("that continues nowhere", |queue| {
        own(queue, Descriptor { addr: DATA, len: 1, flags: NEXT, next: u16::MAX })
    }),
    ("in an empty table", |queue| {
        own(queue, Descriptor { addr: TABLE, len: 0, flags: INDIRECT, next: 0 })
    }),
    ("in a table of odd length", |queue| {
        queue.put_descriptor(TABLE, 0, Descriptor { addr: DATA, len: 1, flags: 0, next: 0 });
        own(queue, Descriptor { addr: TABLE, len: 17, flags: INDIRECT, next: 0 })
    }),
    ("in a table outside RAM", |queue| {
        own(queue, Descriptor { addr: 1 << 40, len: 32, flags: INDIRECT, next: 0 })
    }),
    ("in a table in a table", |queue| {
        let inner = Descriptor { addr: TABLE, len: 16, flags: INDIRECT, next: 0 };
        queue.put_descriptor(TABLE, 0, inner);
        own(queue, inner)
    }),
    ("in a table in a table after a buffer", |queue| {
        let inner = TABLE + 0x100;
        queue.put_descriptor(TABLE, 0, Descriptor { addr: DATA, len: 1, flags: NEXT, next: 1 });
        let second = Descriptor { addr: inner, len: 16, flags: INDIRECT, next: 0 };
        queue.put_descriptor(TABLE, 1, second);
        queue.put_descriptor(inner, 0, Descriptor { addr: DATA, len: 1, flags: 0, next: 0 });
        own(queue, Descriptor { addr: TABLE, len: 32, flags: INDIRECT, next: 0 })
    }),
    ("written before read", |queue| {
        queue.offer_indirect(TABLE, &[(DATA, 1, true), (DATA, 1, false)])
    }),
    ("too long", |queue| queue.offer_indirect(TABLE, &vec![(DATA, 1, true); usize::from(GIANT)])),
];

fn own(queue: &mut Queue, descriptor: Descriptor) -> u16 {
    let head = queue.offer(&[(DATA, 1, false)]);
    queue.put_own(head, descriptor);
    if descriptor.flags & NEXT != 0 && descriptor.next == 0 {
        queue.put_own(head, Descriptor { next: head, ..descriptor });
    }
    head
}

/// Chains that make no sense come back with length 0, and the queue goes on.
pub fn returns_malformed_chains<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    for features in [0, feature::INDIRECT_DESC, feature::INDIRECT_DESC | feature::EVENT_IDX] {
        driver.start(features);
        for index in 0..driver.queues.len() {
            for (what, offer) in MALFORMED {
                let head = offer(&mut driver.queues[index]);
                driver.kick_and_run(index);
                let used = driver.queues[index].used();
                assert_eq!(used, [(head.into(), 0)], "a chain {what} on queue {index}");
                assert!(!driver.is_broken(), "a chain {what} breaks queue {index}");
            }
        }
    }
}

/// Rings that make no sense stop the device and tell the driver; a reset mends it.
pub fn breaks_with_its_rings<T: Transport>(make: &impl Fn() -> T) {
    let mut driver = Driver::new(make());
    let broken: [Broken; 3] = [
        ("more chains than entries", |queue| {
            queue.set_offered(u16::try_from(queue.size + 1).unwrap_or(u16::MAX));
        }),
        ("an index that runs backwards", |queue| queue.set_offered(u16::MAX)),
        ("a descriptor that is not there", |queue| queue.offer_head(u16::MAX)),
    ];
    for index in 0..driver.queues.len() {
        for (what, offer) in broken {
            driver.start(0);
            let raised = driver.raised();
            offer(&mut driver.queues[index]);
            driver.kick_and_run(index);
            assert!(driver.is_broken(), "queue {index} takes {what}");
            assert_eq!(driver.acknowledge() & 2, 2, "queue {index} breaks silently: {what}");
            assert!(driver.raised() > raised, "queue {index} breaks silently: {what}");

            let raised = driver.raised();
            driver.kick_and_run(index);
            assert_eq!(driver.raised(), raised, "a broken device says so once");
            assert_eq!(driver.set_status(0), 0, "a reset mends the device");
        }
    }
    driver.start(0);
}

/// Well formed requests with nonsense in them are given back or kept, never twice and never with
/// more than was written; queue and device resets come in between.
pub fn takes_any_request<T: Transport>(make: &impl Fn() -> T, seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut driver = Driver::new(make());
    for _ in 0..4 {
        let optional = feature::EVENT_IDX | feature::INDIRECT_DESC;
        driver.start(driver.offered() & !(optional & random.next()));
        for _ in 0..64 {
            let index = usize::try_from(random.below(u32::MAX)).unwrap_or(0) % driver.queues.len();
            request(&mut driver, index, &mut random);
            match random.below(32) {
                0 => assert!(driver.reset_queue(index) && driver.enable(index), "queue {index}"),
                1 => driver = driver.transplant(make()),
                2 => driver.notify(random.below(300)),
                _ => {}
            }
            let alive = driver.status() & (status::DRIVER_OK | status::NEEDS_RESET);
            assert_eq!(alive, status::DRIVER_OK, "a well formed request breaks queue {index}");
        }
        driver.reset();
    }
}

/// One random request. What the device says it wrote must have changed from what was there.
fn request(driver: &mut Driver, index: usize, random: &mut Random) {
    let (out, room) = (random.below(64), random.below(600));
    let bytes: Vec<u8> = (0..out).map(|_| random.next().to_le_bytes()[2] & 0x1f).collect();
    let answer = DATA + 0x1000;
    let mut chain = Vec::new();
    if out > 0 {
        chain.push((DATA, out, false));
    }
    if room > 1 && driver.queues[index].size > 2 {
        chain.push((answer, 1, true));
        chain.push((answer + 1, room - 1, true));
    } else if room > 0 && (out == 0 || driver.queues[index].size > 1) {
        chain.push((answer, room, true));
    }
    if chain.is_empty() {
        return;
    }
    let room: u32 = chain.iter().filter(|buffer| buffer.2).map(|buffer| buffer.1).sum();
    let mut unchanged = vec![true; usize::try_from(room).unwrap_or(0)];
    // A device whose answers are random may hit on the pattern, but not every time.
    for _ in 0..TRIES {
        let [_, _, _, pattern, ..] = random.next().to_le_bytes();
        let memory = driver.memory().clone();
        memory.write_slice(&bytes, GuestAddress(DATA)).expect("buffers lie in RAM");
        let mut data = vec![pattern; unchanged.len()];
        memory.write_slice(&data, GuestAddress(answer)).expect("buffers lie in RAM");
        let head = driver.queues[index].offer(&chain);
        driver.kick_and_run(index);
        let used = driver.queues[index].used();
        let Some(&(back, len)) = used.last() else {
            // It may wait as long as it likes; the queue is needed for others.
            assert!(driver.reset_queue(index) && driver.enable(index), "queue {index}");
            return;
        };
        assert_eq!(used.len(), 1, "queue {index} gives a chain back twice");
        assert_eq!(back, u32::from(head), "queue {index} gives back what it has not");
        assert!(len <= room, "queue {index} writes {len} of {room} bytes");
        memory.read_slice(&mut data, GuestAddress(answer)).expect("buffers lie in RAM");
        let len = usize::try_from(len).unwrap_or(0);
        for (unchanged, byte) in unchanged.iter_mut().zip(&data) {
            *unchanged &= *byte == pattern;
        }
        unchanged.iter_mut().skip(len).for_each(|unchanged| *unchanged = false);
        if !unchanged.contains(&true) {
            return;
        }
    }
    let lie = unchanged.iter().position(|unchanged| *unchanged);
    assert_eq!(lie, None, "queue {index} claims bytes that it has not written");
}
