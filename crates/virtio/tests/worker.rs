//! What the worker and the MMIO transport do for a device, beyond what the conformance suite asks of
//! every device.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "its faults are for the other tests")]
mod echo;
mod slow;

use std::io::Write;

use device::{Node, Persist, RestoreError, SaveError};
use echo::{Echo, EchoState, Fault};
use memory::{Bytes, GuestAddress, GuestMemory};
use purlin_virtio::{
    Chain, Device, Handle, Served,
    conformance::{BUFFERS, Driver},
    feature, mmio, status,
};
use slow::Slow;

const RUNNING: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
/// A chain with room for 8 bytes.
const ROOM: [(u64, u32, bool); 1] = [(BUFFERS, 8, true)];

fn echo() -> (Driver, Handle<Echo>) {
    let (mut driver, handle) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    driver.start(driver.offered());
    (driver, handle)
}

#[test]
fn a_device_claims_registers_a_line_and_a_doorbell_for_each_queue() {
    let (driver, _) = echo();
    let [Node::VirtioMmio { base, len: 0x208, gsi: 16 }] = driver.wiring().nodes[..] else {
        panic!("announced: {:?}", driver.wiring().nodes)
    };
    let bells: Vec<_> = driver.wiring().doorbells.iter().map(|bell| (bell.0, bell.1)).collect();
    let at = device::IoAddr::Mmio(base + 0x50);
    assert_eq!(bells, [(at, Some(0)), (at, Some(1)), (at, Some(2))]);
    assert_eq!(driver.wiring().components.len(), 1);
}

#[test]
fn a_device_offers_its_own_features_and_those_of_the_queues() {
    let (driver, handle) = echo();
    let ours =
        feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC | feature::RING_RESET;
    assert_eq!(driver.offered(), Echo::FEATURE | ours);
    assert_eq!(handle.with(|echo| echo.features), Echo::FEATURE | ours);
}

#[test]
fn a_reset_reaches_the_device() {
    let (mut driver, handle) = echo();
    let resets = handle.with(|echo| echo.resets);
    driver.reset();
    assert_eq!(handle.with(|echo| (echo.resets, echo.features)), (resets + 1, 0));
}

#[test]
fn a_notification_by_register_works_like_a_doorbell() {
    let (mut driver, _) = echo();
    driver.queues[0].offer(&ROOM);
    driver.write(0x050, 0);
    driver.run();
    assert_eq!(driver.queues[0].used(), [(0, 0)]);
    driver.write(0x050, 3);
    driver.write(0x050, u32::MAX);
    driver.run();
    assert_eq!(driver.status(), RUNNING);
}

#[test]
fn a_stalled_chain_is_served_when_its_source_is_ready() {
    let (mut driver, handle) = echo();
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    assert_eq!(driver.queues[1].used(), []);

    handle.with(|echo| echo.input.try_clone()).unwrap().write(7).unwrap();
    driver.run();

    assert_eq!(driver.queues[1].used(), [(0, 8)]);
    assert_eq!(driver.memory().read_obj::<u64>(GuestAddress(BUFFERS)).unwrap(), 7);
}

#[test]
fn a_stalled_chain_is_served_when_another_queue_makes_progress() {
    let (mut driver, handle) = echo();
    handle.with(|echo| echo.posts = true);
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[1].used(), [(0, 8)]);
}

#[test]
fn a_stalled_chain_is_served_when_the_host_touches_the_device() {
    let (mut driver, handle) = echo();
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    handle.with(|echo| echo.mailbox = Some(1));
    driver.run();
    assert_eq!(driver.queues[1].used(), [(0, 8)]);
}

#[test]
fn a_stalled_chain_survives_a_snapshot() {
    let (mut driver, _) = echo();
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    let echo = Echo::new(Fault::None);
    let input = echo.input.try_clone().unwrap();
    let mut driver = driver.transplant(mmio(echo));
    driver.run();
    input.write(3).unwrap();
    driver.run();
    assert_eq!(driver.queues[1].used(), [(0, 8)]);
}

#[test]
fn what_was_offered_before_a_snapshot_is_served_after_it_without_another_notification() {
    let (mut driver, _) = echo();
    driver.queues[0].offer(&ROOM);
    let (mut other, _) = echo();
    let mut ram = vec![0; 1 << 20];
    driver.memory().read_slice(&mut ram, GuestAddress(0)).unwrap();
    other.memory().write_slice(&ram, GuestAddress(0)).unwrap();
    let saved = driver.save().remove(0);
    other.run();
    // `Driver::transplant` saves the new device once more, which rings by itself.
    other.wiring().components[0].lock().unwrap().restore_section(saved).unwrap();
    other.run();
    assert_eq!(other.queues[0].used(), [(0, 0)]);
}

#[test]
fn a_queue_that_starts_over_interrupts_for_its_first_chain_again() {
    for reset_all in [true, false] {
        let (mut driver, _) = echo();
        for _ in 0..2 {
            let raised = driver.raised();
            driver.queues[0].set_used_event(0);
            driver.queues[0].offer(&ROOM);
            driver.kick_and_run(0);
            assert_eq!(driver.raised(), raised + 1);
            if reset_all {
                driver.start(driver.offered());
            } else {
                assert!(driver.reset_queue(0));
                driver.queues[0].events = true;
                assert!(driver.enable(0));
            }
        }
    }
}

#[test]
fn a_stalled_chain_is_forgotten_in_a_reset() {
    let (mut driver, handle) = echo();
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    driver.start(0);
    handle.with(|echo| echo.input.write(1)).unwrap();
    driver.run();
    assert_eq!(driver.queues[1].used(), []);
    assert_eq!(driver.status(), RUNNING);
}

#[test]
fn nothing_is_served_before_the_driver_is_ready() {
    let (mut driver, handle) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    assert!(driver.negotiate(0) && driver.enable(0));
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(handle.with(|echo| echo.count), 0);

    driver.set_status(RUNNING);
    driver.run();
    assert_eq!(handle.with(|echo| echo.count), 1);
}

#[test]
fn nothing_is_served_after_the_driver_has_given_up() {
    let (mut driver, handle) = echo();
    driver.set_status(RUNNING | status::FAILED);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(handle.with(|echo| echo.count), 0);
}

#[test]
fn a_configuration_changed_by_the_host_is_announced_once() {
    let (driver, handle) = echo();
    let (raised, generation) = (driver.raised(), driver.generation());
    handle.with(|echo| echo.config[0] = 1);
    handle.with(|_| {});
    assert_eq!(driver.raised(), raised + 1);
    assert_eq!(driver.acknowledge(), 2);
    assert_eq!(driver.generation(), generation + 1);
}

#[test]
fn a_configuration_changed_before_the_driver_is_ready_is_not_announced() {
    let (driver, handle) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    handle.with(|echo| echo.config[0] = 1);
    assert_eq!((driver.raised(), driver.generation()), (0, 1));
}

#[test]
fn the_driver_reads_and_writes_the_configuration_at_any_width() {
    let (driver, handle) = echo();
    driver.write_config(5, &[1, 2, 3]);
    driver.write_config(6, &[9, 9, 9]);
    assert_eq!(handle.with(|echo| echo.config.clone()), [0, 0, 0, 0, 0, 1, 2, 3]);
    let mut data = [0xff; 8];
    driver.read_config(0, &mut data);
    assert_eq!(data, [0, 0, 0, 0, 0, 1, 2, 3]);
    let mut beyond = [0xff; 2];
    driver.read_config(7, &mut beyond);
    assert_eq!(beyond, [0xff; 2]);
}

#[test]
fn a_queue_can_be_reset_only_if_that_was_agreed_on() {
    let (mut driver, _) = echo();
    assert!(driver.reset_queue(0));
    driver.start(driver.offered() & !feature::RING_RESET);
    assert!(!driver.reset_queue(0));
}

#[test]
fn a_queue_in_use_cannot_be_changed() {
    let (mut driver, _) = echo();
    driver.write(0x030, 0);
    driver.write(0x038, 2);
    driver.write(0x080, 0x5000);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 0)]);
}

#[test]
fn a_queue_used_again_wants_to_be_notified_again() {
    let (mut driver, _) = echo();
    driver.start(0);
    driver.queues[1].offer(&ROOM);
    driver.kick_and_run(1);
    assert!(!driver.queues[1].wants_kick(), "a stalled queue is not to be notified");
    driver.write(0x030, 1);
    driver.write(0x044, 0);
    driver.queues[1].set_offered(0);
    assert!(driver.enable(1));
    driver.run();
    assert!(driver.queues[1].wants_kick());
}

#[test]
fn a_queue_in_use_does_not_start_again() {
    let (mut driver, handle) = echo();
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    driver.write(0x030, 0);
    driver.write(0x044, 1);
    driver.kick_and_run(0);
    assert_eq!(handle.with(|echo| echo.count), 1);
}

#[test]
fn a_length_beyond_the_room_is_cut() {
    let (mut driver, handle) = echo();
    handle.with(|echo| echo.fault = Fault::ClaimsTooMuch);
    driver.queues[0].offer(&[(BUFFERS, 8, false), (BUFFERS, 8, true)]);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 8)]);
}

#[test]
fn an_acknowledge_takes_only_what_it_names() {
    let (mut driver, handle) = echo();
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    handle.with(|echo| echo.config[0] = 1);
    assert_eq!(driver.read(0x060), 3);
    driver.write(0x064, 1);
    assert_eq!(driver.read(0x060), 2);
}

#[test]
fn the_configuration_is_not_written_without_a_driver() {
    let (driver, handle) = Driver::with_handle(mmio(Echo::new(Fault::None)));
    driver.write_config(4, &[1]);
    assert_eq!(handle.with(|echo| echo.config[4]), 0);
}

#[test]
fn a_reset_selects_the_first_queue() {
    let (mut driver, _) = echo();
    driver.write(0x030, 2);
    assert_eq!(driver.read(0x034), 1);
    driver.reset();
    assert_eq!(driver.read(0x034), 8);
}

#[test]
fn a_restored_device_is_told_its_features() {
    let (mut driver, handle) = echo();
    let features = handle.with(|echo| echo.features);
    let saved = driver.save().remove(0);
    driver.reset();
    driver.wiring().components[0].lock().unwrap().restore_section(saved).unwrap();
    assert_eq!(handle.with(|echo| echo.features), features);
}

#[test]
fn a_restored_device_keeps_its_configuration_generation() {
    let (driver, handle) = echo();
    handle.with(|echo| echo.config[0] = 1);
    let driver = driver.transplant(mmio(Echo::new(Fault::None)));
    assert_eq!(driver.generation(), 1);
}

#[test]
fn a_state_of_another_device_changes_nothing() {
    let (driver, _) = echo();
    let before = driver.save();
    let bad = [
        ("status", 2.into()),
        ("status", 3.into()),
        ("features", u64::MAX.into()),
        ("rings", snapshot::Value::Array(Vec::new())),
        ("device", before[0].state["worker"]["rings"].clone()),
    ];
    for (field, value) in bad {
        let mut section = before[0].clone();
        section.state["worker"][field] = value;
        let mut component = driver.wiring().components[0].lock().unwrap();
        assert!(component.restore_section(section).is_err(), "a wrong {field} is taken");
    }
    assert_eq!(driver.save(), before);
}

#[test]
fn a_state_with_a_ring_outside_ram_changes_nothing() {
    let (driver, _) = echo();
    let before = driver.save();
    let mut section = before[0].clone();
    section.state["worker"]["rings"][1]["device"] = (1_u64 << 40).into();
    let error = driver.wiring().components[0].lock().unwrap().restore_section(section).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`virtio.mmio` cannot be restored: \
         the used ring at 0x10000000000 is not 38 bytes of RAM aligned to 4"
    );
    assert_eq!(driver.save(), before);
}

/// Two queues; each chain of the first makes another one appear on it, as a hostile guest could.
struct Endless {
    echo: Echo,
    ring: Option<(GuestMemory, GuestAddress)>,
    served: [u32; 2],
}

impl Persist for Endless {
    type State = EchoState;

    fn save(&mut self) -> Result<EchoState, SaveError> {
        self.echo.save()
    }

    fn restore(&mut self, state: EchoState) -> Result<(), RestoreError> {
        self.echo.restore(state)
    }
}

impl Device for Endless {
    const ID: u32 = 42;

    fn queues(&self) -> &[u16] {
        &[8, 8]
    }

    fn serve(&mut self, queue: u16, chain: &mut Chain<'_>) -> Served {
        self.served[usize::from(queue)] += 1;
        if let (Some((memory, index)), 0) = (&self.ring, queue) {
            let offered = memory.read_obj::<u16>(*index).unwrap();
            memory.write_obj(offered.wrapping_add(1), *index).unwrap();
        }
        chain.writer.write_all(b"x").unwrap();
        Served::Used(1)
    }
}

#[test]
fn a_queue_that_never_empties_starves_no_other() {
    let echo = Echo::new(Fault::None);
    let endless = Endless { echo, ring: None, served: [0; 2] };
    let (mut driver, handle) = Driver::with_handle(mmio(endless));
    driver.start(0);
    let index = GuestAddress(driver.queues[0].places[1] + 2);
    let memory = driver.memory().clone();
    handle.with(|endless| endless.ring = Some((memory, index)));
    driver.queues[0].offer(&ROOM);
    driver.kick(0);
    driver.turn();
    assert_eq!(handle.with(|endless| endless.served), [8, 0]);

    driver.queues[1].offer(&ROOM);
    driver.kick(1);
    driver.turn();
    assert_eq!(handle.with(|endless| endless.served), [16, 1]);
}

#[test]
fn a_queue_that_never_empties_can_be_reset() {
    let endless = Endless { echo: Echo::new(Fault::None), ring: None, served: [0; 2] };
    let (mut driver, handle) = Driver::with_handle(mmio(endless));
    driver.start(0);
    let index = GuestAddress(driver.queues[0].places[1] + 2);
    let memory = driver.memory().clone();
    handle.with(|endless| endless.ring = Some((memory, index)));
    driver.queues[0].offer(&ROOM);
    driver.kick(0);
    driver.turn();
    driver.reset();
    driver.run();
    assert_eq!(handle.with(|endless| endless.served), [8, 0]);
}

#[test]
fn the_interrupt_status_does_not_wait_for_the_device() {
    let (mut driver, handle) = Driver::with_handle(mmio(Slow::new()));
    driver.start(0);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    let buses = driver.buses().clone();
    let base = driver.base();
    let probe = move || {
        let mut data = [0; 4];
        buses.mmio.read(base + 0x060, &mut data);
        buses.mmio.write(base + 0x064, &data);
        buses.mmio.write(base + 0x050, &u32::MAX.to_le_bytes());
        u32::from_le_bytes(data)
    };
    handle.with(|slow| slow.probe = Some(Box::new(probe)));
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(handle.with(|slow| slow.seen), Some(1));
    assert_eq!(driver.read(0x060), 1);
}
