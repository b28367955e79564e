//! The plain NLL of a data set: what runs are compared by, whatever their objective.

use std::ops::Range;

use backbone::Decoder;
use backbone::values;
use burn::tensor::Tensor;
use datasets::Example;
use losses::{Auxiliary, HiddenBatch};

use super::batch::Batch;
use super::data::Order;
use super::head;
use super::settings::Settings;
use super::totals::{Sums, Totals};
use crate::report::Numbers;

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

/// The auxiliary losses on held-out rows, added up on the device batch by batch.
pub struct HeldOutLosses<'a> {
    auxiliaries: &'a mut [Box<dyn Auxiliary>],
    step: usize,
    /// For each auxiliary loss its named sums.
    sums: Vec<Vec<(&'static str, Tensor<1>, f64)>>,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.processed += other.processed;
        self.real += other.real;
        self.learned += other.learned;
    }
}

impl Counts {
    /// How many there are.
    pub const LENGTH: usize = 3;

    /// All of them.
    pub fn numbers(&self) -> [f64; Self::LENGTH] {
        [self.processed, self.real, self.learned].map(|count| count as f64)
    }

    /// Counts from the list that [`Counts::numbers`] made.
    pub fn from_numbers(numbers: &[f64]) -> Self {
        let count = |place: usize| numbers[place] as usize;
        Self { processed: count(0), real: count(1), learned: count(2) }
    }
}

impl<'a> HeldOutLosses<'a> {
    /// Nothing yet.
    pub fn new(auxiliaries: &'a mut [Box<dyn Auxiliary>], step: usize) -> Self {
        let sums = auxiliaries.iter().map(|_| Vec::new()).collect();
        Self { auxiliaries, step, sums }
    }

    /// Adds those of a batch with its hidden states.
    pub fn add(&mut self, hidden: &Tensor<3>, batch: &Batch) {
        let (hidden, _) = batch.unpack(hidden.clone());
        for (index, (auxiliary, sums)) in self.auxiliaries.iter_mut().zip(&mut self.sums).enumerate() {
            // The same draws in every evaluation of every run, whatever its seed: what differs was learned.
            let seed = backbone::random::key(0, &["evaluation", &index.to_string()]);
            let hidden = hidden.clone();
            let found = auxiliary.evaluate(&HiddenBatch { hidden, rows: &batch.rows, step: self.step, seed });
            if sums.is_empty() {
                sums.extend(found.into_iter().map(|held| (held.name, held.sum, held.units)));
                continue;
            }
            for ((_, sum, units), held) in sums.iter_mut().zip(found) {
                *sum = sum.clone() + held.sum;
                *units += held.units;
            }
        }
    }

    /// Waits for the device and gives the sum of each loss and what it is divided by; nothing where there was no batch.
    pub fn numbers(&self) -> Vec<f64> {
        let all = self.sums.iter().flatten();
        all.flat_map(|(_, sum, units)| [f64::from(values(sum.clone())[0]), *units]).collect()
    }

    /// The mean of each loss, by the name of the auxiliary loss, over what each process has as [`HeldOutLosses::numbers`].
    pub fn means(self, given: &[Vec<f64>]) -> Vec<(String, Numbers)> {
        let mut place = 0;
        let mut mean = |(name, _, _): (&str, Tensor<1>, f64)| {
            let total = |place: usize| given.iter().filter_map(|numbers| numbers.get(place)).sum::<f64>();
            let (sum, units) = (total(place), total(place + 1));
            place += 2;
            (name.to_string(), sum / units.max(f64::MIN_POSITIVE))
        };
        let named = self.auxiliaries.iter().zip(self.sums);
        named.map(|(auxiliary, sums)| (auxiliary.name().into(), sums.into_iter().map(&mut mean).collect())).collect()
    }
}

/// All examples in micro-batches; with `by_prompt`, prompts with their targets, which share prefixes if it says so.
pub fn batches(examples: &[Example], micro_batch_size: usize, multiple: usize, by_prompt: Option<bool>) -> Vec<Batch> {
    let order = Order::new(examples, examples.len(), micro_batch_size, None, multiple);
    match by_prompt {
        Some(share_prefixes) => order.by_prompt(share_prefixes).batches(1),
        None => { order }.batches(1),
    }
}

/// The same of the examples in `range` alone, which keep their numbers among all.
pub fn batches_of(examples: &[Example], range: &Range<usize>, settings: &Settings) -> Vec<Batch> {
    let Settings { micro_batch_size, width_multiple, by_prompt, .. } = settings;
    let mut batches = batches(&examples[range.clone()], *micro_batch_size, *width_multiple, *by_prompt);
    batches.iter_mut().flat_map(|batch| &mut batch.rows).for_each(|row| row.example += range.start);
    batches
}

/// Sums over all learned tokens of `batches`, the loss by the rows' own weights, and how many tokens there are. `see` is
/// shown the hidden states of each batch.
pub fn evaluate(decoder: &Decoder, batches: &[Batch], see: &mut dyn FnMut(&Tensor<3>, &Batch)) -> (Sums, Counts) {
    let mut totals = Totals::zeros(decoder.device());
    let mut counts = Counts::default();
    for batch in batches {
        counts.processed += batch.tokens();
        counts.real += batch.tokens_real();
        counts.learned += batch.tokens_learned();
        let context = batch.context(decoder, None);
        let hidden = decoder.hidden_in(&context, batch.ids(decoder.device()), false, None);
        see(&hidden, batch);
        head::evaluate(decoder, hidden, batch, &mut totals);
    }
    (totals.read(), counts)
}
