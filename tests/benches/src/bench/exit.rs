//! What an exit costs through run loop, bus and device, in proportion to a loop that does nothing but
//! `KVM_RUN` and a look at the run page. Both run the same guest on the same thread.

use std::{hint::black_box, sync::Arc, time::Instant};

use arch::{CpuImage, CpuStart, CpuidPolicy, Topology};
use floor::{
    Machine, Seen,
    guest::{LOOP_ENTRY, LOOP_RAM, Loop},
};
use hypervisor::{Hypervisor, Vcpu, Vm, VmConfig, kvm::Kvm};
use memory::{Backing, Bytes, GuestAddress, Ram};
use vcpu::{Step, step};

use super::{FLOOR, PURLIN, PURLIN_TO_FLOOR, pinned::pinned, purlin::Wired};
use crate::{error::Result, options::Options, report::Case, rounds::interleave};

/// Exits of one sample: few, so that both sides see the same state of the machine.
const BATCH: u32 = 100;
/// Samples for each that the user asked for: they are short.
const MORE: usize = 10;
const LIMIT: f64 = 1.05;

pub(super) fn run(options: &Options) -> Result<Vec<Case>> {
    let rounds = options.samples() * MORE;
    pinned(|| Loop::ALL.iter().map(|(name, which)| case(name, *which, rounds)).collect())
}

fn case(name: &str, which: Loop, rounds: usize) -> Result<Case> {
    let mut ours = Ours::new(which)?;
    let mut floor = Machine::new(LOOP_RAM)?;
    floor.enter_loop(which)?;
    let samples = interleave(rounds, 2, &mut |subject| {
        let begin = Instant::now();
        if subject == 0 { ours.batch() } else { batch(&mut floor, which) }?;
        Ok(begin.elapsed().as_secs_f64() * 1e9 / f64::from(BATCH))
    })?;
    ours.check(rounds + 1)?;
    let [purlin, floor] = samples.as_slice() else { return Err("not two subjects".into()) };
    Ok(Case::new(name, "ns an exit").row(PURLIN, purlin).row(FLOOR, floor).ratio(
        PURLIN_TO_FLOOR,
        purlin,
        floor,
        LIMIT,
    ))
}

/// The raw loop. What it saw is compared once a batch, as [`Ours::check`] does once.
fn batch(machine: &mut Machine, which: Loop) -> Result<()> {
    let mut last = Seen::Read;
    for _ in 0..BATCH {
        last = black_box(machine.step()?);
    }
    let right = match which {
        Loop::PortOut => matches!(last, Seen::Out(floor::guest::PORT, _)),
        Loop::PortIn | Loop::MmioRead => last == Seen::Read,
        Loop::MmioWrite => matches!(last, Seen::Write(_)),
    };
    if right { Ok(()) } else { Err(format!("the raw loop saw {last:?} from {which:?}").into()) }
}

/// A machine made of Purlin's crates.
struct Ours {
    vcpu: Box<dyn Vcpu>,
    wired: Wired,
    _vm: Arc<dyn Vm>,
}

impl Ours {
    fn new(which: Loop) -> Result<Self> {
        let ram = Ram::new(&[(GuestAddress(0), LOOP_RAM)], Backing::Anonymous)?;
        ram.memory().write_slice(&which.code(), GuestAddress(LOOP_ENTRY.into()))?;
        let vm = Kvm::open()?.create_vm(&VmConfig::default())?;
        for region in ram.regions() {
            vm.map(region)?;
        }
        let mut vcpu = vm.create_vcpu(0)?;
        let image = CpuImage::real_mode(0, LOOP_ENTRY, 0);
        let policy = CpuidPolicy::host(Topology::new(1, 1, 1)?);
        vcpu.start(&CpuStart::Entry(Box::new(image)), &policy)?;
        Ok(Self { vcpu, wired: Wired::new()?, _vm: vm })
    }

    fn batch(&mut self) -> Result<()> {
        for _ in 0..BATCH {
            match step(self.vcpu.as_mut(), &self.wired.buses)? {
                Step::Continue => {}
                other => return Err(format!("the guest did not go on: {other:?}").into()),
            }
        }
        Ok(())
    }

    /// Whether every exit reached the device.
    fn check(&self, batches: usize) -> Result<()> {
        let (exits, uses) = (batches as u64 * u64::from(BATCH), self.wired.uses());
        if exits == uses {
            return Ok(());
        }
        Err(format!("of {exits} exits {uses} reached the device").into())
    }
}
