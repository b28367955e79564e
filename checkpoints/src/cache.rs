//! Tensors that took long to compute, kept beside all runs under a key of everything they depend on.
//!
//! Nothing is lost with a cache: a file that is missing or damaged is computed again. So a reader believes no file that it
//! has not checked to the last bit.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use safetensors::Dtype;
use sha2::{Digest, Sha256};

use crate::files;
use crate::tensor::StoredTensor;
use crate::weights::{Weights, read_all, write_tensors};

/// The name of the checksum among the tensors.
const CHECKSUM: &str = "sha256";

/// A folder of files of tensors.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$XDG_CACHE_HOME/trainer`, else `~/.cache/trainer`; `None` where there is no home.
    pub fn from_env() -> Option<Self> {
        let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let root = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        Some(Self::at(root.join("trainer")))
    }

    /// The cache in a folder, which need not be there yet.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The file of a key.
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.safetensors"))
    }

    /// The tensors kept under `key`, if there are any.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn get(&self, key: &str) -> Result<Option<BTreeMap<String, StoredTensor>>, Fault> {
        let path = self.path(key);
        if !path.exists() {
            return Ok(None);
        }
        let mut tensors = read_all(&Weights::open_file(&path)?)?;
        let found = tensors.remove(CHECKSUM).map(|tensor| tensor.bytes);
        if found.as_deref() != Some(&checksum(&tensors)[..]) {
            return Err(Fault::new("its checksum is not that of its content")
                .at(Place::file(&path))
                .hint("the file is damaged: remove it, and it is made again"));
        }
        Ok(Some(tensors))
    }

    /// Keeps tensors under `key`, at once: whoever looks sees all of them or none.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn put(&self, key: &str, mut tensors: BTreeMap<String, StoredTensor>) -> Result<(), Fault> {
        files::create_folder(&self.folder)?;
        let bytes = checksum(&tensors).to_vec();
        tensors.insert(CHECKSUM.into(), StoredTensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes });
        // Two runs may compute the same at the same time.
        let partial = self.folder.join(format!(".{key}.{}.partial", std::process::id()));
        let written = write_tensors(&partial, &tensors).and_then(|()| files::rename(&partial, &self.path(key)));
        if written.is_err() {
            // The first fault says what is wrong; that the rest stays too changes nothing.
            let _ = files::remove_file(&partial);
        }
        written?;
        files::sync_folder(Path::new(&self.folder))
    }
}

fn checksum(tensors: &BTreeMap<String, StoredTensor>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(format!("{name} {} {:?} ", tensor.dtype, tensor.shape));
        hash.update(&tensor.bytes);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::hook::{Failure, failing};

    fn tensors(seed: f32) -> BTreeMap<String, StoredTensor> {
        let values: Vec<f32> = (0..50).map(|index| index as f32 * seed).collect();
        BTreeMap::from([("vectors".to_string(), StoredTensor::from_f32([10, 5], &values))])
    }

    #[test]
    fn what_was_put_is_got_back_and_a_flipped_or_cut_file_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("new"));
        assert_eq!(cache.get("key").unwrap(), None);
        cache.put("key", tensors(1.0)).unwrap();
        assert_eq!(cache.get("key").unwrap(), Some(tensors(1.0)));
        assert_eq!(cache.get("other").unwrap(), None);
        let whole = std::fs::read(cache.path("key")).unwrap();
        for place in [whole.len() - 1, whole.len() - 100, 20, 3] {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            std::fs::write(cache.path("key"), bytes).unwrap();
            assert!(cache.get("key").is_err(), "byte {place}");
        }
        for length in [0, 7, whole.len() / 2, whole.len() - 1] {
            std::fs::write(cache.path("key"), &whole[..length]).unwrap();
            assert!(cache.get("key").is_err(), "{length} bytes");
        }
        cache.put("key", tensors(2.0)).unwrap();
        assert_eq!(cache.get("key").unwrap(), Some(tensors(2.0)));
    }

    #[test]
    fn a_disk_that_fails_leaves_the_old_file_or_the_new_one() {
        for failure in [Failure::Crash, Failure::Full] {
            for at in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let cache = Cache::at(folder.path());
                cache.put("key", tensors(1.0)).unwrap();
                let (result, struck) = failing(at, failure, || cache.put("key", tensors(2.0)));
                if !struck {
                    result.unwrap();
                    break;
                }
                let found = cache.get("key").unwrap();
                assert!(found == Some(tensors(1.0)) || found == Some(tensors(2.0)), "{failure:?} at {at}");
            }
        }
    }
}
