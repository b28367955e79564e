//! Runs one target for as long as it is told, input after input by number, and stops at the twentieth that panics, and at
//! the first that does not come back or takes too much memory.
//!
//! ```text
//! hostile NAME --seconds 600 [--from 0]     # from an input on
//! hostile NAME --only 1234                  # that input alone; its bytes go to stdout
//! hostile                                   # the names
//! ```
//!
//! Where the process itself is ended (a stack that overflows), the last number that was said is at most 1,000 before it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ProcessTime;
use hostile::{Target, mutate, target, targets};

/// What may be held at once, in bytes.
const MEMORY: usize = 1 << 30;
/// What one input may take of the processors, all threads together. By the clock it may be any time on a machine that has
/// others to serve first, and a process that waits for its turn does not hang.
const TIME: Duration = Duration::from_secs(100);
/// How long one input may take by the clock: what waits for something that never comes takes no time of a processor.
const WAIT: Duration = Duration::from_secs(3600);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Counts what is held; more than [`MEMORY`] ends the process.
struct Counted;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn took(size: usize) {
    let held = HELD.fetch_add(size, Ordering::Relaxed) + size;
    MOST.fetch_max(held, Ordering::Relaxed);
    if held > MEMORY {
        // Nothing is asked of the allocator here.
        let _ = std::io::stderr().write_all(b"more than 1 GiB is held\n");
        std::process::abort();
    }
}

// SAFETY: everything is passed on to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the rules of this trait, which are those of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        words.get(at + 1)?.parse::<u64>().ok()
    };
    let Some(target) = words.first().and_then(|name| target(name)) else {
        targets().iter().for_each(|target| println!("{}", target.name));
        return ExitCode::from(u8::from(!words.is_empty()));
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !faults::is_caught() {
            hook(panic);
        }
    }));
    if let Some(number) = option("--only") {
        let input = mutate(&target, &(target.seeds)(), number);
        let _ = std::io::stdout().write_all(&input);
        let begun = Instant::now();
        let accepted = (target.run)(&input);
        eprintln!(
            "accepted: {accepted}, {:.3} s, {} MiB",
            begun.elapsed().as_secs_f64(),
            MOST.load(Ordering::Relaxed) >> 20
        );
        return ExitCode::SUCCESS;
    }
    run(&target, option("--from").unwrap_or(0), Duration::from_secs(option("--seconds").unwrap_or(60)))
}

fn run(target: &Target, from: u64, time: Duration) -> ExitCode {
    let seeds = (target.seeds)();
    std::thread::spawn(watch);
    let begun = Instant::now();
    let (mut number, mut accepted, mut panics) = (from, 0u64, 0);
    while begun.elapsed() < time && panics < 20 {
        NUMBER.store(number, Ordering::Relaxed);
        let input = mutate(target, &seeds, number);
        match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
            Ok(done) => accepted += u64::from(done),
            Err(_) => {
                eprintln!("PANIC {} --only {number}", target.name);
                panics += 1;
            }
        }
        number += 1;
        if number % 1000 == 0 {
            eprint!("\r{} {number}", target.name);
        }
    }
    let (runs, most) = (number - from, MOST.load(Ordering::Relaxed) >> 20);
    println!(
        "\r{}: {runs} inputs from {from} on in {:.0} s, {accepted} accepted, {panics} panics, at most {most} MiB",
        target.name,
        begun.elapsed().as_secs_f64()
    );
    ExitCode::from(u8::from(panics > 0))
}

/// Ends the process at an input that does not come back.
fn watch() {
    let mut before = (u64::MAX, ProcessTime::now(), Instant::now());
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let number = NUMBER.load(Ordering::Relaxed);
        if number != before.0 {
            before = (number, ProcessTime::now(), Instant::now());
        } else if before.1.elapsed() > TIME || before.2.elapsed() > WAIT {
            eprintln!("\nHANG --only {number}");
            std::process::exit(2);
        }
    }
}
