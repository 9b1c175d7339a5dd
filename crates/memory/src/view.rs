//! Ranges of RAM that are accessed again and again, looked up once. Unsafe: they keep a pointer, into a
//! mapping that is kept as long.
#![expect(
    unsafe_code,
    reason = "a range is looked up once and kept as a pointer, into a mapping that is held"
)]

use std::{fmt, marker::PhantomData, ptr::NonNull, sync::atomic::Ordering};

use vm_memory::{
    AtomicAccess, AtomicInteger, Bytes, GuestAddress, GuestMemoryBackend, bitmap::Bitmap,
    guest_memory::Error,
};

use crate::GuestMemory;

/// A contiguous range of guest RAM for many small accesses, each in one piece; places in it are counted
/// from its start, in bytes.
///
/// Values are as they lie in memory: what is little endian there is the caller's to convert. What is
/// written is not marked as dirty.
#[derive(Clone, Copy)]
pub struct Window<'a> {
    base: NonNull<u8>,
    len: usize,
    ram: PhantomData<&'a GuestMemory>,
}

impl<'a> Window<'a> {
    /// The `len` bytes at `addr`, if they lie in one region.
    pub fn new(memory: &'a GuestMemory, addr: GuestAddress, len: usize) -> Option<Self> {
        let slice = memory.get_slice(addr, len).ok()?;
        let base = NonNull::new(slice.ptr_guard_mut().as_ptr())?;
        Some(Self { base, len, ram: PhantomData })
    }

    /// `N` values from `at` on, if all lie inside, each at a multiple of its size.
    #[inline]
    fn places<T: AtomicAccess, const N: usize>(&self, at: usize) -> Option<&'a [T::A; N]> {
        if at.checked_add(size_of::<T>() * N)? > self.len {
            return None;
        }
        // SAFETY: `at` lies in the range, all of which `base` leads to.
        let place = unsafe { self.base.add(at) }.cast::<[T::A; N]>();
        if !place.is_aligned() || size_of::<T>() != size_of::<T::A>() {
            return None;
        }
        // SAFETY: they are aligned and lie in a mapping that stays as long as the RAM that this borrows;
        // an atomic may be changed by others, and any bits are a value of it.
        Some(unsafe { place.as_ref() })
    }

    /// The value at `at`, if it lies inside, at a multiple of its size.
    #[inline]
    fn place<T: AtomicAccess>(&self, at: usize) -> Option<&'a T::A> {
        let [place] = self.places::<T, 1>(at)?;
        Some(place)
    }

    /// Loads a value. `None` if it does not lie inside, at a multiple of its size.
    #[inline]
    pub fn load<T: AtomicAccess>(&self, at: usize, order: Ordering) -> Option<T> {
        self.place::<T>(at).map(|place| place.load(order).into())
    }

    /// Loads `N` values that follow each other, each in one piece. `None` if they do not all lie inside, at
    /// multiples of their size.
    #[inline]
    pub fn load_each<T: AtomicAccess, const N: usize>(
        &self,
        at: usize,
        order: Ordering,
    ) -> Option<[T; N]> {
        let places = self.places::<T, N>(at)?;
        Some(places.each_ref().map(|place| place.load(order).into()))
    }

    /// Stores a value. `None` if its place does not lie inside, at a multiple of its size.
    #[inline]
    pub fn store<T: AtomicAccess>(&self, at: usize, value: T, order: Ordering) -> Option<()> {
        self.place::<T>(at).map(|place| place.store(value.into(), order))
    }

    /// Stores values that follow each other, each in one piece. `None`, and nothing is stored, if they do
    /// not all lie inside, at multiples of their size.
    #[inline]
    pub fn store_each<T: AtomicAccess, const N: usize>(
        &self,
        at: usize,
        values: [T; N],
        order: Ordering,
    ) -> Option<()> {
        let places = self.places::<T, N>(at)?;
        places.iter().zip(values).for_each(|(place, value)| place.store(value.into(), order));
        Some(())
    }
}

impl fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("len", &self.len).finish_non_exhaustive()
    }
}

/// A range of guest RAM such as a ring, which stays mapped as long as this lives. As with a [`Window`], but
/// it may lie in several regions.
///
/// What is written is not marked as dirty until [`mark_dirty`](Self::mark_dirty) is called, which has to
/// come after it.
pub struct View {
    memory: GuestMemory,
    addr: GuestAddress,
    len: usize,
    /// Where it is, unless it lies in several mappings.
    base: Option<NonNull<u8>>,
}

// SAFETY: `base` points into a mapping that `memory`, which may go to any thread, keeps; what it points
// to is only accessed atomically.
unsafe impl Send for View {}

impl View {
    /// The `len` bytes at `addr`.
    ///
    /// # Errors
    /// They are not all in RAM.
    pub fn new(memory: &GuestMemory, addr: GuestAddress, len: usize) -> Result<Self, Error> {
        let base = Window::new(memory, addr, len).map(|window| window.base);
        if base.is_none() && !memory.check_range(addr, len) {
            return Err(Error::InvalidBackendAddress);
        }
        Ok(Self { memory: memory.clone(), addr, len, base })
    }

    /// All of it, if it lies in one region.
    #[inline]
    pub fn window(&self) -> Option<Window<'_>> {
        Some(Window { base: self.base?, len: self.len, ram: PhantomData })
    }

    /// Loads a value in one piece. `None` if it does not lie inside, at a multiple of its size.
    #[inline]
    pub fn load<T: AtomicAccess>(&self, at: usize, order: Ordering) -> Option<T> {
        match self.window() {
            Some(window) => window.load(at, order),
            None => self.load_slowly(at, order),
        }
    }

    /// Stores a value in one piece. `None` if its place does not lie inside, at a multiple of its size.
    #[inline]
    pub fn store<T: AtomicAccess>(&self, at: usize, value: T, order: Ordering) -> Option<()> {
        match self.window() {
            Some(window) => window.store(at, value, order),
            None => self.store_slowly(at, value, order),
        }
    }

    /// Stores values that follow each other, each in one piece. `None` if they do not all lie inside, at
    /// multiples of their size; some may be stored then.
    #[inline]
    pub fn store_each<T: AtomicAccess, const N: usize>(
        &self,
        at: usize,
        values: [T; N],
        order: Ordering,
    ) -> Option<()> {
        match self.window() {
            Some(window) => window.store_each(at, values, order),
            None => values.into_iter().enumerate().try_for_each(|(index, value)| {
                let offset = size_of::<T>().checked_mul(index)?;
                self.store_slowly(at.checked_add(offset)?, value, order)
            }),
        }
    }

    #[cold]
    fn load_slowly<T: AtomicAccess>(&self, at: usize, order: Ordering) -> Option<T> {
        self.memory.load(self.place(at, size_of::<T>())?, order).ok()
    }

    #[cold]
    fn store_slowly<T: AtomicAccess>(&self, at: usize, value: T, order: Ordering) -> Option<()> {
        self.memory.store(value, self.place(at, size_of::<T>())?, order).ok()
    }

    /// Where in guest memory `len` bytes at `at` are, if they lie inside.
    fn place(&self, at: usize, len: usize) -> Option<GuestAddress> {
        at.checked_add(len).filter(|end| *end <= self.len)?;
        Some(GuestAddress(self.addr.0.wrapping_add(u64::try_from(at).ok()?)))
    }

    /// Marks `len` bytes from `at` on as written.
    pub fn mark_dirty(&self, at: usize, len: usize) {
        // What lies in several mappings was marked when it was written.
        if self.base.is_some()
            && let Some(addr) = self.place(at, len)
            && let Ok(slice) = self.memory.get_slice(addr, len)
        {
            slice.bitmap().mark_dirty(0, len);
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("addr", &self.addr)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::{Backing, Ram};

    const REGION: u64 = 0x1_0000;
    const RELAXED: Ordering = Ordering::Relaxed;

    /// Two regions that touch each other, and 16 bytes of them: within one, or across both.
    fn views() -> (Ram, [View; 2]) {
        let len = usize::try_from(REGION).unwrap();
        let ranges = [(GuestAddress(0), len), (GuestAddress(REGION), len)];
        let ram = Ram::new(&ranges, Backing::Anonymous).unwrap();
        let view = |addr| View::new(&ram.memory(), GuestAddress(addr), 16).unwrap();
        let views = [view(0x1000), view(REGION - 8)];
        (ram, views)
    }

    #[test]
    fn values_are_loaded_and_stored() {
        let (ram, views) = views();
        for view in views {
            view.store(4, 0x0102_0304_u32, Ordering::Release).unwrap();
            assert_eq!(view.load::<u32>(4, Ordering::Acquire), Some(0x0102_0304));
            view.store(14, 7_u16, RELAXED).unwrap();
            assert_eq!(view.load::<u64>(8, RELAXED), Some(7 << 48));
            let seen: [u8; 4] = ram.memory().read_obj(GuestAddress(view.addr.0 + 4)).unwrap();
            assert_eq!(seen, [4, 3, 2, 1]);
        }
    }

    #[test]
    fn values_that_follow_each_other_are_loaded_at_once() {
        let (_ram, [view, _]) = views();
        let window = view.window().unwrap();
        for (at, value) in [(0, 1_u32), (4, 2), (8, 3), (12, 4)] {
            window.store(at, value, RELAXED).unwrap();
        }
        assert_eq!(window.load_each(4, RELAXED), Some([2_u32, 3]));
        assert_eq!(window.load_each(8, RELAXED), Some([3_u32, 4]));
        assert_eq!(window.load_each::<u32, 2>(12, RELAXED), None);
        assert_eq!(window.load_each::<u32, 2>(2, RELAXED), None);
        assert_eq!(window.load_each::<u32, 2>(!3, RELAXED), None);
    }

    #[test]
    fn values_that_follow_each_other_are_stored_at_once() {
        let (_ram, views) = views();
        for view in views {
            view.store_each(4, [1_u32, 2], RELAXED).unwrap();
            let found = [0, 4, 8, 12].map(|at| view.load::<u32>(at, RELAXED).unwrap());
            assert_eq!(found, [0, 1, 2, 0]);
            assert!(view.store_each(12, [1_u32, 2], RELAXED).is_none());
            assert!(view.store_each(2, [1_u32, 2], RELAXED).is_none());
            assert!(view.store_each(!3, [1_u32, 2], RELAXED).is_none());
        }
    }

    #[test]
    fn what_is_not_inside_or_not_aligned_is_refused() {
        let (ram, views) = views();
        for view in views {
            assert!(view.load::<u64>(16, RELAXED).is_none());
            assert!(view.load::<u64>(!7, RELAXED).is_none());
            assert!(
                view.load::<u64>(12, RELAXED).is_none() && view.load::<u16>(1, RELAXED).is_none()
            );
            assert!(view.store(16, 0_u8, RELAXED).is_none());
            assert!(view.store(2, 0_u32, RELAXED).is_none());
        }
        assert!(View::new(&ram.memory(), GuestAddress(2 * REGION - 8), 9).is_err());
        assert!(View::new(&ram.memory(), GuestAddress(u64::MAX), 2).is_err());
        assert!(Window::new(&ram.memory(), GuestAddress(REGION - 8), 9).is_none());
    }

    #[test]
    fn what_is_marked_is_dirty() {
        let (ram, [view, across]) = views();
        let dirty = || ram.take_dirty(|_, _| Ok::<_, io::Error>(Vec::new())).unwrap().pages();
        dirty();
        view.store(0, 1_u8, RELAXED).unwrap();
        assert_eq!(dirty(), 0);
        view.mark_dirty(0, 1);
        assert_eq!(dirty(), 1);
        across.store(0, 1_u8, RELAXED).unwrap();
        across.mark_dirty(0, 1);
        assert_eq!(dirty(), 1);
    }

    #[test]
    fn the_range_stays_mapped_as_long_as_it_is_viewed() {
        let (ram, [view, _]) = views();
        drop(ram);
        view.store(0, 1_u8, RELAXED).unwrap();
        assert_eq!(view.load::<u8>(0, RELAXED), Some(1));
    }
}
