//! A hypervisor without a host: its vCPUs play exits from a list, its machines count what they are
//! asked for. For tests and benchmarks, on any machine.

mod machine;
mod played;
mod script;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

pub use machine::Machine;
pub use played::Played;
pub use script::{Answers, Script};

use crate::{CreateError, Hypervisor, Vm, VmConfig};

/// A host whose vCPUs play scripts.
#[derive(Debug, Default)]
pub struct Host {
    scripts: Arc<Mutex<BTreeMap<u32, Script>>>,
}

impl Host {
    /// A host that plays the n-th of `scripts` as vCPU n, once. Other vCPUs wait for
    /// kicks, as processors do that nobody starts.
    pub fn new(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self { scripts: Arc::new(Mutex::new((0..).zip(scripts).collect())) }
    }

    /// As [`create_vm`](Hypervisor::create_vm), with what only a mock can tell.
    pub fn machine(&self) -> Arc<Machine> {
        Arc::new(Machine::new(Arc::clone(&self.scripts)))
    }
}

impl Hypervisor for Host {
    fn create_vm(&self, _config: &VmConfig) -> Result<Arc<dyn Vm>, CreateError> {
        Ok(self.machine())
    }

    fn address_bits(&self) -> Result<u32, CreateError> {
        Ok(46)
    }
}
