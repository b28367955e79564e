//! The order of an epoch, and rows of similar length beside each other so that little of a batch is padding.
//!
//! Everything here is a pure function of its arguments: a resumed run asks again and gets the same steps.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Steps whose rows are sorted by length together. More means less padding and less chance in who meets whom.
const WINDOW: usize = 64;

/// The optimizer steps of one epoch, each a list of row numbers.
///
/// With a seed, rows are shuffled, sorted by length within windows of 64 steps, cut into steps, and the steps shuffled;
/// without one they stay in order. Every row occurs once. The last step is smaller when `batch_size` does not divide the
/// rows; its rows are chosen by chance, not by length.
pub fn epoch(lengths: &[usize], batch_size: usize, shuffle: Option<u64>, epoch: usize) -> Vec<Vec<usize>> {
    let batch_size = batch_size.max(1);
    let mut rows: Vec<usize> = (0..lengths.len()).collect();
    let Some(seed) = shuffle else { return rows.chunks(batch_size).map(<[usize]>::to_vec).collect() };
    let mut random = stream(seed, epoch);
    rows.shuffle(&mut random);
    let rest = rows.split_off(rows.len() - rows.len() % batch_size);
    for window in rows.chunks_mut(batch_size.saturating_mul(WINDOW)) {
        window.sort_by_key(|row| lengths[*row]);
    }
    let mut steps: Vec<Vec<usize>> = rows.chunks(batch_size).map(<[usize]>::to_vec).collect();
    steps.shuffle(&mut random);
    if !rest.is_empty() {
        steps.push(rest);
    }
    steps
}

/// Random numbers that belong to one epoch of one seed and to nothing else.
fn stream(seed: u64, epoch: usize) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(b"order of the rows");
    hash.update(seed.to_le_bytes());
    hash.update((epoch as u64).to_le_bytes());
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// One step's rows in micro-batches, the longest first, so that a step too large for the memory fails at its start.
pub fn micro_batches(step: &[usize], lengths: &[usize], micro_batch_size: usize) -> Vec<Vec<usize>> {
    let mut rows = step.to_vec();
    rows.sort_by_key(|row| std::cmp::Reverse(lengths[*row]));
    rows.chunks(micro_batch_size.max(1)).map(<[usize]>::to_vec).collect()
}
