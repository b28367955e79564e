//! In what form a file holds its rows, told by its first bytes and its name, and what is under the packing.

use std::fmt;
use std::io::{self, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use faults::Fault;
use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use crate::kinds;
use crate::separated;

/// First bytes that are looked at.
const LOOKED_AT: u64 = 4096;

/// How rows are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// JSON Lines, one list, or one object.
    Json,
    /// A line a row under a line of names, with this byte between the cells.
    Separated(u8),
    /// A table in Parquet.
    Parquet,
}

/// A file as it is after unpacking, with its first bytes put back.
pub(crate) struct Opened {
    pub form: Form,
    pub reader: Box<dyn Read>,
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zstandard,
}

/// Unpacks `reader`, which is the file `path` from its beginning on, and says what form its rows are in.
///
/// # Errors
/// What is no file of rows, with how to make rows of it; a file that cannot be read.
pub(crate) fn open(path: &Path, mut reader: Box<dyn Read>) -> Result<Opened, Fault> {
    let unreadable = |error: io::Error| fault("cannot read the rows", &path.display().to_string(), &error);
    let mut head = beginning(&mut reader).map_err(unreadable)?;
    let packing = packing(&head).filter(|_| !is_archive(path));
    if let Some(packing) = packing {
        let packed = BufReader::with_capacity(1 << 20, Cursor::new(head).chain(reader));
        reader = match packing {
            Packing::Gzip => Box::new(Unpacked { reader: MultiGzDecoder::new(packed), what: "gzip" }),
            Packing::Zstandard => {
                let decoder = ZstdDecoder::with_buffer(packed).map_err(unreadable)?;
                Box::new(Unpacked { reader: decoder, what: "Zstandard" })
            }
        };
        head = beginning(&mut reader).map_err(unreadable)?;
    }
    let inner = if packing.is_some() { unpacked_name(path) } else { path.to_path_buf() };
    if let Some(fault) = kinds::refused(&head, path, &inner) {
        return Err(fault);
    }
    let form = form(&head, &inner);
    Ok(Opened { form, reader: Box::new(Cursor::new(head).chain(reader)) })
}

/// The first bytes of a file, fewer only where it has fewer.
fn beginning(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    reader.take(LOOKED_AT).read_to_end(&mut head)?;
    Ok(head)
}

fn packing(head: &[u8]) -> Option<Packing> {
    match head {
        [0x1f, 0x8b, ..] => Some(Packing::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Packing::Zstandard),
        _ => None,
    }
}

/// True for the name of an archive of several files.
fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tgz"))
}

/// The name without the ending that says how the file is packed.
pub(crate) fn unpacked_name(path: &Path) -> PathBuf {
    let is_packed = |ending: &str| ["gz", "gzip", "zst", "zstd"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if is_packed(ending) => path.with_extension(""),
        _ => path.to_path_buf(),
    }
}

/// The form of a file that begins with `head` and would be named `path` if it were not packed.
pub(crate) fn form(head: &[u8], path: &Path) -> Form {
    if head.starts_with(b"PAR1") {
        return Form::Parquet;
    }
    separated::separator(head, path).map_or(Form::Json, Form::Separated)
}

/// The fault of a file that cannot be read, be it because it is damaged where it is packed.
pub(crate) fn fault(doing: &str, name: &str, error: &io::Error) -> Fault {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Damaged>()) {
        Some(damaged) => {
            let fault = Fault::new(format!("{doing}: {damaged}")).at(faults::Place::file(name));
            fault.hint("it was cut off or changed while it was written or copied: copy it again")
        }
        None => Fault::of_file(doing, name, error),
    }
}

/// A packed file that cannot be unpacked to its end.
#[derive(Debug)]
struct Damaged {
    what: &'static str,
    error: String,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} file is damaged: {}", self.what, self.error)
    }
}

impl std::error::Error for Damaged {}

/// Unpacks, and tells what is wrong with the packing from what is wrong with the disk.
struct Unpacked<R> {
    reader: R,
    what: &'static str,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            // An error of the system has its number; what the decoders say has none.
            _ if error.raw_os_error().is_some() => error,
            io::ErrorKind::UnexpectedEof => {
                io::Error::other(Damaged { what: self.what, error: "it ends before its end".into() })
            }
            _ => io::Error::other(Damaged { what: self.what, error: error.to_string() }),
        })
    }
}
