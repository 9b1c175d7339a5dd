//! The benchmarks, one file each.

mod blk;
mod card;
mod exit;
mod first_byte;
mod footprint;
mod instructions;
mod linux_init;
mod mock;
mod net;
mod pinned;
mod purlin;
mod ring;

use std::fs::File;

use clap::ValueEnum;

use crate::{error::Result, options::Options, report::Case};

/// Subjects that more than one benchmark has.
const PURLIN: &str = "purlin";
const FLOOR: &str = "floor";
const PURLIN_TO_FLOOR: &str = "purlin / floor";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// The cost of an exit through run loop, bus and device.
    Exit,
    /// The same without a hypervisor: our own code alone.
    Mock,
    /// Reads of a block device by io_uring, beside a bare io_uring loop.
    Blk,
    /// Packets through a tap, beside a bare loop of reads and writes.
    Net,
    /// Instructions and allocations of a request, without a machine.
    Instructions,
    /// From exec to the first byte of the smallest guest.
    FirstByte,
    /// Memory beyond guest RAM, threads, size of the binary.
    Footprint,
    /// From exec to the init of a Linux guest.
    LinuxInit,
}

impl Name {
    /// Every benchmark, in the order they run.
    pub(crate) const ALL: [Self; 8] = [
        Self::Exit,
        Self::Mock,
        Self::Blk,
        Self::Net,
        Self::Instructions,
        Self::FirstByte,
        Self::Footprint,
        Self::LinuxInit,
    ];

    /// As the command line has it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Mock => "mock",
            Self::Blk => "blk",
            Self::Net => "net",
            Self::Instructions => "instructions",
            Self::FirstByte => "first-byte",
            Self::Footprint => "footprint",
            Self::LinuxInit => "linux-init",
        }
    }

    /// Measures.
    pub(crate) fn run(self, options: &Options) -> Result<Vec<Case>> {
        if !matches!(self, Self::Mock | Self::Blk | Self::Net | Self::Instructions) {
            // The one reason that most machines have, in one sentence rather than in each one's own.
            File::options().read(true).write(true).open("/dev/kvm").map_err(|error| {
                format!("/dev/kvm cannot be opened, and this needs a KVM: {error}")
            })?;
        }
        match self {
            Self::Exit => exit::run(options),
            Self::Mock => mock::run(options),
            Self::Blk => blk::run(options),
            Self::Net => net::run(options),
            Self::Instructions => instructions::run(),
            Self::FirstByte => first_byte::run(options),
            Self::Footprint => footprint::run(options),
            Self::LinuxInit => linux_init::run(options),
        }
    }
}
