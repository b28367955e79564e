//! Memory that several threads fill at once.

/// A pointer that may cross threads: each thread writes places of its own.
#[derive(Debug)]
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: a pointer alone does nothing; those who write through it keep their places apart.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(pointer: *mut T) -> Self {
        Self(pointer)
    }

    /// # Safety
    /// `index` lies inside of the memory behind the pointer.
    pub(crate) unsafe fn at(self, index: usize) -> *mut T {
        // SAFETY: as the caller promises.
        unsafe { self.0.add(index) }
    }
}

/// A vector in the making: memory that is not zeroed first, because every place will be written.
pub(crate) struct Build<T> {
    values: Vec<T>,
    length: usize,
    pointer: Shared<T>,
}

impl<T: Copy + Send> Build<T> {
    pub(crate) fn new(length: usize) -> Self {
        let mut values = Vec::with_capacity(length);
        let pointer = Shared::new(values.as_mut_ptr());
        Self { values, length, pointer }
    }

    /// # Safety
    /// `index` is at most the length.
    pub(crate) unsafe fn at(&self, index: usize) -> *mut T {
        debug_assert!(index <= self.length);
        // SAFETY: as the caller promises.
        unsafe { self.pointer.at(index) }
    }

    /// # Safety
    /// Every place was written.
    pub(crate) unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: as the caller promises; the capacity is at least the length.
        unsafe { self.values.set_len(self.length) };
        self.values
    }
}
