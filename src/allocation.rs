//! When memory that is freed goes back to the system.

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, which the bindings do not name: milliseconds until the pages of a
/// freed block are given back, below 0 for never.
pub const PURGE_DELAY: mi_option_t = 15;

/// Does work before the first step whose large blocks no step asks for again: their pages go back at once, where a step
/// keeps its own for the next one. Of another allocator than mimalloc this changes nothing.
pub fn returning_pages<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: options may be read and set at any time, whichever allocator the program has.
    let before = unsafe { mi_option_get(PURGE_DELAY) };
    // SAFETY: as above.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
    let done = work();
    // SAFETY: as above.
    unsafe { mi_option_set(PURGE_DELAY, before) };
    done
}
