//! What the PCI transport does for a device, beyond what the conformance suite asks of every device.

#[expect(dead_code, reason = "its faults are for the other tests")]
mod echo;
mod slow;

use device::{FakeWiring, Persist, RestoreError, SaveError};
use echo::{Echo, EchoState, Fault};
use purlin_virtio::{
    Chain, Device, Handle, Served,
    conformance::{BUFFERS, Driver},
    pci, status,
};
use slow::Slow;

const RUNNING: u8 = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK;
/// A chain with room for 8 bytes.
const ROOM: [(u64, u32, bool); 1] = [(BUFFERS, 8, true)];
/// Where the transport has its registers.
const CONFIG_VECTOR: u64 = 0x10;
const QUEUE_SELECT: u64 = 0x16;
const QUEUE_VECTOR: u64 = 0x1a;
const QUEUE_RESET: u64 = 0x3a;
const ISR: u64 = 0x1000;

fn echo() -> (Driver, Handle<Echo>) {
    let (mut driver, handle) = Driver::with_handle(pci(Echo::new(Fault::None)));
    driver.start(driver.offered());
    (driver, handle)
}

fn get(driver: &Driver, offset: u64) -> u16 {
    let mut data = [0; 2];
    driver.buses().mmio.read(driver.base() + offset, &mut data);
    u16::from_le_bytes(data)
}

fn set(driver: &Driver, offset: u64, value: u16) {
    driver.buses().mmio.write(driver.base() + offset, &value.to_le_bytes());
}

#[test]
fn a_device_is_saved_by_itself_and_its_bus_and_announces_no_registers() {
    let (driver, _) = echo();
    let kinds: Vec<String> = driver.save().into_iter().map(|section| section.kind).collect();
    assert_eq!(kinds, ["pci.root", "virtio.pci"]);
    let bus = |node: &device::Node| {
        matches!(node, device::Node::PciRoot { .. } | device::Node::PciHotplug { .. })
    };
    assert!(driver.wiring().nodes.iter().all(bus));
}

#[test]
fn a_device_is_a_function_with_its_type_for_a_number() {
    let mut wiring = FakeWiring::new().unwrap();
    wiring.attach(pci(Echo::new(Fault::None))).unwrap();
    let [function] = &wiring.functions[..] else { panic!("one device is one function") };
    let identity = function.identity();
    assert_eq!((identity.vendor, identity.device, identity.revision), (0x1af4, 0x1040 + 42, 1));
    assert_eq!(function.msix().unwrap().vectors, 4);
}

#[test]
fn each_queue_interrupts_by_its_own_vector_and_the_configuration_by_another() {
    let (mut driver, handle) = echo();
    for index in [0, 2] {
        let others = 2 - index;
        let before = [index, others].map(|queue| driver.raised_for(queue));
        driver.queues[index].offer(&ROOM);
        driver.kick_and_run(index);
        let after = [index, others].map(|queue| driver.raised_for(queue));
        assert_eq!(after, [before[0] + 1, before[1]]);
    }
    let (all, queues) = (driver.raised(), [0, 1, 2].map(|queue| driver.raised_for(queue)));
    driver.acknowledge();
    handle.with(|echo| echo.config[0] = 1);
    assert_eq!((driver.raised(), driver.acknowledge()), (all + 1, 2));
    assert_eq!([0, 1, 2].map(|queue| driver.raised_for(queue)), queues);
    set(&driver, CONFIG_VECTOR, 3);
    handle.with(|echo| echo.config[0] = 2);
    assert_eq!(driver.raised_for(2), queues[2] + 1, "vector 3 is that of queue 2 too");
}

#[test]
fn a_read_of_the_isr_status_clears_it() {
    let (mut driver, _) = echo();
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!([driver.acknowledge(), driver.acknowledge()], [1, 0]);
}

#[test]
fn a_write_to_a_doorbell_that_comes_as_an_exit_rings_too() {
    let (mut driver, _) = echo();
    driver.queues[2].offer(&ROOM);
    driver.notify(2);
    driver.notify(3);
    driver.run();
    assert_eq!((driver.queues[2].used(), driver.status()), (vec![(0, 0)], RUNNING));
}

#[test]
fn the_driver_reads_back_what_it_wrote_of_a_queue() {
    let (driver, _) = echo();
    driver.set_status(0);
    assert!(driver.queues.len() == 3);
    set(&driver, QUEUE_SELECT, 1);
    // Not before features are agreed on.
    set(&driver, 0x18, 2);
    assert_eq!(get(&driver, 0x18), 4);
    let mut driver = driver;
    assert!(driver.negotiate(0));
    set(&driver, QUEUE_SELECT, 1);
    set(&driver, 0x18, 2);
    driver.write(0x20, 0x1111_0000);
    driver.write(0x24, 0x2222);
    assert_eq!(get(&driver, 0x18), 2);
    assert_eq!((driver.read(0x20), driver.read(0x24), driver.read(0x28)), (0x1111_0000, 0x2222, 0));
}

#[test]
fn a_queue_is_put_into_use_by_1_and_not_taken_out_by_0() {
    let (mut driver, _) = echo();
    driver.start(driver.offered());
    driver.reset_queue(1);
    set(&driver, QUEUE_SELECT, 1);
    driver.write(0x20, 0x1000);
    driver.write(0x28, 0x2000);
    driver.write(0x30, 0x3000);
    for (value, enabled) in [(0, 0), (2, 0), (0x101, 0), (1, 1)] {
        set(&driver, 0x1c, value);
        assert_eq!(get(&driver, 0x1c), enabled, "after {value} was written");
    }
    set(&driver, QUEUE_SELECT, 0);
    set(&driver, 0x1c, 0);
    assert_eq!(get(&driver, 0x1c), 1);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(driver.queues[0].used(), [(0, 0)]);
}

#[test]
fn a_queue_is_reset_by_1_and_by_nothing_else() {
    let (driver, _) = echo();
    set(&driver, QUEUE_SELECT, 0);
    for (value, enabled) in [(0, 1), (2, 1), (0x101, 1), (1, 0)] {
        set(&driver, QUEUE_RESET, value);
        assert_eq!(get(&driver, 0x1c), enabled, "after {value} was written");
    }
}

#[test]
fn a_write_between_two_doorbells_rings_neither() {
    let (mut driver, _) = echo();
    for queue in [0, 2] {
        driver.queues[queue].offer(&ROOM);
    }
    for at in [driver.doorbell(0) + 1, driver.doorbell(0) + 2, driver.doorbell(2) + 1] {
        driver.buses().mmio.write(at, &[0; 2]);
    }
    driver.run();
    assert_eq!([0, 2].map(|queue| driver.queues[queue].used()), [vec![], vec![]]);
}

#[test]
fn a_restored_device_says_again_that_its_configuration_has_changed() {
    let (driver, handle) = echo();
    handle.with(|echo| echo.config[0] = 1);
    let driver = driver.transplant(pci(Echo::new(Fault::None)));
    assert_eq!((driver.raised(), driver.acknowledge()), (1, 2));
}

#[test]
fn a_restored_device_has_its_vectors() {
    let (driver, _) = echo();
    set(&driver, CONFIG_VECTOR, 3);
    set(&driver, QUEUE_SELECT, 1);
    set(&driver, QUEUE_VECTOR, 0);
    let driver = driver.transplant(pci(Echo::new(Fault::None)));
    assert_eq!((get(&driver, CONFIG_VECTOR), get(&driver, QUEUE_SELECT)), (3, 1));
    assert_eq!(get(&driver, QUEUE_VECTOR), 0);
    set(&driver, QUEUE_SELECT, 2);
    assert_eq!(get(&driver, QUEUE_VECTOR), 3);
}

#[test]
fn a_state_that_no_driver_can_have_made_changes_nothing() {
    let (driver, _) = echo();
    let before = driver.save();
    let bad = [
        ("isr", 4.into()),
        ("config_vector", 4.into()),
        ("config_vector", 0xfffe.into()),
        ("queue_vectors", snapshot::Value::Array(vec![0.into(); 2])),
        ("queue_vectors", snapshot::Value::Array(vec![0.into(), 1.into(), 4.into()])),
        ("queue_sel", 0x1_0000.into()),
    ];
    for (field, value) in bad {
        let mut section = before[1].clone();
        section.state[field] = value;
        let mut component = driver.wiring().components[1].lock().unwrap();
        assert!(component.restore_section(section).is_err(), "a wrong {field} is taken");
    }
    let mut section = before[1].clone();
    section.state["isr"] = 5.into();
    let error = driver.wiring().components[1].lock().unwrap().restore_section(section).unwrap_err();
    let why = "`virtio.pci` cannot be restored: ISR status 0x5; it has bits 0 and 1";
    assert_eq!(error.to_string(), why);
    assert_eq!(driver.save(), before);
}

#[test]
fn an_interrupt_waits_for_bus_mastering() {
    let (driver, handle) = echo();
    let raised = driver.raised();
    let command = |value: u8| {
        driver.buses().pio.write(0xcf8, &0x8000_0804_u32.to_le_bytes());
        driver.buses().pio.write(0xcfc, &[value]);
    };
    command(2);
    handle.with(|echo| echo.config[0] = 1);
    assert_eq!(driver.raised(), raised);
    command(6);
    assert_eq!(driver.raised(), raised + 1);
}

#[test]
fn the_isr_status_does_not_wait_for_the_device() {
    let (mut driver, handle) = Driver::with_handle(pci(Slow::new()));
    driver.start(0);
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    let (buses, base) = (driver.buses().clone(), driver.base());
    let probe = move || {
        let mut data = [0];
        buses.mmio.read(base + ISR, &mut data);
        buses.mmio.write(base + 0x2000, &[0; 2]);
        data[0].into()
    };
    handle.with(|slow| slow.probe = Some(Box::new(probe)));
    driver.queues[0].offer(&ROOM);
    driver.kick_and_run(0);
    assert_eq!(handle.with(|slow| slow.seen), Some(1));
}

#[test]
fn more_queues_than_vectors_share_the_last() {
    struct Many(Vec<u16>, Echo);

    impl Persist for Many {
        type State = EchoState;

        fn save(&mut self) -> Result<EchoState, SaveError> {
            self.1.save()
        }

        fn restore(&mut self, state: EchoState) -> Result<(), RestoreError> {
            self.1.restore(state)
        }
    }

    impl Device for Many {
        const ID: u32 = 42;

        fn queues(&self) -> &[u16] {
            &self.0
        }

        fn serve(&mut self, _: u16, _: &mut Chain<'_>) -> Served {
            Served::Used(0)
        }
    }

    // 127 queues have as many vectors as one device may have; the driver has room for 128 queues.
    let mut driver = Driver::new(pci(Many(vec![2; 128], Echo::new(Fault::None))));
    driver.start(0);
    for index in [126, 127] {
        let raised = driver.raised_for(127);
        driver.queues[index].offer(&ROOM);
        driver.kick_and_run(index);
        assert_eq!(driver.raised_for(127), raised + 1);
    }
}
