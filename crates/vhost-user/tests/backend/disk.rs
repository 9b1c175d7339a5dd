//! A ring of a back end, and the disk behind it.

use std::{fs::File, io::Write, os::unix::fs::FileExt, sync::atomic::Ordering::SeqCst};

use memory::{Bytes, GuestAddress, GuestMemory};
use virtio_queue::{Queue, QueueOwnedT, QueueState, QueueT};

use super::Options;

pub(super) struct Ring {
    memory: GuestMemory,
    pub(super) size: u16,
    /// Descriptors, available ring, used ring.
    pub(super) places: [u64; 3],
    pub(super) next: u16,
    pub(super) kick: Option<File>,
    pub(super) call: Option<File>,
    queue: Option<Queue>,
    /// Where it is noted what is in flight: a byte for each descriptor.
    notes: Option<(File, u64)>,
    /// Taken, but not ended.
    held: Vec<u16>,
    mute: bool,
}

impl Ring {
    pub(super) fn new(memory: GuestMemory) -> Self {
        Self {
            memory,
            size: 0,
            places: [0; 3],
            next: 0,
            kick: None,
            call: None,
            queue: None,
            notes: None,
            held: Vec::new(),
            mute: false,
        }
    }

    /// Goes on at `next`, or with what is noted.
    pub(super) fn start(&mut self, events: bool, notes: Option<(&File, u64)>) {
        self.notes = notes.map(|(file, queue)| (file.try_clone().unwrap(), queue * 1024));
        let mut noted = vec![0; usize::from(self.size)];
        if let Some((file, at)) = &self.notes {
            file.read_exact_at(&mut noted, *at).unwrap();
        }
        self.held =
            (0..).zip(&noted).filter(|(_, note)| **note == 1).map(|(head, _)| head).collect();
        let used: u16 = self.memory.read_obj(GuestAddress(self.places[2] + 2)).unwrap();
        if self.notes.is_some() {
            assert_eq!(self.next, used, "a ring is resumed at the used index");
        }
        let state = QueueState {
            max_size: self.size,
            next_avail: self.next.wrapping_add(u16::try_from(self.held.len()).unwrap()),
            next_used: used,
            event_idx_enabled: events,
            size: self.size,
            ready: true,
            desc_table: self.places[0],
            avail_ring: self.places[1],
            used_ring: self.places[2],
        };
        self.queue = Some(Queue::try_from(state).unwrap());
        for head in std::mem::take(&mut self.held) {
            self.end(head);
        }
    }

    fn note(&self, head: u16, value: u8) {
        if let Some((file, at)) = &self.notes {
            file.write_all_at(&[value], at + u64::from(head)).unwrap();
        }
    }

    /// Ends what was taken, and stops: the index that is next.
    pub(super) fn stop(&mut self, options: &Options) -> u16 {
        if !options.holds.load(SeqCst) {
            for head in std::mem::take(&mut self.held) {
                self.end(head);
            }
        }
        self.queue.as_ref().map_or(self.next, Queue::next_avail)
    }

    pub(super) fn serve(&mut self, options: &Options) {
        let memory = self.memory.clone();
        self.mute = options.mute.load(SeqCst);
        loop {
            let Some(queue) = &mut self.queue else { return };
            queue.disable_notification(&*memory).unwrap();
            let mut heads = Vec::new();
            while let Some(chain) = queue.iter(&*memory).unwrap().next() {
                heads.push(chain.head_index());
            }
            for head in heads {
                self.note(head, 1);
                options.taken.fetch_add(1, SeqCst);
                let taken = options.taken.load(SeqCst);
                let skips = options.skips.load(SeqCst) && taken % 2 == 1;
                if options.holds.load(SeqCst) || skips {
                    self.held.push(head);
                } else {
                    self.end(head);
                    options.ended.fetch_add(1, SeqCst);
                }
            }
            let Some(queue) = &mut self.queue else { return };
            if !queue.enable_notification(&*memory).unwrap() {
                return;
            }
        }
    }

    /// Reads what request `head` asks for, and gives it back.
    fn end(&mut self, head: u16) {
        let memory = self.memory.clone();
        let descriptor = |at: u16| {
            let place = GuestAddress(self.places[0] + 16 * u64::from(at));
            memory.read_obj::<[u8; 16]>(place).unwrap()
        };
        let mut parts = Vec::new();
        let mut at = head;
        loop {
            let bytes = descriptor(at);
            let addr = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
            parts.push((GuestAddress(addr), len));
            if bytes[12] & 1 == 0 {
                break;
            }
            at = u16::from_le_bytes(bytes[14..].try_into().unwrap());
        }
        assert_eq!(parts.len(), 3, "header, data, status");
        let sector: u64 = memory.read_obj(GuestAddress(parts[0].0.0 + 8)).unwrap();
        let data = vec![u8::try_from(sector).unwrap(); parts[1].1 as usize];
        memory.write_slice(&data, parts[1].0).unwrap();
        memory.write_obj(0_u8, parts[2].0).unwrap();
        let queue = self.queue.as_mut().unwrap();
        queue.add_used(&*memory, head, parts[1].1 + 1).unwrap();
        let wanted = queue.needs_notification(&*memory).unwrap();
        self.note(head, 0);
        if wanted && !self.mute {
            drop(self.call.as_ref().unwrap().write(&1_u64.to_ne_bytes()));
        }
    }
}
