//! Who controls what on the PCI bus: `_OSC` of a root (PCI Firmware 3.3, 4.5.1).

use acpi_tables::{
    Aml,
    aml::{
        And, Arg, CreateDWordField, Else, Equal, If, Local, Method, NotEqual, Or, Path, Return,
        Store, Uuid,
    },
};

/// The interface for PCI roots, and its revision.
const INTERFACE: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
const REVISION: u8 = 1;
/// What the OS may have: power management events, error reporting, the PCI Express capability, latency
/// tolerance. Hot plug stays with ACPI, which does it here.
const GRANTED: u8 = 0b11_1100;
/// What the first dword of the answer says: no such interface, no such revision, less was granted.
const NO_INTERFACE: u8 = 1 << 2;
const NO_REVISION: u8 = 1 << 3;
const MASKED: u8 = 1 << 4;
/// Where the dwords of the capabilities are that are looked at.
const STATUS_AT: u8 = 0;
const CONTROL_AT: u8 = 8;

/// The method, as AML. Arguments are the interface, its revision, and as the last the capabilities, which
/// are returned as they were granted.
pub(super) fn method() -> Vec<u8> {
    let (status, control) = (Path::new("CDW1"), Path::new("CDW3"));
    let interface = Uuid::new(INTERFACE);
    let ours = Equal::new(&Arg(0), &interface);
    let open_control = CreateDWordField::new(&control, &Arg(3), &CONTROL_AT);
    let grant = And::new(&Local(0), &control, &GRANTED);
    let less = NotEqual::new(&Local(0), &control);
    let mask = Or::new(&status, &status, &MASKED);
    let stranger = NotEqual::new(&Arg(1), &REVISION);
    let refuse_revision = Or::new(&status, &status, &NO_REVISION);
    let answer = Store::new(&control, &Local(0));
    let (masked, unknown) =
        (If::new(&less, vec![&mask]), If::new(&stranger, vec![&refuse_revision]));
    let mut bytes = Vec::new();
    Method::new(
        "_OSC".into(),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &STATUS_AT),
            &If::new(&ours, vec![&open_control, &grant, &masked, &unknown, &answer]),
            &Else::new(vec![&Or::new(&status, &status, &NO_INTERFACE)]),
            &Return::new(&Arg(3)),
        ],
    )
    .to_aml_bytes(&mut bytes);
    bytes
}
