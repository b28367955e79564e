//! The program: see the library for everything.

use std::process::ExitCode;

/// Tensors come and go in large blocks. The system's allocator gives their pages back to the kernel and faults them in
/// again at every step; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc's `mi_option_t`, which the bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // Never give pages back: otherwise a third of a step's time goes into zeroing pages that it had a moment ago.
    // SAFETY: setting an option is always allowed; `MIMALLOC_PURGE_DELAY` in the environment has precedence.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, -1) };
    trainer::command::main(&trainer::losses::Registry::default())
}
