//! The device of `docs/WRITING_A_DEVICE.md` in a machine, with a guest that it wakes.

mod kick;

#[expect(dead_code, unreachable_pub, reason = "it is written as in a crate of its own")]
#[path = "../../crates/device/examples/watchdog/watchdog.rs"]
mod watchdog;

use std::{error::Error, sync::mpsc, thread, time::Duration};

use arch::{CpuImage, CpuStart, CpuidPolicy, Layout, Topology};
use board::BoardBuilder;
use hypervisor::{Hypervisor, VmConfig, kvm::Kvm};
use memory::{Backing, Bytes, GuestAddress, Ram};
use vcpu::{Stop, Vcpus};

use watchdog::Watchdog;

// anchor: guest
/// A guest in 16-bit real mode that sets the watchdog and sleeps.
const GUEST: &[&[u8]] = &[
    &[0xc7, 0x06, 0x94, 0x00, 0x2b, 0x7c], // mov word [0x94],bark   vector 0x25: line 5
    &[0xc7, 0x06, 0x96, 0x00, 0x00, 0x00], // mov word [0x96],0
    &[0xb0, 0x11, 0xe6, 0x20],             // mov al,0x11; out 0x20,al   set up the
    &[0xb0, 0x20, 0xe6, 0x21],             // mov al,0x20; out 0x21,al   interrupt
    &[0xb0, 0x04, 0xe6, 0x21],             // mov al,4;    out 0x21,al   controller
    &[0xb0, 0x01, 0xe6, 0x21],             // mov al,1;    out 0x21,al
    &[0xb0, 0xdf, 0xe6, 0x21],             // mov al,0xdf; out 0x21,al   line 5 only
    &[0xba, 0x10, 0x05],                   // mov dx,0x510
    &[0xb8, 0x14, 0x00],                   // mov ax,20
    &[0xef],                               // out dx,ax   bark in 20 ms
    &[0xfb],                               // sti
    &[0xf4],                               // sleep: hlt
    &[0xeb, 0xfd],                         // jmp sleep
    &[0xba, 0x12, 0x05],                   // bark: mov dx,0x512
    &[0xec],                               // in al,dx    the status: 1
    &[0xe6, 0xf4],                         // out 0xf4,al   ends the run with 2 * al + 1
];
// end: guest

// anchor: machine
fn run() -> Result<Stop, Box<dyn Error>> {
    let layout = Layout::for_ram(64 << 10)?;
    let ram = Ram::new(&layout.ram, Backing::Anonymous)?;
    let vm = Kvm::open()?.create_vm(&VmConfig::default())?;
    for region in ram.regions() {
        vm.map(region)?;
    }
    ram.memory().write_slice(&GUEST.concat(), GuestAddress(0x7c00))?;

    let mut board = BoardBuilder::new(vm.clone(), ram.memory(), &layout)?;
    board.attach("watchdog", Watchdog::new(0x510, 5))?;
    board.attach("exit", legacy::DebugExit::new())?;
    let mut board = board.freeze()?;

    let mut cpu = vm.create_vcpu(0)?;
    let first = CpuStart::for_index(0, &CpuImage::real_mode(0, 0x7c00, 0x7c00));
    cpu.start(&first, &CpuidPolicy::host(Topology::new(1, 1, 1)?))?;
    let cpus = Vcpus::spawn(vec![cpu], board.buses.clone())?;
    cpus.resume();
    within(Duration::from_secs(10), &cpus, || board.serve(cpus.stop_event()))?;
    Ok(cpus.join()?)
}
// end: machine

/// Does `work`, and stops the machine if it takes longer than `limit`.
fn within<T>(limit: Duration, cpus: &Vcpus, work: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let (done, wait) = mpsc::channel::<()>();
        scope.spawn(move || {
            if wait.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
                cpus.request_stop();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

// anchor: test
#[test]
fn a_sleeping_guest_is_woken_by_the_watchdog() {
    if harness::has_kvm("a_sleeping_guest_is_woken_by_the_watchdog") {
        assert_eq!(run().unwrap(), Stop::Exit(3));
    }
}
// end: test
