//! Accesses to RAM that lie in one region, as nearly all do, by the short way; the others by the long
//! one. What each does is what the method of that name in [`Bytes`] does: bounds-checked, volatile, and
//! marked.

use std::sync::atomic::Ordering;

use vm_memory::{
    AtomicAccess, ByteValued, Bytes, GuestAddress, GuestMemoryBackend, guest_memory::Error,
};

use crate::GuestMemory;

/// Fills `buf` from `addr` on.
///
/// # Errors
/// Not all of it lies in RAM.
pub fn read(memory: &GuestMemory, addr: GuestAddress, buf: &mut [u8]) -> Result<(), Error> {
    match memory.get_slice(addr, buf.len()) {
        Ok(slice) => {
            slice.copy_to(buf);
            Ok(())
        }
        Err(_) => memory.read_slice(buf, addr),
    }
}

/// Writes `buf` from `addr` on.
///
/// # Errors
/// Not all of it lies in RAM; some may be written.
pub fn write(memory: &GuestMemory, addr: GuestAddress, buf: &[u8]) -> Result<(), Error> {
    match memory.get_slice(addr, buf.len()) {
        Ok(slice) => {
            slice.copy_from(buf);
            Ok(())
        }
        Err(_) => memory.write_slice(buf, addr),
    }
}

/// Reads an object of a fixed layout.
///
/// # Errors
/// Not all of it lies in RAM.
pub fn read_obj<T: ByteValued>(memory: &GuestMemory, addr: GuestAddress) -> Result<T, Error> {
    let mut object = T::zeroed();
    read(memory, addr, object.as_mut_slice())?;
    Ok(object)
}

/// Writes an object of a fixed layout.
///
/// # Errors
/// Not all of it lies in RAM; some may be written.
pub fn write_obj<T: ByteValued>(
    memory: &GuestMemory,
    addr: GuestAddress,
    object: T,
) -> Result<(), Error> {
    write(memory, addr, object.as_slice())
}

/// Loads a value in one piece.
///
/// # Errors
/// It does not lie in RAM, or not at a multiple of its size.
pub fn load<T: AtomicAccess>(
    memory: &GuestMemory,
    addr: GuestAddress,
    order: Ordering,
) -> Result<T, Error> {
    match memory.get_slice(addr, size_of::<T>()) {
        Ok(slice) => Ok(slice.load(0, order)?),
        Err(_) => memory.load(addr, order),
    }
}

/// Stores a value in one piece.
///
/// # Errors
/// It does not lie in RAM, or not at a multiple of its size.
pub fn store<T: AtomicAccess>(
    memory: &GuestMemory,
    addr: GuestAddress,
    value: T,
    order: Ordering,
) -> Result<(), Error> {
    match memory.get_slice(addr, size_of::<T>()) {
        Ok(slice) => Ok(slice.store(value, 0, order)?),
        Err(_) => memory.store(value, addr, order),
    }
}

/// Whether `len` bytes from `addr` on lie in RAM.
pub fn is_ram(memory: &GuestMemory, addr: GuestAddress, len: usize) -> bool {
    memory.get_slice(addr, len).is_ok() || memory.check_range(addr, len)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{Backing, Ram};

    const REGION: u64 = 0x1_0000;
    const BORDER: GuestAddress = GuestAddress(REGION - 2);
    const OUTSIDE: GuestAddress = GuestAddress(2 * REGION - 2);

    /// Two regions that touch each other.
    fn ram() -> Ram {
        let len = usize::try_from(REGION).unwrap();
        let ranges = [(GuestAddress(0), len), (GuestAddress(REGION), len)];
        Ram::new(&ranges, Backing::Anonymous).unwrap()
    }

    #[test]
    fn bytes_are_read_and_written_within_a_region_and_across_two() {
        let memory = ram().memory();
        for at in [GuestAddress(0x100), BORDER] {
            write(&memory, at, b"four").unwrap();
            let mut found = [0; 4];
            read(&memory, at, &mut found).unwrap();
            assert_eq!(&found, b"four");
            write_obj(&memory, at, 0x0102_0304_u32).unwrap();
            assert_eq!(read_obj::<u32>(&memory, at).unwrap(), 0x0102_0304);
        }
    }

    #[test]
    fn values_are_loaded_and_stored_in_one_piece() {
        let memory = ram().memory();
        store(&memory, GuestAddress(0x100), 7_u16, Ordering::Release).unwrap();
        assert_eq!(load::<u16>(&memory, GuestAddress(0x100), Ordering::Acquire).unwrap(), 7);
        assert!(load::<u16>(&memory, GuestAddress(0x101), Ordering::Acquire).is_err());
        assert!(store(&memory, BORDER, 0_u32, Ordering::Release).is_err());
    }

    #[test]
    fn what_is_not_all_in_ram_is_refused() {
        let memory = ram().memory();
        assert!(read(&memory, OUTSIDE, &mut [0; 3]).is_err());
        assert!(write(&memory, OUTSIDE, &[0; 3]).is_err());
        assert!(read_obj::<u64>(&memory, GuestAddress(u64::MAX)).is_err());
        assert!(load::<u32>(&memory, OUTSIDE, Ordering::Relaxed).is_err());
        assert!(is_ram(&memory, OUTSIDE, 2) && !is_ram(&memory, OUTSIDE, 3));
        assert!(is_ram(&memory, BORDER, 4));
    }

    #[test]
    fn what_is_written_is_dirty() {
        let ram = ram();
        let dirty = || ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap().pages();
        dirty();
        write(&ram.memory(), GuestAddress(0x1000), &[1]).unwrap();
        assert_eq!(dirty(), 1);
        store(&ram.memory(), GuestAddress(0x2000), 1_u16, Ordering::Relaxed).unwrap();
        assert_eq!(dirty(), 1);
        write(&ram.memory(), BORDER, &[1; 4]).unwrap();
        assert_eq!(dirty(), 2);
    }
}
