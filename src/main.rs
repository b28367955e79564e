//! The program: see the library for everything.

use std::process::ExitCode;

/// Tensors come and go in large blocks. The system's allocator gives their pages back to the kernel and faults them in
/// again at every step; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Never give pages back: otherwise a third of a step's time goes into zeroing pages that it had a moment ago.
    // SAFETY: setting an option is always allowed; `MIMALLOC_PURGE_DELAY` in the environment has precedence.
    unsafe { libmimalloc_sys::mi_option_set_default(trainer::allocation::PURGE_DELAY, -1) };
    trainer::command::main(&trainer::losses::Registry::default())
}
