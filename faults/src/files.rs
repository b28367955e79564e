//! Files that lie in a folder of somebody else's: of a model, an adapter, a run.
//!
//! A name in such a folder may lead to a device that never ends or to a pipe into which nobody writes. Nothing of that kind
//! belongs there, so that it is refused before it is opened. What a user names by itself may be a pipe ([`read_given`]).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Files that are read as a whole are smaller, in bytes: the largest vocabularies have a twentieth of that.
const LARGEST: u64 = 1 << 30;

/// Opens a file.
///
/// # Errors
/// A path that cannot be opened, or is no file.
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

/// The text of what a user names by itself: a file, or a pipe, as shells make one of `<(..)`.
///
/// # Errors
/// A path that cannot be read, a device, more than a gigabyte, or a text that is not UTF-8.
pub fn read_given(path: &Path) -> io::Result<String> {
    if !is_pipe(path) {
        return read_text(path);
    }
    let mut text = String::new();
    let read = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    match read as u64 > LARGEST {
        true => Err(io::Error::other(format!("what came through the pipe is more than {LARGEST} bytes"))),
        false => Ok(text),
    }
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(_: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_may_be_a_pipe_and_no_device() {
        let path = std::env::temp_dir().join(format!("given-{}", std::process::id()));
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo runs");
        assert!(made.success());
        let written = path.clone();
        let writer = std::thread::spawn(move || fs::write(written, "a text"));
        assert_eq!(read_given(&path).expect("the pipe is read"), "a text");
        writer.join().expect("the writer ends").expect("it is written");
        assert!(read_text(&path).is_err_and(|error| error.to_string().contains("a pipe or a device")));
        fs::remove_file(&path).expect("the pipe is there");
        fs::write(&path, "a file").expect("it is written");
        assert_eq!(read_given(&path).expect("the file is read"), "a file");
        fs::remove_file(&path).expect("the file is there");
        for device in ["/dev/zero", "/dev/null"] {
            assert!(read_given(Path::new(device)).is_err_and(|error| error.to_string().contains("a device")));
        }
        assert_eq!(read_given(&std::env::temp_dir()).map_err(|error| error.kind()), Err(ErrorKind::IsADirectory));
    }
}
