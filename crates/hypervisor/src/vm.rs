//! A virtual machine: what its vCPUs share.

use std::{io, sync::Arc};

use arch::{IoAddr, Topology};
use memory::{GuestMemoryRegion, Region};
use vmm_sys_util::eventfd::EventFd;

use crate::{StateError, Vcpu, VmState};

/// A host that runs virtual machines.
pub trait Hypervisor: Send + Sync {
    /// Makes a machine with interrupt controllers and timers, without RAM and vCPUs.
    ///
    /// # Errors
    /// The host lacks something that machines here rely on (named), or refuses another machine.
    fn create_vm(&self, config: &VmConfig) -> Result<Arc<dyn Vm>, CreateError>;

    /// How many bits guest physical addresses have in every machine of this host, and a guest knows
    /// of: 36 to 52.
    ///
    /// # Errors
    /// The host does not say.
    fn address_bits(&self) -> Result<u32, CreateError>;
}

/// What a machine is made with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmConfig {
    /// The frequency that the guest's time stamp counters count at, kHz; the host's own if `None`.
    pub tsc_khz: Option<u32>,
    /// How vCPUs are arranged, which decides their APIC ids: hosts fix them when a vCPU is made.
    /// The same as that of the [`CpuidPolicy`](crate::CpuidPolicy); if `None`, each vCPU's index is
    /// its APIC id.
    pub topology: Option<Topology>,
}

/// Names a mapped region of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// One virtual machine. All methods may be called from any thread.
///
/// Order matters to hosts, not to callers: interrupt controllers are made when they are first
/// needed (a vCPU, an interrupt, saved state), which is cheaper after memory is mapped.
pub trait Vm: Send + Sync {
    /// Makes `region` readable and writable RAM at its guest physical address. The machine keeps the
    /// region alive, so that the mapping cannot dangle.
    ///
    /// # Errors
    /// The region overlaps another, or the host refuses it.
    fn map(&self, region: Arc<Region>) -> Result<SlotId, MapError>;

    /// As [`map`](Self::map), for reading: guest writes become [`Exit::MmioWrite`].
    ///
    /// [`Exit::MmioWrite`]: crate::Exit::MmioWrite
    ///
    /// # Errors
    /// Those of `map`.
    fn map_read_only(&self, region: Arc<Region>) -> Result<SlotId, MapError>;

    /// Takes the region away from the guest and gives it back.
    ///
    /// # Errors
    /// There is no such slot, or the host refuses.
    fn unmap(&self, slot: SlotId) -> Result<Arc<Region>, MapError>;

    /// Makes vCPU `index`, to be run on one thread at a time. RAM is best mapped before.
    ///
    /// # Errors
    /// The index is taken or too high, or the host refuses.
    fn create_vcpu(&self, index: u32) -> Result<Box<dyn Vcpu>, CreateError>;

    /// Interrupt lines.
    fn lines(&self) -> &dyn Lines;

    /// Events that the guest signals by itself.
    fn doorbells(&self) -> &dyn Doorbells;

    /// Interrupt controllers, timer and clock. No vCPU may be running.
    ///
    /// # Errors
    /// The host does not give one of them.
    fn save(&self) -> Result<VmState, StateError>;

    /// The inverse of [`save`](Self::save), before any vCPU runs.
    ///
    /// # Errors
    /// The state is malformed, or the host refuses it.
    fn restore(&self, state: &VmState) -> Result<(), StateError>;

    /// Tracking of the pages that the guest writes, if the host can.
    fn dirty_log(&self) -> Option<&dyn DirtyLog> {
        None
    }

    /// Message-signalled interrupts, if the host can.
    fn msi(&self) -> Option<&dyn Msi> {
        None
    }
}

/// Interrupt lines: 0 to 23 are the IOAPIC's, those beyond carry [messages](Msi).
///
/// A line is driven by events or by levels, not by both.
pub trait Lines {
    /// An event whose every signal is one edge on interrupt line `gsi`.
    ///
    /// # Errors
    /// There is no such line, or the host refuses another event.
    fn irqfd(&self, gsi: u32) -> Result<EventFd, WireError>;

    /// Asserts line `gsi`, one of the IOAPIC's, until it is taken back by `false`. Lines are low at
    /// first. While a level-triggered input is asserted, its interrupt comes again after each end of
    /// interrupt. Polarity is nobody's concern: an asserted line is what the guest calls active.
    ///
    /// What is asserted is not part of [`Vm::save`]: whoever holds a line asserts it again after
    /// machine and vCPUs are restored.
    ///
    /// # Errors
    /// The line is not the IOAPIC's, or the host refuses.
    fn level(&self, gsi: u32, asserted: bool) -> Result<(), WireError>;
}

/// Events that the guest signals by writing to a place, without an exit to user space.
pub trait Doorbells {
    /// Has the guest signal `event` by writing to `at`: `value` as four bytes (two, for a port), or
    /// anything of any width. The host keeps what it needs of the event.
    ///
    /// # Errors
    /// The place is taken, or the host refuses another event.
    fn listen(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError>;

    /// The inverse of [`listen`](Self::listen) for the same three: writes are exits again, and the
    /// host keeps nothing. While vCPUs run, a write may still signal `event` until this returns.
    ///
    /// # Errors
    /// There is no such event at that place, or the host refuses.
    fn unlisten(&self, at: IoAddr, value: Option<u32>, event: &EventFd) -> Result<(), WireError>;
}

/// Tracking of the pages that the guest writes.
pub trait DirtyLog {
    /// Starts to track `slot`, from all clean.
    ///
    /// # Errors
    /// There is no such slot, or the host refuses.
    fn start(&self, slot: SlotId) -> Result<(), LogError>;

    /// The pages of `slot` written since the last call, one bit per 4 KiB page, and starts a new
    /// round.
    ///
    /// # Errors
    /// The slot is not tracked, or the host refuses.
    fn take(&self, slot: SlotId) -> Result<Vec<u64>, LogError>;

    /// Stops to track `slot`.
    ///
    /// # Errors
    /// There is no such slot, or the host refuses.
    fn stop(&self, slot: SlotId) -> Result<(), LogError>;
}

/// What a device writes to raise a message-signalled interrupt (PCI 3.0 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where the message goes; on a PC within the local APICs' page.
    pub address: u64,
    /// Vector and delivery mode.
    pub data: u32,
}

/// Message-signalled interrupts.
pub trait Msi {
    /// Makes `gsi` (beyond the IOAPIC's lines) deliver `message`; [`Lines::irqfd`] then gives its
    /// event. A later call replaces the message, `None` removes it.
    ///
    /// # Errors
    /// `gsi` is one of the IOAPIC's, or the host refuses.
    fn route(&self, gsi: u32, message: Option<MsiMessage>) -> Result<(), WireError>;

    /// Delivers `message` once.
    ///
    /// # Errors
    /// The host refuses it.
    fn send(&self, message: MsiMessage) -> Result<(), WireError>;
}

/// Why the host makes no machine or vCPU.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The device node is not there.
    #[error(
        "{path} does not exist; load the module kvm_intel or kvm_amd, \
         and enable virtualization in the firmware or, in a cloud, nested virtualization"
    )]
    Absent {
        /// The device node.
        path: String,
    },
    /// The device node cannot be opened by this user.
    #[error(
        "no permission to open {path}; join the group that owns it (usually `kvm`) or run as root"
    )]
    Permission {
        /// The device node.
        path: String,
    },
    /// The device node is there but does not open.
    #[error("{path} cannot be opened")]
    Open {
        /// The device node.
        path: String,
        /// What the host said.
        source: io::Error,
    },
    /// The kernel speaks another KVM.
    #[error("KVM speaks API version {found}; version {expected} is needed")]
    ApiVersion {
        /// What the host speaks.
        found: i32,
        /// What is needed.
        expected: i32,
    },
    /// A capability is missing.
    #[error("this host's KVM lacks {name}, which {purpose}")]
    Capability {
        /// As in `linux/kvm.h`.
        name: &'static str,
        /// What it is needed for.
        purpose: &'static str,
    },
    /// The vCPU index cannot be used.
    #[error("vCPU {index} cannot be created; this host allows vCPU ids 0 to {last}")]
    VcpuIndex {
        /// What was asked for.
        index: u32,
        /// The last that the host allows.
        last: u32,
    },
    /// The vCPU is there already.
    #[error("vCPU {index} is created already; each index makes one vCPU")]
    VcpuTaken {
        /// What was asked for.
        index: u32,
    },
    /// The host refused a step.
    #[error("the host refuses to {step}")]
    Host {
        /// Which step.
        step: &'static str,
        /// What the host said.
        source: io::Error,
    },
}

/// Why a region is not mapped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// It shares addresses with a mapped one.
    #[error(
        "RAM of {len:#x} bytes at {start:#x} overlaps RAM of {other_len:#x} bytes at {other:#x}"
    )]
    Overlap {
        /// Start of the new region.
        start: u64,
        /// Length of the new region, bytes.
        len: u64,
        /// Start of the mapped region.
        other: u64,
        /// Length of the mapped region, bytes.
        other_len: u64,
    },
    /// There are no more slots.
    #[error("no memory slot is left; this host has {limit}")]
    NoSlot {
        /// How many the host has.
        limit: u32,
    },
    /// Nothing is mapped there.
    #[error("memory slot {0} holds nothing")]
    Unknown(u32),
    /// The host refused.
    #[error("the host refuses RAM of {len:#x} bytes at {start:#x}")]
    Host {
        /// Start of the region.
        start: u64,
        /// Length of the region, bytes.
        len: u64,
        /// What the host said.
        source: io::Error,
    },
}

impl MapError {
    /// The conflict of `region` with the first of `mapped` that it shares addresses with.
    pub(crate) fn overlap<'a>(
        region: &Region,
        mut mapped: impl Iterator<Item = &'a Arc<Region>>,
    ) -> Option<Self> {
        let place = |region: &Region| (region.start_addr().0, region.len());
        let (start, len) = place(region);
        let (other, other_len) =
            mapped.by_ref().map(|mapped| place(mapped)).find(|(other, other_len)| {
                start < other.saturating_add(*other_len) && *other < start.saturating_add(len)
            })?;
        Some(Self::Overlap { start, len, other, other_len })
    }
}

/// Why an event cannot be wired to the guest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// No such interrupt line for this purpose.
    #[error("interrupt line {gsi} cannot be used here; {right}")]
    Gsi {
        /// The line.
        gsi: u32,
        /// Which lines can.
        right: &'static str,
    },
    /// The machine could not be completed.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The host refused.
    #[error("the host refuses {what}")]
    Host {
        /// What was asked for, with its place.
        what: String,
        /// What the host said.
        source: io::Error,
    },
}

/// Why written pages are not tracked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// Nothing is mapped there.
    #[error("memory slot {0} holds nothing")]
    Unknown(u32),
    /// The slot is not tracked.
    #[error("memory slot {0} is not tracked; start tracking first")]
    NotStarted(u32),
    /// The host refused.
    #[error("the host refuses to track memory slot {slot}")]
    Host {
        /// The slot.
        slot: u32,
        /// What the host said.
        source: io::Error,
    },
}
