//! The program: see the library for everything.

use std::process::ExitCode;

/// Tensors come and go in large blocks. The system's allocator gives their pages back to the kernel and faults them in
/// again at every step; this one keeps them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    trainer::command::main(&trainer::losses::Registry::default())
}
