//! Keys of random streams: every draw is a function of the seed and of what it is for, never of what was drawn before,
//! so that a resumed run draws what an unbroken one would.

use sha2::{Digest, Sha256};

/// The seed of the stream for `purpose`, a path of words and numbers.
pub fn key(seed: u64, purpose: &[&str]) -> u64 {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    for word in purpose {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word.as_bytes());
    }
    let digest = hash.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn streams_differ_by_seed_and_by_every_word() {
        let keys = [key(1, &["a", "b"]), key(2, &["a", "b"]), key(1, &["ab"]), key(1, &["a", "c"]), key(1, &["a"])];
        for (i, first) in keys.iter().enumerate() {
            assert!(keys[i + 1..].iter().all(|second| second != first));
        }
        assert_eq!(key(1, &["a", "b"]), key(1, &["a", "b"]));
    }
}
