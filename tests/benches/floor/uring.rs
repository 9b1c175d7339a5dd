//! Reads by a bare io_uring loop: what a block device with an io_uring engine is measured against.
#![expect(unsafe_code, reason = "the kernel is handed pointers")]

use std::{fmt, fs::File, io, os::fd::AsRawFd};

use io_uring::{IoUring, opcode, types::Fixed};
use memory::Scatter;

/// A loop that keeps a number of reads of the same size under way.
pub struct Reads {
    ring: IoUring,
    /// Where each read goes. The memory is named by one of our crates, so that both sides have the
    /// same; how its pages lie is what reads differ by most.
    places: Vec<Scatter>,
    again: Vec<usize>,
}

impl Reads {
    /// A loop that has a read of `file` under way for each of `places`.
    ///
    /// # Errors
    /// The host gives no ring.
    pub fn new(file: &File, places: Vec<Scatter>) -> io::Result<Self> {
        let ring = IoUring::new(u32::try_from(places.len()).map_err(io::Error::other)?)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Self { ring, again: Vec::with_capacity(places.len()), places })
    }

    /// Makes `count` reads from where `next` says, in bytes.
    ///
    /// # Errors
    /// A read fails or is short.
    pub fn run(&mut self, count: usize, mut next: impl FnMut() -> u64) -> io::Result<()> {
        let (mut started, mut done) = (self.places.len().min(count), 0);
        (0..started).for_each(|read| self.start(read, next()));
        while done < count {
            self.ring.submit_and_wait(1)?;
            for answer in self.ring.completion() {
                let read = usize::try_from(answer.user_data()).unwrap_or(0);
                let whole = self.places.get(read).map_or(0, Scatter::bytes);
                if usize::try_from(answer.result()) != Ok(whole) {
                    return Err(io::Error::other(format!("a read says {}", answer.result())));
                }
                self.again.push(read);
            }
            done += self.again.len();
            while let Some(read) = self.again.pop() {
                if started < count {
                    self.start(read, next());
                    started += 1;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, read: usize, offset: u64) {
        let pieces = self.places.get(read).map_or(&[][..], Scatter::pieces);
        let count = u32::try_from(pieces.len()).unwrap_or(0);
        let entry = opcode::Readv::new(Fixed(0), pieces.as_ptr(), count).offset(offset).build();
        let entry = entry.user_data(read as u64);
        // SAFETY: the pieces and the memory that they name are kept as long as the ring, and nobody
        // refers to that memory.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        assert!(pushed.is_ok(), "no more are under way than the ring has entries");
    }
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reads").field("depth", &self.places.len()).finish_non_exhaustive()
    }
}
