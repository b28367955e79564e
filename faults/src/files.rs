//! Files that lie in a folder of somebody else's: of a model, an adapter, a run.
//!
//! A name in such a folder may lead to a device that never ends or to a pipe into which nobody writes. Nothing of that kind
//! belongs there, so that it is refused before it is opened.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Files that are read as a whole are smaller, in bytes: the largest vocabularies have a twentieth of that.
const LARGEST: u64 = 1 << 30;

/// Opens a file.
///
/// # Errors
/// Those of the system, and anything that is no file.
pub fn open_file(path: &Path) -> io::Result<File> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is a pipe or a device, and must be a file"));
    }
    File::open(path)
}

/// The bytes of a file.
///
/// # Errors
/// As [`open_file`], and a file of more than a gigabyte.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open_file(path)?;
    let size = file.metadata()?.len();
    if size > LARGEST {
        return Err(io::Error::other(format!("it has {size} bytes, and such a file has at most {LARGEST}")));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a file.
///
/// # Errors
/// As [`read_file`], and what is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it does not contain valid UTF-8"))
}
