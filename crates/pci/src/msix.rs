//! MSI-X: the table, the pending bits, and what masks them (PCI 3.0 §6.8.2).

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use device::{AccessError, IrqLine};
use serde::{Deserialize, Serialize};

use crate::{Message, MsiVector, lock, tally::Tally};

/// Bytes of the table for one vector.
pub(crate) const ENTRY: u64 = 16;
/// Bit of the vector control word.
const VECTOR_MASK: u32 = 1;

/// The MSI-X vectors of one function.
///
/// A vector that is raised while it or the function is masked becomes pending, and is delivered once
/// when both are unmasked. What is raised while MSI-X is switched off is lost.
pub struct Msix {
    state: Mutex<State>,
    refused: Tally,
}

struct State {
    enabled: bool,
    masked: bool,
    vectors: Vec<Vector>,
}

struct Vector {
    /// As in the table: address (low, high), data, control.
    entry: [u32; 4],
    pending: bool,
    /// What the source delivers, as far as we know.
    programmed: Option<Message>,
    /// How often it was raised since the source refused its message.
    missed: u64,
    source: Arc<dyn MsiVector>,
}

/// The saved form of [`Msix`]; whether it is enabled is in the configuration space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMsix {
    /// The table: address (low, high), data, control.
    pub table: Vec<[u32; 4]>,
    /// The numbers of the pending vectors, ascending.
    pub pending: Vec<u16>,
}

impl Msix {
    /// One vector for each source: masked, as after reset.
    pub fn new(sources: Vec<Arc<dyn MsiVector>>) -> Self {
        let vector = |source| Vector {
            entry: [0, 0, 0, VECTOR_MASK],
            pending: false,
            programmed: None,
            missed: 0,
            source,
        };
        let vectors = sources.into_iter().map(vector).collect();
        let state = State { enabled: false, masked: false, vectors };
        Self { state: Mutex::new(state), refused: Tally::default() }
    }

    /// Takes what the message control register says.
    pub fn control(&self, enabled: bool, masked: bool) {
        let mut state = lock(&self.state);
        if (state.enabled, state.masked) == (enabled, masked) {
            return;
        }
        (state.enabled, state.masked) = (enabled, masked);
        for index in 0..state.vectors.len() {
            self.settle(&mut state, index);
        }
    }

    /// Raises `vector`, as its function does.
    ///
    /// # Errors
    /// The host does not deliver it, or there is no such vector. If the host has refused the message, the
    /// vector is pending: it is delivered when the guest next writes or unmasks it and the host takes the
    /// message then. The host is also asked again, ever more rarely, while the vector is raised.
    pub fn raise(&self, vector: u16) -> io::Result<()> {
        let mut state = lock(&self.state);
        let (enabled, masked) = (state.enabled, state.masked);
        let vector = state.vectors.get_mut(usize::from(vector)).ok_or(io::ErrorKind::NotFound)?;
        if !enabled {
            return Ok(());
        }
        if masked || vector.is_masked() {
            vector.pending = true;
            return Ok(());
        }
        if vector.programmed.is_some() {
            return vector.source.raise();
        }
        // The source refused this message before, and the log says why.
        vector.pending = true;
        vector.missed = vector.missed.saturating_add(1);
        if vector.missed.is_power_of_two() {
            return vector.deliver();
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// [`raise`](Self::raise) of one vector as a line for its function to hold.
    pub fn line(self: &Arc<Self>, vector: u16) -> IrqLine {
        let msix = Arc::clone(self);
        IrqLine::from_fn(move || msix.raise(vector))
    }

    /// Reads the table: whole aligned dwords and qwords.
    ///
    /// # Errors
    /// Another width, misaligned, or beyond the last vector.
    pub fn table_read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        let state = lock(&self.state);
        for (at, part) in (offset..).step_by(4).zip(data.chunks_mut(4)) {
            let (index, word) = place(at)?;
            let vector = state.vectors.get(index).ok_or(AccessError::NoRegister)?;
            let value = vector.entry.get(word).ok_or(AccessError::NoRegister)?;
            part.copy_from_slice(&value.to_le_bytes());
        }
        Ok(())
    }

    /// Writes the table: whole aligned dwords and qwords. What was pending behind a mask that this
    /// takes away is delivered.
    ///
    /// # Errors
    /// As for [`table_read`](Self::table_read).
    pub fn table_write(&self, offset: u64, data: &[u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        let mut state = lock(&self.state);
        let (index, _) = place(offset)?;
        let vector = state.vectors.get_mut(index).ok_or(AccessError::NoRegister)?;
        for (at, part) in (offset..).step_by(4).zip(data.as_chunks::<4>().0) {
            let (_, word) = place(at)?;
            let value = u32::from_le_bytes(*part);
            let word_of_entry = vector.entry.get_mut(word).ok_or(AccessError::NoRegister)?;
            *word_of_entry = match word {
                0 => value & !0b11,
                3 => value & VECTOR_MASK,
                _ => value,
            };
        }
        self.settle(&mut state, index);
        Ok(())
    }

    /// Reads the pending bits: whole aligned dwords and qwords. They cannot be written.
    ///
    /// # Errors
    /// Another width, misaligned, or beyond the last vector's qword.
    pub fn pba_read(&self, offset: u64, data: &mut [u8]) -> Result<(), AccessError> {
        check(offset, data.len())?;
        let state = lock(&self.state);
        let first = usize::try_from(offset).map_err(|_| AccessError::NoRegister)?.saturating_mul(8);
        if first >= state.vectors.len().next_multiple_of(64) {
            return Err(AccessError::NoRegister);
        }
        for (index, byte) in data.iter_mut().enumerate() {
            let eight = state.vectors.iter().skip(first.saturating_add(index * 8)).take(8);
            let set = (0..8).zip(eight).filter(|(_, vector)| vector.pending);
            *byte = set.fold(0, |bits, (bit, _)| bits | 1 << bit);
        }
        Ok(())
    }

    /// The state as it is.
    pub fn save(&self) -> SavedMsix {
        let state = lock(&self.state);
        let table = state.vectors.iter().map(|vector| vector.entry).collect();
        let pending = (0..).zip(&state.vectors).filter(|(_, vector)| vector.pending);
        SavedMsix { table, pending: pending.map(|(index, _)| index).collect() }
    }

    /// What is wrong with `saved`, if it is not of a function with these vectors.
    ///
    /// # Errors
    /// What is wrong, and what would be right.
    pub fn check(&self, saved: &SavedMsix) -> Result<(), String> {
        let vectors = lock(&self.state).vectors.len();
        if saved.table.len() != vectors {
            return Err(format!("{} MSI-X vectors instead of {vectors}", saved.table.len()));
        }
        if let Some(index) = saved.pending.iter().find(|index| usize::from(**index) >= vectors) {
            return Err(format!("MSI-X vector {index} of {vectors} is pending"));
        }
        let reserved = |entry: &&[u32; 4]| entry[0] & 0b11 != 0 || entry[3] & !VECTOR_MASK != 0;
        match saved.table.iter().find(reserved) {
            Some(entry) => Err(format!("MSI-X table entry {entry:x?} has reserved bits set")),
            None => Ok(()),
        }
    }

    /// Takes a state that [`check`](Self::check) has found right. Nothing is delivered by it but what
    /// is pending and no longer masked.
    pub fn restore(&self, saved: &SavedMsix, enabled: bool, masked: bool) {
        let mut state = lock(&self.state);
        (state.enabled, state.masked) = (enabled, masked);
        for ((index, vector), entry) in (0..).zip(&mut state.vectors).zip(&saved.table) {
            vector.entry = *entry;
            vector.pending = saved.pending.contains(&index);
        }
        for index in 0..state.vectors.len() {
            self.settle(&mut state, index);
        }
    }

    /// Brings the source of vector `index` in line with the table, and delivers what was pending.
    fn settle(&self, state: &mut State, index: usize) {
        let (enabled, masked) = (state.enabled, state.masked);
        let Some(vector) = state.vectors.get_mut(index) else { return };
        if !enabled {
            vector.pending = false;
            return;
        }
        if masked || vector.is_masked() {
            return;
        }
        if let Err(error) = vector.deliver()
            && let Some(count) = self.refused.add()
        {
            log::warn!("MSI-X vector {index}: {error} (message {count} that the host refuses)");
        }
    }
}

impl Vector {
    fn is_masked(&self) -> bool {
        self.entry[3] & VECTOR_MASK != 0
    }

    fn message(&self) -> Message {
        let [low, high, data, _] = self.entry;
        Message { address: u64::from(high) << 32 | u64::from(low), data }
    }

    /// For an unmasked vector: programs its source if the message is another, and raises it if it was
    /// pending.
    fn deliver(&mut self) -> io::Result<()> {
        let message = self.message();
        if self.programmed != Some(message) {
            self.programmed = None;
            self.source.program(message)?;
            self.programmed = Some(message);
            self.missed = 0;
        }
        if std::mem::take(&mut self.pending) {
            self.source.raise()?;
        }
        Ok(())
    }
}

impl fmt::Debug for Msix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.state);
        f.debug_struct("Msix")
            .field("enabled", &state.enabled)
            .field("masked", &state.masked)
            .field("vectors", &state.vectors.len())
            .finish_non_exhaustive()
    }
}

/// Only whole aligned dwords and qwords may be accessed.
fn check(offset: u64, len: usize) -> Result<(), AccessError> {
    let width = match len {
        4 => 4,
        8 => 8,
        _ => return Err(AccessError::Width),
    };
    if offset.is_multiple_of(width) { Ok(()) } else { Err(AccessError::Misaligned) }
}

/// The vector and the word of its entry at `offset` in the table.
fn place(offset: u64) -> Result<(usize, usize), AccessError> {
    let index = usize::try_from(offset / ENTRY).map_err(|_| AccessError::NoRegister)?;
    let word = usize::try_from(offset % ENTRY / 4).map_err(|_| AccessError::NoRegister)?;
    Ok((index, word))
}

#[cfg(test)]
mod tests;
