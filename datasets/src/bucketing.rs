//! The order of an epoch, and rows of similar length beside each other so that little of a batch is padding.
//!
//! Everything here is a pure function of its arguments: a resumed run asks again and gets the same steps.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::draft::Example;

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

/// Rows as one right-padded rectangle. Padding is known by `lengths`; its id is 0 whatever 0 means to the tokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids `[rows, width]`.
    pub ids: Vec<i32>,
    /// [`Example::learned`] `[rows, width]`, false on padding.
    pub learned: Vec<bool>,
    /// Tokens of each row.
    pub lengths: Vec<usize>,
    /// The number of each row in the examples.
    pub rows: Vec<usize>,
    /// Tokens of each row with its padding.
    pub width: usize,
}

impl Batch {
    /// Tokens that are not padding.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Tokens that are learned.
    pub fn learned_tokens(&self) -> usize {
        self.learned.iter().filter(|learned| **learned).count()
    }
}

/// The rectangle of `rows`, its width the longest row rounded up to a multiple of `width_multiple`.
pub fn batch(examples: &[Example], rows: &[usize], width_multiple: usize) -> Batch {
    let lengths: Vec<usize> = rows.iter().map(|row| examples[*row].ids.len()).collect();
    let width = lengths.iter().max().copied().unwrap_or(0).next_multiple_of(width_multiple.max(1));
    let mut ids = vec![0; rows.len() * width];
    let mut learned = vec![false; rows.len() * width];
    for (index, row) in rows.iter().enumerate() {
        let example = &examples[*row];
        for (column, id) in example.ids.iter().enumerate() {
            ids[index * width + column] = i32::try_from(*id).expect("the tokenizer's ids fit 31 bits");
        }
        learned[index * width..][..example.learned.len()].copy_from_slice(&example.learned);
    }
    Batch { ids, learned, lengths, rows: rows.to_vec(), width }
}
