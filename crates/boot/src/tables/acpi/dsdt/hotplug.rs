//! Devices that come and go on the PCI bus (ACPI 6.5, 5.6.6, 6.3, 9.13): the controller's registers, the
//! slots, and the event that has an OS look at them.

use acpi_tables::{
    Aml,
    aml::{
        And, Arg, Device, Equal, Field, FieldAccessType, FieldEntry, FieldLockRule,
        FieldUpdateRule, If, Interrupt, Local, Method, MethodCall, Name, Notify, OpRegion,
        OpRegionSpace, Path, ResourceTemplate, Scope, Store,
    },
};

/// Bytes of the registers.
const REGISTERS: u8 = 12;
/// Slots that devices can be put into; number 0 is the bus's own.
const SLOTS: std::ops::RangeInclusive<u32> = 1..=31;
/// What a notification says (ACPI 6.5, table 5.162): look at the device, and let go of it.
const DEVICE_CHECK: u8 = 1;
const EJECT_REQUEST: u8 = 3;

/// Writes the slots of the root bus called `root`, whose controller has its registers at `base` and
/// raises line `gsi`, and the event device `name`.
pub(super) fn controller(body: &mut Vec<u8>, root: &str, name: &str, base: u32, gsi: u32) {
    let mut children = Vec::new();
    registers(&mut children, base);
    SLOTS.for_each(|slot| self::slot(&mut children, slot));
    notify_slots(&mut children);
    look(&mut children);
    body.extend(Scope::raw(root.into(), children));
    event(body, root, name, gsi);
}

fn registers(body: &mut Vec<u8>, base: u32) {
    let region = Path::new("PCST");
    OpRegion::new("PCST".into(), OpRegionSpace::SystemMemory, &base, &REGISTERS).to_aml_bytes(body);
    let fields = [*b"PCIU", *b"PCID", *b"PCEJ"].map(|name| FieldEntry::Named(name, 32));
    let (access, update) = (FieldAccessType::DWord, FieldUpdateRule::WriteAsZeroes);
    Field::new(region, access, FieldLockRule::NoLock, update, fields.into()).to_aml_bytes(body);
}

/// Device number `number` of the bus, which may be ejected.
fn slot(body: &mut Vec<u8>, number: u32) {
    let address = number << 16;
    let bit = 1_u32 << number;
    let register = Path::new("PCEJ");
    let eject = Store::new(&register, &bit);
    Device::new(
        slot_name(number).as_str().into(),
        vec![
            &Name::new("_ADR".into(), &address),
            &Name::new("_SUN".into(), &number),
            &Method::new("_EJ0".into(), 1, true, vec![&eject]),
        ],
    )
    .to_aml_bytes(body);
}

/// `PCNT(slots, what)`: tells the OS `what` of each of the slots.
fn notify_slots(body: &mut Vec<u8>) {
    let mut children = Vec::new();
    for number in SLOTS {
        let slot = Path::new(&slot_name(number));
        let bit = 1_u32 << number;
        And::new(&Local(0), &Arg(0), &bit).to_aml_bytes(&mut children);
        let chosen = Equal::new(&Local(0), &bit);
        If::new(&chosen, vec![&Notify::new(&slot, &Arg(1))]).to_aml_bytes(&mut children);
    }
    Method::new("PCNT".into(), 2, true, vec![&Raw(children)]).to_aml_bytes(body);
}

/// `PCLK()`: takes what has changed from the controller, whose registers forget it as they are read.
fn look(body: &mut Vec<u8>) {
    let (up, down) = (Path::new("PCIU"), Path::new("PCID"));
    Method::new(
        "PCLK".into(),
        0,
        true,
        vec![
            &Store::new(&Local(0), &up),
            &MethodCall::new("PCNT".into(), vec![&Local(0), &DEVICE_CHECK]),
            &Store::new(&Local(0), &down),
            &MethodCall::new("PCNT".into(), vec![&Local(0), &EJECT_REQUEST]),
        ],
    )
    .to_aml_bytes(body);
}

/// A generic event device (ACPI 6.5, 5.6.9): its interrupt has the OS look.
fn event(body: &mut Vec<u8>, root: &str, name: &str, gsi: u32) {
    let line = Interrupt::new(true, true, false, false, gsi);
    let look = format!("{root}.PCLK");
    Device::new(
        name.into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_UID".into(), &0_u8),
            &Name::new("_CRS".into(), &ResourceTemplate::new(vec![&line])),
            &Method::new(
                "_EVT".into(),
                1,
                true,
                vec![&MethodCall::new(look.as_str().into(), Vec::new())],
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn slot_name(number: u32) -> String {
    format!("S{number:03X}")
}

/// What was encoded before.
pub(super) struct Raw(pub(super) Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}
