//! The plain NLL of a data set: what runs are compared by, whatever their objective.

use datasets::Example;

use super::batch::Batch;
use super::data::Order;
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

/// All examples in micro-batches; with `by_prompt`, prompts with their targets, which share prefixes if it says so.
pub fn batches(examples: &[Example], micro_batch_size: usize, multiple: usize, by_prompt: Option<bool>) -> Vec<Batch> {
    let order = Order::new(examples, examples.len(), micro_batch_size, None, multiple);
    match by_prompt {
        Some(share_prefixes) => order.by_prompt(share_prefixes).batches(1),
        None => { order }.batches(1),
    }
}

/// Sums over all learned tokens of `batches`, the loss by the rows' own weights, and how many tokens there are.
pub fn evaluate(decoder: &Decoder, batches: &[Batch]) -> (Sums, Counts) {
    let mut totals = Totals::zeros(decoder.device());
    let mut counts = Counts::default();
    for batch in batches {
        counts.processed += batch.tokens();
        counts.real += batch.tokens_real();
        counts.learned += batch.tokens_learned();
        let context = batch.context(decoder, None);
        let hidden = decoder.hidden_in(&context, batch.ids(decoder.device()), false, None);
        head::evaluate(decoder, hidden, batch, &mut totals);
    }
    (totals.read(), counts)
}
