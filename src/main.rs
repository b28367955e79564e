//! The program: see the library for everything.

use std::alloc::{GlobalAlloc, Layout};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Tensors come and go in large blocks. The system's allocator gives their pages back to the kernel and faults them in
/// again at every step; this one keeps them.
#[global_allocator]
static ALLOCATOR: Told = Told(mimalloc::MiMalloc);

/// An allocator that says so, where the standard one shows how it came to it, when there is no memory left.
struct Told(mimalloc::MiMalloc);

impl Told {
    fn checked(block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            no_memory(size);
        }
        block
    }
}

// SAFETY: everything is passed on as it is.
unsafe impl GlobalAlloc for Told {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the rules of this trait, which are those of mimalloc's.
        Self::checked(unsafe { self.0.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { self.0.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        Self::checked(unsafe { self.0.realloc(block, layout, size) }, size)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }
}

/// Ends the program without asking for any memory.
fn no_memory(size: usize) -> ! {
    // Of several threads that have none the first one tells of it, and ends the others.
    static TOLD: AtomicBool = AtomicBool::new(false);
    if TOLD.swap(true, Ordering::SeqCst) {
        std::thread::sleep(Duration::from_secs(1));
    } else {
        let mut digits = [0; 20];
        let mut start = digits.len();
        let mut rest = size;
        while start == digits.len() || rest > 0 {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        let mut stderr = std::io::stderr();
        let hint = if MEASURES.load(Ordering::SeqCst) { OF_MEASURING } else { OF_TRAINING };
        for part in [b"\nerror: out of memory: no ".as_slice(), &digits[start..], hint.as_bytes()] {
            let _ = stderr.write_all(part);
        }
    }
    // Not what libraries do at an exit: they want memory, too, and Open MPI's crash without it.
    #[cfg(unix)]
    // SAFETY: it ends the process, and nothing is left to be written.
    unsafe {
        libc::_exit(1)
    }
    #[cfg(not(unix))]
    std::process::exit(1)
}

/// Nothing is trained: the command has no recipe that could be changed.
static MEASURES: AtomicBool = AtomicBool::new(false);

/// The rest of that message where a recipe is at work.
const OF_TRAINING: &str = " bytes more are to be had\nhint: `trainer check` estimates what a run needs; lower \
    `train.micro_batch_size`, set `train.recompute = \"blocks\"`, or raise the limit (`ulimit -v`, a container's)\n";

/// The same of a command without a recipe.
const OF_MEASURING: &str = " bytes more are to be had\nhint: take shorter rows, fewer samples at once (`--n`) or a smaller \
    model, or raise the limit (`ulimit -v`, a container's)\n";

fn main() -> ExitCode {
    let has_recipe = |word: String| ["run", "check", "bench", "sweep"].contains(&word.as_str());
    MEASURES.store(!std::env::args_os().filter_map(|word| word.into_string().ok()).any(has_recipe), Ordering::SeqCst);
    // Never give pages back: otherwise a third of a step's time goes into zeroing pages that it had a moment ago.
    // SAFETY: setting an option is always allowed; `MIMALLOC_PURGE_DELAY` in the environment has precedence.
    unsafe { libmimalloc_sys::mi_option_set_default(trainer::allocation::PURGE_DELAY, -1) };
    trainer::command::main(&trainer::losses::Registry::default())
}
