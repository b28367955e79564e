//! The plain NLL of a data set: what runs are compared by, whatever their objective.

use datasets::Example;

use super::batch::Batch;
use super::head;
use super::totals::{Sums, Totals};
use crate::model::Decoder;

/// Tokens that an evaluation saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Padding included.
    pub processed: usize,
    /// Without padding.
    pub real: usize,
    /// Learned.
    pub learned: usize,
}

/// Sums over all learned tokens of `examples`, and how many tokens there are.
pub fn evaluate(decoder: &Decoder, examples: &[Example], micro_batch_size: usize, multiple: usize) -> (Sums, Counts) {
    let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
    let all: Vec<usize> = (0..examples.len()).collect();
    let mut totals = Totals::zeros(decoder.device());
    let mut counts = Counts::default();
    for indices in datasets::micro_batches(&all, &lengths, micro_batch_size) {
        let batch = Batch::new(examples, &indices, multiple);
        counts.processed += batch.tokens();
        counts.real += batch.tokens_real();
        counts.learned += batch.learned.len();
        let hidden = decoder.hidden(batch.ids(decoder.device()), false, None);
        head::evaluate(decoder, hidden, &batch, &mut totals);
    }
    (totals.read(), counts)
}
