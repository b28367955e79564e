//! The hash that names a file among the blobs of the cache.

use std::io::{self, Read};

use fs_err::File;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Bytes that are hashed at once.
const CHUNK: usize = 256 << 10;

/// The hash of a file as far as it has been read, and the one that it is to have.
pub(super) struct Digest {
    expected: String,
    size: u64,
    sum: Sum,
    read: u64,
}

enum Sum {
    /// SHA-256 of the file, by which git LFS names it.
    Sha256(Sha256),
    /// SHA-1 of `blob LENGTH\0` and the file, by which git names it.
    Git(Sha1),
}

impl Sum {
    /// By the number of hexadecimal digits in the name.
    fn new(name: &str, size: u64) -> Option<Self> {
        let is_hash = name.bytes().all(|byte| byte.is_ascii_hexdigit());
        match name.len() {
            64 if is_hash => Some(Self::Sha256(Sha256::new())),
            40 if is_hash => Some(Self::Git(Sha1::new_with_prefix(format!("blob {size}\0")))),
            _ => None,
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(sum) => sum.update(bytes),
            Self::Git(sum) => sum.update(bytes),
        }
    }

    fn hexadecimal(&self) -> String {
        match self {
            Self::Sha256(sum) => format!("{:x}", sum.clone().finalize()),
            Self::Git(sum) => format!("{:x}", sum.clone().finalize()),
        }
    }
}

impl Digest {
    /// For a file of `size` bytes that the hub calls `name`; `None` where that is no hash.
    pub(super) fn new(name: &str, size: u64) -> Option<Self> {
        Some(Self { expected: name.to_ascii_lowercase(), size, sum: Sum::new(name, size)?, read: 0 })
    }

    /// The next bytes of the file.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        self.read += bytes.len() as u64;
    }

    /// Goes to the end of the first `length` bytes of `file`. Those that have not been given are read.
    pub(super) fn follow(&mut self, file: &std::path::Path, length: u64) -> io::Result<()> {
        if self.read == length {
            return Ok(());
        }
        self.sum = Sum::new(&self.expected, self.size).expect("it was a hash before");
        self.read = 0;
        let (mut file, mut buffer) = (File::open(file)?.take(length), vec![0; CHUNK]);
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => self.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What the file's hash is in place of the one that it is to have; `None` where they agree.
    pub(super) fn other(&self) -> Option<String> {
        let found = self.sum.hexadecimal();
        (found != self.expected).then_some(found)
    }

    pub(super) fn expected(&self) -> &str {
        &self.expected
    }

    /// Which hash it is.
    pub(super) fn kind(&self) -> &'static str {
        match self.sum {
            Sum::Sha256(_) => "SHA-256",
            Sum::Git(_) => "git hash",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of `git hash-object` and `sha256sum`.
    const OF_GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const OF_LFS: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    #[test]
    fn a_file_has_the_hashes_of_git_and_of_sha256sum() {
        for name in [OF_GIT, OF_LFS, &OF_LFS.to_uppercase()] {
            let mut digest = Digest::new(name, 6).unwrap();
            digest.update(b"hel");
            assert!(digest.other().is_some());
            digest.update(b"lo\n");
            assert_eq!(digest.other(), None);
            digest.update(b"!");
            assert!(digest.other().is_some());
        }
        for name in ["", "0123", &OF_GIT.replace('c', "g"), &OF_LFS[1..]] {
            assert!(Digest::new(name, 6).is_none(), "{name}");
        }
    }

    #[test]
    fn bytes_that_lie_there_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("part");
        std::fs::write(&file, "hello\nand more").unwrap();
        let mut digest = Digest::new(OF_LFS, 6).unwrap();
        digest.update(b"something else");
        digest.follow(&file, 3).unwrap();
        digest.update(b"lo\n");
        std::fs::remove_file(&file).unwrap();
        digest.follow(&file, 6).unwrap();
        assert_eq!(digest.other(), None);
        assert!(digest.follow(&file, 3).is_err());
    }
}
