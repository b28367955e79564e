//! Requests to end a run: Ctrl-C, SIGTERM of a cluster, SIGHUP of a terminal that goes away.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use faults::{Fault, Place};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Watches for requests to end from now on: the first one sets the flag, which the loop looks at after each step. A second
/// Ctrl-C or SIGTERM stops at once. SIGHUP never does, and does not count: a terminal that goes away sends it more than
/// once, and a sweep passes on by it what a cluster may have sent to all processes.
///
/// # Errors
/// The system refuses to have them watched for.
pub(super) fn watch() -> Result<Arc<AtomicBool>, Fault> {
    let interrupted = Arc::new(AtomicBool::new(false));
    watch_for_requests(&interrupted).map_err(|error| {
        Fault::new(format!("cannot watch for requests to end: {error}"))
            .at(Place::Named("SIGINT".into()))
            .hint("start the program by itself, not inside of another that watches for them")
    })?;
    Ok(interrupted)
}

fn watch_for_requests(interrupted: &Arc<AtomicBool>) -> io::Result<()> {
    #[cfg(unix)]
    tell()?;
    let asked = Arc::new(AtomicBool::new(false));
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        // The first looks at what the second sets, and so comes before it.
        flag::register_conditional_shutdown(signal, code, asked.clone())?;
        flag::register(signal, asked.clone())?;
        flag::register(signal, interrupted.clone())?;
    }
    #[cfg(unix)]
    if hears_hangups() {
        flag::register(signal_hook::consts::SIGHUP, interrupted.clone())?;
    }
    Ok(())
}

/// Says at the first request what it does. Words take locks, which a handler of signals may not: a thread says them.
#[cfg(unix)]
fn tell() -> io::Result<()> {
    let mut told = vec![SIGINT, SIGTERM];
    told.extend(hears_hangups().then_some(signal_hook::consts::SIGHUP));
    let mut signals = signal_hook::iterator::Signals::new(told)?;
    std::thread::Builder::new().name("signals".into()).spawn(move || match signals.forever().next() {
        Some(SIGINT) => {
            tracing::warn!("stopping after this step, with a checkpoint; press Ctrl-C again to stop at once");
        }
        Some(_) => {
            tracing::warn!("asked to end: stopping after this step, with a checkpoint; a second SIGTERM stops at once");
        }
        None => {}
    })?;
    Ok(())
}

/// False where the program was started with SIGHUP ignored, as by `nohup`: it stays so.
#[cfg(unix)]
fn hears_hangups() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing and writes the one in force to where it may.
    let asked = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeros are an action, whether or not the call wrote over them.
    asked != 0 || unsafe { action.assume_init() }.sa_sigaction != libc::SIG_IGN
}
