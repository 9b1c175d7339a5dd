//! Giving the pages of a request back to the host.

use std::io::Read;

use memory::{DiscardError, GuestAddress, GuestMemory, GuestMemoryBackend, discard};
use virtio::{Chain, Reader};

/// Pages are 4 KiB, whatever the guest's are (virtio 1.3 §5.5.6).
pub(crate) const PAGE: u64 = 4096;
/// How many page numbers are read at once: what Linux puts in a request.
const BATCH: usize = 256;
/// How many page numbers of one request are looked at. Other drivers send up to 1024; more would keep
/// the I/O thread from other devices.
const MOST: usize = 4096;

/// What was done, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// How many bytes went back to the host.
    pub(crate) given: u64,
    /// The first thing that went wrong on the host's side.
    pub(crate) error: Option<DiscardError>,
}

impl Outcome {
    fn add(&mut self, memory: &GuestMemory, start: u64, len: u64) {
        match discard(memory, GuestAddress(start), len) {
            Ok(given) => self.given = self.given.saturating_add(given),
            // The guest names what it likes.
            Err(DiscardError::OutsideRam { .. }) => {}
            Err(error) => self.error = Some(self.error.take().unwrap_or(error)),
        }
    }
}

/// Gives back the pages whose numbers the chain holds, 32 bits each. Numbers of what is not RAM are
/// passed over.
pub(crate) fn by_number(chain: &mut Chain<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let memory = chain.memory();
    let mut numbers = [0; BATCH];
    for _ in 0..MOST / BATCH {
        let count = read(&mut chain.reader, &mut numbers);
        let Some(numbers) = numbers.get_mut(..count).filter(|numbers| !numbers.is_empty()) else {
            break;
        };
        // Linux counts down, and one call for neighbours is cheaper than one for each.
        numbers.sort_unstable();
        for (start, len) in runs(numbers, memory) {
            outcome.add(memory, start, len);
        }
    }
    outcome
}

/// Linux reports 32 places at a time; more in one chain are not given back.
const MOST_PLACES: usize = 32;

/// Gives back the pages that the writable buffers of the chain are.
pub(crate) fn by_place(chain: &Chain<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    for (start, len) in chain.writer.places().take(MOST_PLACES) {
        outcome.add(chain.memory(), start.0, len.into());
    }
    outcome
}

/// Reads whole numbers, as many as there are and fit: how many.
fn read(reader: &mut Reader<'_>, numbers: &mut [u32; BATCH]) -> usize {
    let mut bytes = [0; 4 * BATCH];
    let len = bytes.len().min(reader.available_bytes());
    let Some(bytes) = bytes.get_mut(..len) else { return 0 };
    if reader.read_exact(bytes).is_err() {
        return 0;
    }
    let (whole, _) = bytes.as_chunks::<4>();
    let read = numbers.iter_mut().zip(whole);
    read.map(|(number, bytes)| *number = u32::from_le_bytes(*bytes)).count()
}

/// Address and length, in bytes, of each run of neighbours in `numbers`, which are sorted and may be
/// there twice. What is not RAM is in none.
fn runs<'a>(numbers: &'a [u32], memory: &'a GuestMemory) -> impl Iterator<Item = (u64, u64)> + 'a {
    let is_ram = |number: u32| {
        let page = GuestAddress(u64::from(number) * PAGE);
        usize::try_from(PAGE).is_ok_and(|len| memory.check_range(page, len))
    };
    let mut numbers = numbers.iter().copied().filter(move |number| is_ram(*number)).peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) =
            numbers.next_if(|next| *next == last || next.checked_sub(1) == Some(last))
        {
            last = next;
        }
        Some((u64::from(first) * PAGE, u64::from(last - first + 1) * PAGE))
    })
}

#[cfg(test)]
mod tests {
    use device::{FakeWiring, Wiring};

    use super::*;

    /// The runs in `numbers`, in pages; RAM is the first 256.
    fn found(numbers: &[u32]) -> Vec<(u64, u64)> {
        let memory = FakeWiring::new().unwrap().memory();
        runs(numbers, &memory).map(|(start, len)| (start / PAGE, len / PAGE)).collect()
    }

    #[test]
    fn neighbours_are_one_run() {
        assert_eq!(found(&[1, 2, 3, 7, 9, 10]), [(1, 3), (7, 1), (9, 2)]);
    }

    #[test]
    fn the_same_page_again_is_one_page() {
        assert_eq!(found(&[4, 4, 4, 5, 5]), [(4, 2)]);
    }

    #[test]
    fn what_is_no_ram_neither_counts_nor_hides_what_is() {
        assert_eq!(found(&[254, 255, 256, 257, u32::MAX - 1, u32::MAX]), [(254, 2)]);
        assert_eq!(found(&[]), []);
    }
}
