//! `MANIFEST.json`: size and checksum of each file of a checkpoint, written last.
//!
//! A folder without it, or whose files differ from it, is not a checkpoint: it was cut by a crash or changed later.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
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
    /// No manifest, a file that is missing, cut or changed.
    pub fn verify(folder: &Path) -> Result<Self, Fault> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Err(Fault::new(format!("not a complete checkpoint: there is no `{MANIFEST}`"))
                .at(Place::file(folder))
                .hint(HINT));
        }
        let manifest: Self = serde_json::from_slice(&files::read(&path)?).map_err(|error| {
            Fault::new(format!("the manifest is broken: {error}")).at(Place::file(&path)).hint(HINT)
        })?;
        for (name, sum) in &manifest.files {
            if !files::is_plain_name(name) {
                return Err(Fault::new(format!("the manifest lists {name:?}, no plain file name"))
                    .at(Place::file(&path))
                    .hint(HINT));
            }
            let file = folder.join(name);
            let fault = |message: String| Fault::new(message).at(Place::file(&file)).hint(HINT);
            let Ok(metadata) = file.metadata() else {
                return Err(fault("a file of the checkpoint is missing".into()));
            };
            // The length first: it costs nothing and tells a cut file from a changed one.
            if metadata.len() != sum.size {
                let (found, size) = (metadata.len(), sum.size);
                return Err(fault(format!("the file has {found} bytes, but `{MANIFEST}` says {size}")));
            }
            if Sum::of(&file)?.sha256 != sum.sha256 {
                return Err(fault(format!("the file was changed: its SHA-256 is not that in `{MANIFEST}`")));
            }
        }
        Ok(manifest)
    }
}

const HINT: &str = "the checkpoint is damaged: use another one of the run";
