//! The vCPU level: `KVM_RUN` and its returns.

use std::{io, sync::Arc};

use arch::{CpuStart, CpuidPolicy};
use kvm_bindings::{KVM_EXIT_INTR, KVM_EXIT_MEMORY_FAULT};
use kvm_ioctls::{Cap, VcpuFd};
use memory::loss;

use super::{exit, failed, fault, kick::Kick, machine::Machine, page::RunPage, sys};
use crate::{CreateError, Debugger, Exit, Kicker, RunError, StateError, Vcpu, VcpuState};

/// One vCPU.
///
/// The file descriptor is dropped before the machine, whose memory KVM may use until then.
#[derive(Debug)]
pub(super) struct KvmVcpu {
    pub(super) fd: VcpuFd,
    page: RunPage,
    kick: Kick,
    /// A kick was taken and `Interrupted` is still owed for it.
    kicked: bool,
    /// The last exit was an access, which the next `KVM_RUN` completes.
    accessing: bool,
    pub(super) index: u32,
    pub(super) machine: Arc<Machine>,
}

/// Why `KVM_RUN` is over.
enum Entered {
    /// By a kick: nothing is half done.
    Interrupted,
    /// By an exit, which the run page describes.
    Exited,
}

impl KvmVcpu {
    pub(super) fn new(machine: Arc<Machine>, index: u32) -> Result<Self, CreateError> {
        let fd = machine.fd.create_vcpu(machine.id(index).into());
        let fd = fd.map_err(|error| match error.errno() {
            libc::EEXIST => CreateError::VcpuTaken { index },
            _ => failed("create a vCPU")(error),
        })?;
        let page = RunPage::map(&fd, machine.fd.run_size())
            .map_err(|source| CreateError::Host { step: "map a vCPU's run page", source })?;
        if let Some(khz) = machine.config.tsc_khz {
            fd.set_tsc_khz(khz).map_err(failed("set the time stamp counter's frequency"))?;
        }
        Ok(Self {
            fd,
            page,
            kick: Kick::default(),
            kicked: false,
            accessing: false,
            index,
            machine,
        })
    }

    /// Fails while registers are not what they will be: KVM changes them when it completes an access.
    fn complete(&self) -> Result<(), StateError> {
        if self.accessing { Err(StateError::Incomplete { index: self.index }) } else { Ok(()) }
    }

    /// Enters the guest until there is something to say.
    fn enter(&mut self) -> io::Result<Entered> {
        loop {
            // A kick that comes after this look finds the thread in `KVM_RUN`, or its signal
            // pending there. `KVM_RUN` is entered all the same: it completes the last exit first.
            self.kicked |= self.kick.take();
            exit::set_immediate_exit(self.page.bytes_mut(), self.kicked);
            let losses = loss::count();
            let error = match sys::run(&self.fd) {
                Ok(()) if exit::reason(self.page.bytes()) == KVM_EXIT_INTR => continue,
                Ok(()) => return Ok(Entered::Exited),
                Err(error) => error,
            };
            match error.raw_os_error() {
                Some(libc::EINTR) => {
                    self.kick.drain()?;
                    self.kicked |= self.kick.take();
                    if std::mem::take(&mut self.kicked) {
                        return Ok(Entered::Interrupted);
                    }
                    // Another signal of the process; its handler has run.
                }
                // A processor that waits for its start-up interrupt got one.
                Some(libc::EAGAIN) => {}
                // Memory was lost, and is replaced: by us, or by another thread meanwhile.
                Some(libc::EFAULT) if self.mend() || loss::count() != losses => {}
                // The one exit that comes with an error.
                Some(libc::EFAULT | libc::EHWPOISON)
                    if exit::reason(self.page.bytes()) == KVM_EXIT_MEMORY_FAULT =>
                {
                    return Ok(Entered::Exited);
                }
                _ => return Err(error),
            }
        }
    }

    /// Whether the memory that the guest could not use can be used now. Only newer hosts say which it
    /// was.
    fn mend(&self) -> bool {
        let exit = self.page.bytes();
        if exit::reason(exit) != KVM_EXIT_MEMORY_FAULT {
            return loss::mend_all();
        }
        let found = self.machine.slots.find(exit::fault_address(exit));
        found.is_some_and(|(region, offset)| loss::mend(&region, offset))
    }
}

impl Vcpu for KvmVcpu {
    fn run(&mut self) -> Result<Exit<'_>, RunError> {
        let index = self.index;
        let failed = |source| RunError::Host { index, source };
        if !self.kick.bind(&self.fd).map_err(failed)? {
            return Err(RunError::Thread { index });
        }
        let entered = self.enter().map_err(failed)?;
        self.accessing = false;
        if let Entered::Interrupted = entered {
            return Ok(Exit::Interrupted);
        }
        match exit::decode(self.page.bytes_mut()) {
            Ok(exit) => {
                self.accessing = exit.is_access();
                Ok(exit)
            }
            Err(reason) => Ok(fault::exit(&self.fd, &self.machine, reason)),
        }
    }

    fn start(&mut self, how: &CpuStart, cpuid: &CpuidPolicy) -> Result<(), StateError> {
        self.complete()?;
        super::start::start(self, how, cpuid)
    }

    fn save(&mut self) -> Result<VcpuState, StateError> {
        self.complete()?;
        super::state::save(self)
    }

    fn restore(&mut self, state: &VcpuState) -> Result<(), StateError> {
        self.complete()?;
        super::state::restore(self, state)
    }

    fn kicker(&self) -> Kicker {
        self.kick.kicker()
    }

    fn debugger(&mut self) -> Option<&mut dyn Debugger> {
        self.machine.fd.check_extension(Cap::SetGuestDebug).then_some(self)
    }
}
