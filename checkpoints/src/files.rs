//! Operations on files that leave nothing half-written behind, and their errors as faults.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Component, Path};
use std::sync::Once;

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
    faults::read_file(path).map_err(|error| fault("read", path, &error))
}

/// A file's text.
pub(crate) fn read_text(path: &Path) -> Result<String, Fault> {
    faults::read_text(path).map_err(|error| fault("read", path, &error))
}

/// True for the name of a file in the folder at hand: not a path, not hidden.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(Component::Normal(part)) if part == name) && parts.next().is_none();
    plain && !name.starts_with('.') && !name.contains(['\\', '\0'])
}

/// Whether there is something by that name. That nobody can tell is a fault, and does not mean that there is nothing.
pub(crate) fn is_there(path: &Path) -> Result<bool, Fault> {
    match path.try_exists() {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(|error| fault("look at", path, &error)),
    }
}

/// Makes a call again that a signal has interrupted, which file systems over a network let happen. What the standard library
/// does so by itself (opening, reading, writing, syncing) needs none of this.
///
/// # Errors
/// The error of the call, unless it was interrupted.
pub fn again<T>(call: impl Fn() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A folder and those above it, with their names on the disk.
pub(crate) fn create_folder(path: &Path) -> Result<(), Fault> {
    if path.is_dir() {
        return Ok(());
    }
    if path.components().next() == Some(Component::Normal("~".as_ref())) {
        let fault = Fault::new("`~` is expanded by a shell, and not here").at(Place::file(path));
        return Err(fault.hint("write the whole path of your home; a folder of that name is `./~`"));
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.is_dir()).collect();
    hook::operation(false)
        .and_then(|()| again(|| fs::create_dir_all(path)))
        .map_err(|error| fault("create", path, &error))?;
    // A file that is synced in a folder without a name would be lost with it.
    for folder in missing.into_iter().filter(|folder| !folder.as_os_str().is_empty()) {
        sync_folder(within(folder))?;
    }
    Ok(())
}

/// The folder that something lies in.
fn within(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    let folder = within(path);
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

/// Writes a file that was asked for by its path, whole or not at all. Where that is a link, what it leads to is replaced, and
/// the link stays; what is no file (`/dev/stdout`, a pipe) is written to as it comes.
///
/// # Errors
/// The disk is full or fails; what was there remains.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    match fs::canonicalize(path) {
        Ok(found) if found.is_file() => replace(&found, bytes).map_err(|fault| unhidden(fault, &found, path)),
        // A folder is told of, and is no place for a hidden file.
        Ok(_) => fs::write(path, bytes).map_err(|error| fault("write", path, &error)),
        Err(_) if path.file_name().is_none() => Err(fault("write", path, &ErrorKind::IsADirectory.into())),
        Err(_) => replace(path, bytes),
    }
}

/// Renames within one file system.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Fault> {
    let renamed = hook::operation(false).and_then(|()| again(|| fs::rename(from, to)));
    renamed.map_err(|error| fault("rename", from, &error))
}

/// Waits until the names in a folder are on the disk. Where that cannot be had, because a file system does not sync folders
/// (CIFS, some of FUSE) or one may be written and not read, it is said once.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Fault> {
    let synced = || -> io::Result<()> {
        hook::operation(false)?;
        // Only Unix opens folders as files; elsewhere the rename itself is all there is.
        if !cfg!(unix) {
            return Ok(());
        }
        let folder = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => io::Error::new(ErrorKind::Unsupported, error),
            _ => error,
        });
        folder?.sync_all()
    };
    match synced() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                let folder = path.display();
                tracing::warn!(
                    "{folder}: the folder cannot be synced ({error}): after a loss of power its newest files may be gone"
                );
            });
            Ok(())
        }
        synced => synced.map_err(|error| fault("sync", path, &error)),
    }
}

/// Removes a file, which may be gone already.
pub(crate) fn remove_file(path: &Path) -> Result<(), Fault> {
    gone(hook::operation(true).and_then(|()| again(|| fs::remove_file(path))), path)
}

/// Removes a folder and all in it, which may be gone already.
pub(crate) fn remove_folder(path: &Path) -> Result<(), Fault> {
    gone(hook::operation(true).and_then(|()| again(|| fs::remove_dir_all(path))), path)
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
