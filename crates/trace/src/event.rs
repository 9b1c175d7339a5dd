//! What is recorded.

/// One thing that happened on one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind of thing.
    pub kind: Kind,
    /// When it began: nanoseconds since recording was first enabled.
    pub at: u64,
    /// How long it took, nanoseconds.
    pub took: u64,
    /// The port, address, interrupt line or other number that says which one.
    pub value: u64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// The kinds of event. The numbers are stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* $name = $number,)* }

        impl Kind {
            /// The name that exporters write.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            pub(crate) fn number(self) -> u64 {
                match self { $(Self::$name => $number,)* }
            }
        }
    };
}

kinds! {
    /// The guest ran: from entry to exit.
    Guest = 1, "guest";
    /// A port read was answered; the value is the port.
    PioIn = 2, "port in";
    /// A port write was taken; the value is the port.
    PioOut = 3, "port out";
    /// A memory read was answered; the value is the address.
    MmioRead = 4, "mmio read";
    /// A memory write was taken; the value is the address.
    MmioWrite = 5, "mmio write";
    /// A vCPU was interrupted by a kick.
    Interrupted = 6, "interrupted";
    /// A vCPU stopped: halt, power off, reset, fault.
    Stopped = 7, "stopped";
    /// A device did work of its own; the value is the device's choice.
    Device = 8, "device";
    /// An interrupt was raised; the value is its line.
    Interrupt = 9, "interrupt";
    /// The machine changed its state; the value is the machine's choice.
    Lifecycle = 10, "lifecycle";
}
