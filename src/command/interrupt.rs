//! Requests to end a run: Ctrl-C, SIGTERM of a cluster, SIGHUP of a terminal that goes away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{Fault, Place};

/// Watches for requests to end from now on: the first one sets the flag, which the loop looks at after each step. A second
/// Ctrl-C or SIGTERM stops at once. A second SIGHUP does not: a terminal that goes away sends it more than once.
///
/// # Errors
/// Somebody else in this process watches for them.
pub(super) fn watch() -> Result<Arc<AtomicBool>, Fault> {
    let interrupted = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    watch_for_requests(&interrupted).map_err(|error| {
        refused("requests to end", "SIGTERM", error.to_string(), "start the program by itself, not inside of another")
    })?;
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        tracing::warn!("stopping after this step, with a checkpoint; press Ctrl-C again to stop at once");
    })
    .map_err(|error| {
        let hint = "start the program by itself, not inside of another that watches for it";
        refused("Ctrl-C", "SIGINT", error.to_string(), hint)
    })?;
    Ok(interrupted)
}

fn refused(what: &str, signal: &str, error: String, hint: &str) -> Fault {
    Fault::new(format!("cannot watch for {what}: {error}")).at(Place::Named(signal.into())).hint(hint)
}

#[cfg(unix)]
fn watch_for_requests(interrupted: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGTERM};
    use signal_hook::flag;
    use signal_hook::iterator::Signals;

    // The first looks at what the second sets, and so comes before it.
    flag::register_conditional_shutdown(SIGTERM, 143, interrupted.clone())?;
    flag::register(SIGTERM, interrupted.clone())?;
    let mut told = vec![SIGTERM];
    // What `nohup` has the program ignore stays ignored.
    if !is_ignored(SIGHUP) {
        flag::register(SIGHUP, interrupted.clone())?;
        told.push(SIGHUP);
    }
    let mut signals = Signals::new(told)?;
    // Words take locks, which a handler of signals may not: a thread says them.
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            tracing::warn!("asked to end: stopping after this step, with a checkpoint; a second SIGTERM stops at once");
        }
    })?;
    Ok(())
}

/// Whether the program was started with a signal ignored.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing and writes the one in force to where it may.
    let asked = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeros are an action, whether or not the call wrote over them.
    asked == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}
