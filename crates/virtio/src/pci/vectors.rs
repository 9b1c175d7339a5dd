//! Interrupts of the PCI transport: the ISR status, which is the state of the interrupt pin too, and
//! the vectors that the driver chose (virtio 1.3 §4.1.4.5, §4.1.5.1.2).

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
};

use device::{Intx, IrqLine};

use crate::interrupt::{CONFIG, Interrupt, USED};

/// What stands for no vector.
pub(super) const NO_VECTOR: u16 = 0xffff;

/// The ISR status, and which MSI-X vector is for what. Outside every lock, so that a read of the
/// status never waits for a device.
#[derive(Debug)]
pub(super) struct Vectors {
    isr: Intx,
    /// How many vectors there are.
    count: u16,
    lines: OnceLock<Vec<IrqLine>>,
    config: AtomicU16,
    queues: Vec<AtomicU16>,
    complained: AtomicBool,
}

/// What a snapshot holds of [`Vectors`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) isr: u32,
    pub(super) config: u16,
    pub(super) queues: Vec<u16>,
}

impl Vectors {
    pub(super) fn new(queues: u16, count: u16) -> Self {
        let none = || AtomicU16::new(NO_VECTOR);
        Self {
            isr: Intx::new(),
            count,
            lines: OnceLock::new(),
            config: none(),
            queues: (0..queues).map(|_| none()).collect(),
            complained: AtomicBool::new(false),
        }
    }

    pub(super) fn connect(&self, lines: Vec<IrqLine>) {
        // The bus does it once.
        let _ = self.lines.set(lines);
    }

    /// The interrupt pin, which is asserted while the ISR status is not zero and MSI-X is off.
    pub(super) fn intx(&self) -> Intx {
        self.isr.clone()
    }

    /// Reads the ISR status, which clears it.
    pub(super) fn take_isr(&self) -> u32 {
        self.isr.take()
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config.load(Relaxed)
    }

    /// [`NO_VECTOR`] for a queue that is not there.
    pub(super) fn queue_vector(&self, queue: u32) -> u16 {
        self.slot(queue).map_or(NO_VECTOR, |slot| slot.load(Relaxed))
    }

    /// The driver chooses a vector for configuration changes; one that is not there becomes
    /// [`NO_VECTOR`], by which it learns.
    pub(super) fn choose_config(&self, vector: u16) {
        self.config.store(self.valid(vector), Relaxed);
    }

    /// As [`choose_config`](Self::choose_config), for a queue.
    pub(super) fn choose_queue(&self, queue: u32, vector: u16) {
        if let Some(slot) = self.slot(queue) {
            slot.store(self.valid(vector), Relaxed);
        }
    }

    fn slot(&self, queue: u32) -> Option<&AtomicU16> {
        self.queues.get(usize::try_from(queue).ok()?)
    }

    fn valid(&self, vector: u16) -> u16 {
        if vector < self.count { vector } else { NO_VECTOR }
    }

    fn raise(&self, vector: u16) {
        let lines = self.lines.get().map(Vec::as_slice).unwrap_or_default();
        let Some(line) = lines.get(usize::from(vector)) else { return };
        if let Err(error) = line.raise()
            && !self.complained.swap(true, Relaxed)
        {
            log::error!("an interrupt of a virtio device is lost: {error}");
        }
    }

    pub(super) fn save(&self) -> Chosen {
        Chosen {
            isr: self.isr.causes(),
            config: self.config_vector(),
            queues: self.queues.iter().map(|slot| slot.load(Relaxed)).collect(),
        }
    }

    /// What is wrong with `chosen`, if no driver of this device can have chosen it.
    pub(super) fn check(&self, chosen: &Chosen) -> Result<(), String> {
        if chosen.isr & !(USED | CONFIG) != 0 {
            return Err(format!("ISR status {:#x}; it has bits 0 and 1", chosen.isr));
        }
        if chosen.queues.len() != self.queues.len() {
            let (found, own) = (chosen.queues.len(), self.queues.len());
            return Err(format!("vectors for {found} queues; the device has {own}"));
        }
        let all = [chosen.config].into_iter().chain(chosen.queues.iter().copied());
        match all.into_iter().find(|vector| self.valid(*vector) != *vector) {
            Some(vector) => Err(format!("vector {vector}; the device has {}", self.count)),
            None => Ok(()),
        }
    }

    /// Takes what [`check`](Self::check) has found right. What was pending is raised again: whether
    /// the message had arrived before is not known, and one too many does no harm.
    pub(super) fn restore(&self, chosen: &Chosen) {
        self.isr.restore(chosen.isr);
        self.config.store(chosen.config, Relaxed);
        for (slot, vector) in self.queues.iter().zip(&chosen.queues) {
            slot.store(*vector, Relaxed);
        }
        if chosen.isr & CONFIG != 0 {
            self.raise(chosen.config);
        }
        if chosen.isr & USED != 0 {
            chosen.queues.iter().for_each(|vector| self.raise(*vector));
        }
    }
}

impl Interrupt for Vectors {
    fn used(&self, queue: u16) {
        self.isr.raise(USED);
        self.raise(self.queue_vector(queue.into()));
    }

    fn config(&self) {
        self.isr.raise(CONFIG);
        self.raise(self.config_vector());
    }

    fn clear(&self) {
        self.isr.take();
        self.config.store(NO_VECTOR, Relaxed);
        self.queues.iter().for_each(|slot| slot.store(NO_VECTOR, Relaxed));
    }
}
