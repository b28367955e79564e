//! Operations on files that leave nothing half-written behind, and their errors as faults.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Component, Path};

use faults::{Fault, Place};

/// What went wrong with a file, for its user. `verb` completes "cannot ... this".
pub(crate) fn fault(verb: &str, path: &Path, error: &io::Error) -> Fault {
    Fault::of_file(&format!("cannot {verb} this"), path, error)
}

/// The fault of a file in a hidden folder, placed where the user will look for it: `staging` becomes `target`.
pub(crate) fn unhidden(fault: Fault, staging: &Path, target: &Path) -> Fault {
    let Some(Place::File(name)) = &fault.place else { return fault };
    match Path::new(name).strip_prefix(staging) {
        Ok(inside) if inside.as_os_str().is_empty() => fault.at(Place::file(target)),
        Ok(inside) => {
            let place = Place::file(target.join(inside));
            fault.at(place)
        }
        Err(_) => fault,
    }
}

/// A file's bytes.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Fault> {
    fs::read(path).map_err(|error| fault("read", path, &error))
}

/// A file's text.
pub(crate) fn read_text(path: &Path) -> Result<String, Fault> {
    fs::read_to_string(path).map_err(|error| fault("read", path, &error))
}

/// True for the name of a file in the folder at hand: not a path, not hidden.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(Component::Normal(part)) if part == name) && parts.next().is_none();
    plain && !name.starts_with('.') && !name.contains(['\\', '\0'])
}

/// A folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), Fault> {
    hook::operation(false).and_then(|()| fs::create_dir_all(path)).map_err(|error| fault("create", path, &error))
}

/// Writes a file that no reader looks for yet, and waits until it is on the disk.
pub(crate) fn write(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Fault> {
    let written = || -> io::Result<()> {
        hook::operation(false)?;
        let file = File::create(path)?;
        let mut buffered = BufWriter::with_capacity(1 << 20, file);
        content(&mut buffered)?;
        let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
        hook::torn(&file)?;
        hook::operation(false)?;
        file.sync_all()
    };
    written().map_err(|error| fault("write", path, &error))
}

/// Puts a file in place of what was there, at once: a reader sees the old one or the new one.
///
/// # Errors
/// The disk is full or fails; what was there remains.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    let folder = path.parent().expect("a file of a run lies in the run's folder");
    let name = path.file_name().expect("a file of a run has a name").to_string_lossy();
    let partial = folder.join(format!(".{name}.partial"));
    let replaced = write(&partial, |out| out.write_all(bytes)).and_then(|()| rename(&partial, path));
    if replaced.is_err() {
        // The first fault says what is wrong; that the rest stays too changes nothing.
        let _ = remove_file(&partial);
    }
    replaced.map_err(|fault| unhidden(fault, &partial, path))?;
    sync_folder(folder)
}

/// Renames within one file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    hook::operation(false).and_then(|()| fs::rename(from, to)).map_err(|error| fault("rename", from, &error))
}

/// Waits until the names in a folder are on the disk.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Fault> {
    let synced = || -> io::Result<()> {
        hook::operation(false)?;
        // Only Unix opens folders as files; elsewhere the rename itself is all there is.
        if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
    };
    synced().map_err(|error| fault("sync", path, &error))
}

/// Removes a file, which may be gone already.
pub(crate) fn remove_file(path: &Path) -> Result<(), Fault> {
    gone(hook::operation(true).and_then(|()| fs::remove_file(path)), path)
}

/// Removes a folder and all in it, which may be gone already.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Fault> {
    gone(hook::operation(true).and_then(|()| fs::remove_dir_all(path)), path)
}

fn gone(removed: io::Result<()>, path: &Path) -> Result<(), Fault> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(fault("remove", path, &error)),
        _ => Ok(()),
    }
}

/// In the program itself nothing stands between an operation and the disk.
#[cfg(not(test))]
mod hook {
    use std::fs::File;
    use std::io;

    pub fn operation(_removes: bool) -> io::Result<()> {
        Ok(())
    }

    pub fn torn(_file: &File) -> io::Result<()> {
        Ok(())
    }
}

/// In tests, the disk fails at a chosen operation of this thread.
#[cfg(test)]
pub(crate) mod hook {
    use std::cell::Cell;
    use std::fs::File;
    use std::io;

    /// How the disk fails.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub enum Failure {
        /// The process dies: nothing works from here on, and a file being written is cut.
        Crash,
        /// The disk is full: removing still works.
        Full,
    }

    thread_local! {
        static PLAN: Cell<Option<(usize, Failure)>> = const { Cell::new(None) };
        static STRUCK: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `work` with a disk that fails at its operation number `at`; tells whether the work got that far.
    pub fn failing<T>(at: usize, failure: Failure, work: impl FnOnce() -> T) -> (T, bool) {
        PLAN.set(Some((at, failure)));
        STRUCK.set(false);
        let result = work();
        PLAN.set(None);
        (result, STRUCK.get())
    }

    fn strike(removes: bool) -> Option<io::Error> {
        let (left, failure) = PLAN.get()?;
        if left > 0 {
            PLAN.set(Some((left - 1, failure)));
            return None;
        }
        STRUCK.set(true);
        match failure {
            Failure::Crash => Some(io::Error::other("the process is dead")),
            Failure::Full if removes => None,
            Failure::Full => Some(io::ErrorKind::StorageFull.into()),
        }
    }

    pub fn operation(removes: bool) -> io::Result<()> {
        strike(removes).map_or(Ok(()), Err)
    }

    pub fn torn(file: &File) -> io::Result<()> {
        let Some(error) = strike(false) else { return Ok(()) };
        file.set_len(file.metadata()?.len() / 2)?;
        Err(error)
    }
}
