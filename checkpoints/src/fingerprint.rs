//! Weights known by their content, wherever they lie and in however many files.

use std::fmt::Write as _;

use faults::Fault;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::weights::Weights;

/// Bytes of a tensor that are digested at a time, so that all cores have a part of a large one.
const PART: usize = 1 << 24;

impl Weights {
    /// SHA-256 in hexadecimal of every tensor: name, type, shape and numbers, in the order of the names. Files do not
    /// enter into it: a model in one file and the same in several have one fingerprint.
    ///
    /// # Errors
    /// None but for weights that changed while they were read.
    pub fn fingerprint(&self) -> Result<String, Fault> {
        let mut whole = Sha256::new();
        for name in self.names() {
            let bytes = self.bytes(name)?;
            let parts: Vec<[u8; 32]> = bytes.par_chunks(PART).map(|part| Sha256::digest(part).into()).collect();
            self.release(name);
            let dtype = self.dtype(name).expect("the names are its own");
            let shape = self.shape(name).expect("the names are its own");
            whole.update((name.len() as u64).to_le_bytes());
            whole.update(format!("{name} {dtype} {shape:?}"));
            parts.iter().for_each(|part| whole.update(part));
        }
        let mut text = String::with_capacity(64);
        for byte in whole.finalize() {
            write!(text, "{byte:02x}").expect("a string can be written to");
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::tensor::StoredTensor;
    use crate::weights::{INDEX, write_tensors};

    fn of(folder: &Path, tensors: &[(&str, Vec<usize>, &[f32])]) -> String {
        let tensors: BTreeMap<String, StoredTensor> = tensors
            .iter()
            .map(|(name, shape, values)| (name.to_string(), StoredTensor::from_f32(shape.clone(), values)))
            .collect();
        let path = folder.join("model.safetensors");
        write_tensors(&path, &tensors).unwrap();
        Weights::open_file(&path).unwrap().fingerprint().unwrap()
    }

    #[test]
    fn content_counts_and_files_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let whole = of(folder, &[("a", vec![2], &[1.0, 2.0]), ("b", vec![2], &[3.0, 4.0])]);
        let mut seen = vec![whole.clone()];
        for other in [
            [("a", vec![2], &[1.0, 2.0][..]), ("b", vec![2], &[3.0, -4.0])],
            [("a", vec![1, 2], &[1.0, 2.0]), ("b", vec![2], &[3.0, 4.0])],
            [("a", vec![2], &[1.0, 2.0]), ("c", vec![2], &[3.0, 4.0])],
            [("a", vec![2], &[3.0, 4.0]), ("b", vec![2], &[1.0, 2.0])],
        ] {
            let found = of(folder, &other);
            assert!(!seen.contains(&found), "{other:?}");
            seen.push(found);
        }
        for (file, name, values) in [("one.safetensors", "a", [1.0, 2.0]), ("two.safetensors", "b", [3.0, 4.0])] {
            let tensor = BTreeMap::from([(name.to_string(), StoredTensor::from_f32([2], &values))]);
            write_tensors(&folder.join(file), &tensor).unwrap();
        }
        std::fs::remove_file(folder.join("model.safetensors")).unwrap();
        let index = r#"{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}"#;
        std::fs::write(folder.join(INDEX), index).unwrap();
        assert_eq!(Weights::open(folder).unwrap().fingerprint().unwrap(), whole);
    }
}
