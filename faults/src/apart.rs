//! Code of others at work on files of others: on a thread of its own, with a stack that is known, for so long and no longer.
//!
//! A crate that panics, overflows its stack or never comes back has a fault, and so may the file that it was given, which is
//! what the user can do something about: what happened is a value here, and the caller says of which file.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// The stack of such a thread. Only what is used of it takes memory.
pub const STACK: usize = 128 << 20;

/// Why there is no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// It panicked, with these words.
    Panicked(String),
    /// It took longer than this, and is left to itself.
    Endless(Duration),
    /// There was no thread to be had, for this reason.
    NoThread(String),
}

/// What happened, in words that can follow a colon.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(words) => write!(f, "what reads it gave up: {words}"),
            Self::Endless(limit) => write!(f, "it took more than {} seconds", limit.as_secs()),
            Self::NoThread(reason) => write!(f, "there is no thread to be had for it ({reason})"),
        }
    }
}

impl Stopped {
    /// What can be done about it: `otherwise`, but where the file is not what is wrong.
    pub fn hint(&self, otherwise: impl Into<String>) -> String {
        match self {
            Self::NoThread(_) => {
                "raise what this process may have of threads and memory (`ulimit -u`, `ulimit -v`)".into()
            }
            Self::Panicked(_) | Self::Endless(_) => otherwise.into(),
        }
    }
}

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// This thread's own helper, which ends with it.
    static HELPER: RefCell<Option<Sender<Job>>> = const { RefCell::new(None) };
    static IS_FOREIGN: Cell<bool> = const { Cell::new(false) };
}

/// True while this thread is within [`caught`]: a panic is told by who called it, and not by the hook.
pub fn is_caught() -> bool {
    IS_FOREIGN.get()
}

/// The result of `work` on this thread.
///
/// # Errors
/// It panicked.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Stopped> {
    let before = IS_FOREIGN.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_FOREIGN.set(before);
    done.map_err(|panic| Stopped::Panicked(words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a word").to_owned()
}

/// The result of `work` on a thread of its own, with a stack of [`STACK`] bytes and for no longer than `limit`.
///
/// # Errors
/// It panicked, it took longer, or there is no thread to be had.
pub fn apart<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Stopped> {
    let (job, take) = job(work);
    start(job)?;
    awaited(&take, limit)
}

/// The same for what is done again and again: this thread has a helper for it, which stays as long as it does.
///
/// # Errors
/// As [`apart`].
pub fn apart_again<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Stopped> {
    let (job, take) = job(work);
    HELPER.with_borrow_mut(|helper| {
        let sent = match helper.as_ref() {
            Some(jobs) => jobs.send(job).map_err(|returned| returned.0),
            None => Err(job),
        };
        if let Err(job) = sent {
            *helper = Some(start(job)?);
        }
        Ok(())
    })?;
    awaited(&take, limit).inspect_err(|stopped| {
        // Whatever comes next must not wait behind it.
        if !matches!(stopped, Stopped::Panicked(_)) {
            HELPER.set(None);
        }
    })
}

/// A job that does the work, and where its result comes.
fn job<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> (Job, Receiver<Result<T, Stopped>>) {
    let (give, take) = mpsc::channel();
    let job = move || {
        // Nobody takes it where who asked has given up.
        let _ = give.send(caught(work));
    };
    (Box::new(job), take)
}

fn awaited<T>(take: &Receiver<Result<T, Stopped>>, limit: Duration) -> Result<T, Stopped> {
    take.recv_timeout(limit).unwrap_or_else(|error| match error {
        RecvTimeoutError::Timeout => Err(Stopped::Endless(limit)),
        RecvTimeoutError::Disconnected => Err(Stopped::Panicked("without a word".into())),
    })
}

/// A thread that begins with `job` and goes on with what it is sent. Where there is little address space, its stack is
/// smaller.
fn start(job: Job) -> Result<Sender<Job>, Stopped> {
    let (jobs, mine) = mpsc::channel::<Job>();
    // So that it is there for the next attempt.
    jobs.send(job).expect("its receiver is here");
    let mine = Arc::new(Mutex::new(mine));
    let mut started = Ok(());
    for stack in [STACK, STACK / 4, STACK / 16] {
        let mine = mine.clone();
        let work = move || {
            let mine = mine.lock().unwrap_or_else(PoisonError::into_inner);
            mine.iter().for_each(|job| job());
        };
        started = thread::Builder::new().name("apart".into()).stack_size(stack).spawn(work).map(drop);
        if started.is_ok() {
            break;
        }
    }
    started.map(|()| jobs).map_err(|error| Stopped::NoThread(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn results_and_panics_come_back_and_the_helper_goes_on() {
        let apart = |limit, work: fn() -> u8| {
            let once = super::apart(limit, work);
            assert_eq!(apart_again(limit, work), once);
            once
        };
        assert_eq!(apart(LONG, || 1 + 1), Ok(2));
        assert_eq!(apart(LONG, || panic!("odd")), Err(Stopped::Panicked("odd".into())));
        assert_eq!(apart(LONG, || panic!("odd {}", 1)), Err(Stopped::Panicked("odd 1".into())));
        assert_eq!(apart(LONG, || u8::from(is_caught())), Ok(1));
        assert!(!is_caught());
        let name = || thread::current().id();
        assert_eq!(apart_again(LONG, name), apart_again(LONG, name));
    }

    #[test]
    fn a_deep_recursion_has_room() {
        fn depth(left: usize) -> usize {
            let bytes = std::hint::black_box([0u8; 256]);
            if left == 0 { 0 } else { 1 + depth(left - 1) + usize::from(bytes[left % 256]) }
        }
        assert_eq!(apart(LONG, || depth(100_000)), Ok(100_000));
    }

    #[test]
    fn what_does_not_end_is_left_alone_and_nothing_waits_behind_it() {
        let (never, waits) = mpsc::channel::<()>();
        let endless = apart_again(Duration::from_millis(1), move || waits.recv().is_ok());
        assert_eq!(endless, Err(Stopped::Endless(Duration::from_millis(1))));
        assert_eq!(apart_again(LONG, || 3), Ok(3));
        drop(never);
    }
}
