//! Locks on files, where the file system has them: Lustre without `-o flock`, NFS without its daemon and some of FUSE have not.

use std::fs::TryLockError;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Once;

/// The outcome of asking for a lock.
#[derive(Debug)]
pub enum Lock {
    /// It is held until the file is closed; the system gives it back when the process dies, however it does.
    Held,
    /// Another process has it.
    Taken,
    /// None is to be had, for this reason.
    Missing(io::Error),
}

impl Lock {
    /// Asks for a lock without waiting, once more where a signal came between.
    pub fn ask(ask: impl Fn() -> Result<(), TryLockError>) -> Self {
        loop {
            match ask() {
                Ok(()) => return Self::Held,
                Err(TryLockError::WouldBlock) => return Self::Taken,
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Interrupted => {}
                Err(TryLockError::Error(error)) => return Self::Missing(error),
            }
        }
    }

    /// Says once what it means to work on a file without a lock.
    pub fn warn_of_missing(path: &Path, error: &io::Error) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            let path = path.display();
            tracing::warn!("{path}: no lock is to be had here ({error}): nothing keeps a second process out");
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_question_that_was_interrupted_is_asked_again() {
        let asked = Cell::new(0);
        let lock = Lock::ask(|| {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(TryLockError::Error(ErrorKind::Interrupted.into())) } else { Ok(()) }
        });
        assert!(matches!(lock, Lock::Held) && asked.get() == 3);
        assert!(matches!(Lock::ask(|| Err(TryLockError::WouldBlock)), Lock::Taken));
        let missing = Lock::ask(|| Err(TryLockError::Error(ErrorKind::Unsupported.into())));
        assert!(matches!(missing, Lock::Missing(error) if error.kind() == ErrorKind::Unsupported));
    }
}
