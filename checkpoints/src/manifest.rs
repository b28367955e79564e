//! `MANIFEST.json`: size and checksum of each file of a checkpoint, written last.
//!
//! A folder without it, or whose files differ from it, is not a checkpoint: it was cut by a crash or changed later.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

use faults::{Fault, Place};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;

/// The file's name.
pub(crate) const MANIFEST: &str = "MANIFEST.json";

/// What a checkpoint must hold.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The optimizer step after which the checkpoint was taken.
    pub step: usize,
    /// Its files by name.
    pub files: BTreeMap<String, Sum>,
}

/// How a file is recognised.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    /// Its length in bytes.
    size: u64,
    /// Its SHA-256, in hexadecimal digits.
    sha256: String,
}

/// Why a folder is not taken for a checkpoint.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// It is not what was saved, whoever reads it.
    Damaged(Fault),
    /// What is there is not known: the disk does not say, or not to us.
    Unreadable(Fault),
}

impl Refused {
    /// What is wrong, whichever it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Damaged(fault) | Self::Unreadable(fault) => fault,
        }
    }
}

impl Sum {
    fn of(path: &Path) -> Result<Self, Fault> {
        let read = || -> io::Result<Self> {
            let mut hash = Sha256::new();
            let size = io::copy(&mut File::open(path)?, &mut hash)?;
            let mut sha256 = String::with_capacity(64);
            for byte in hash.finalize() {
                write!(sha256, "{byte:02x}").expect("a string can be written to");
            }
            Ok(Self { size, sha256 })
        };
        read().map_err(|error| files::fault("read", path, &error))
    }
}

impl Manifest {
    /// Writes the manifest of a folder that holds `names` and nothing else of importance.
    pub fn write(folder: &Path, step: usize, names: &[&str]) -> Result<(), Fault> {
        let sums = names.iter().map(|name| Ok((name.to_string(), Sum::of(&folder.join(name))?)));
        let manifest = Self { step, files: sums.collect::<Result<_, Fault>>()? };
        let text = serde_json::to_vec_pretty(&manifest).expect("a manifest can be written");
        files::write(&folder.join(MANIFEST), |out| out.write_all(&text))
    }

    /// Reads a folder's manifest and compares every file with it.
    ///
    /// # Errors
    /// No manifest, a file that is missing, cut, changed or cannot be read.
    pub fn verify(folder: &Path) -> Result<Self, Refused> {
        let path = folder.join(MANIFEST);
        let damaged =
            |message: String, place: &Path| Refused::Damaged(Fault::new(message).at(Place::file(place)).hint(HINT));
        if !files::is_there(&path).map_err(Refused::Unreadable)? || path.is_dir() {
            return Err(damaged(format!("not a complete checkpoint: there is no `{MANIFEST}`"), folder));
        }
        let text = files::read(&path).map_err(Refused::Unreadable)?;
        let manifest: Self = serde_json::from_slice(&text)
            .map_err(|error| damaged(format!("the manifest is broken: {error}"), &path))?;
        for (name, sum) in &manifest.files {
            if !files::is_plain_name(name) {
                return Err(damaged(format!("the manifest lists {name:?}, no plain file name"), &path));
            }
            sum.verify(&folder.join(name))?;
        }
        Ok(manifest)
    }
}

impl Sum {
    /// Compares a file with it.
    fn verify(&self, file: &Path) -> Result<(), Refused> {
        let damaged = |message: String| Refused::Damaged(Fault::new(message).at(Place::file(file)).hint(HINT));
        let metadata = match files::again(|| file.metadata()) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(damaged("a file of the checkpoint is missing".into()));
            }
            found => found.map_err(|error| Refused::Unreadable(files::fault("look at", file, &error)))?,
        };
        if !metadata.is_file() {
            return Err(damaged("this is no file any more".into()));
        }
        // The length first: it costs nothing and tells a cut file from a changed one.
        if metadata.len() != self.size {
            let (found, size) = (metadata.len(), self.size);
            return Err(damaged(format!("the file has {found} bytes, but `{MANIFEST}` says {size}")));
        }
        if Self::of(file).map_err(Refused::Unreadable)?.sha256 != self.sha256 {
            return Err(damaged(format!("the file was changed: its SHA-256 is not that in `{MANIFEST}`")));
        }
        Ok(())
    }
}

const HINT: &str = "the checkpoint is damaged: use another one of the run";
