//! Which rows each optimizer step takes.
//!
//! A function of the seed and of the step alone, so that a resumed run goes on with the rows an unbroken one would take;
//! and of the batch size but not of the micro-batch size, so that the micro-batch size changes nothing but speed.

use std::collections::BTreeMap;
use std::ops::Range;

use datasets::Example;

use super::batch::Batch;
use metrics::counts::entropy_of;

/// The training rows in the order of the run.
pub struct Order<'a> {
    examples: &'a [Example],
    lengths: Vec<usize>,
    batch_size: usize,
    micro_batch_size: usize,
    shuffle: Option<u64>,
    /// Rows are padded to a multiple of this.
    multiple: usize,
    prompts: Option<Prompts>,
    epoch: usize,
    steps: Vec<Vec<usize>>,
}

/// The examples as prompts with all their targets.
struct Prompts {
    prompts: Vec<Prompt>,
    /// Targets share the computation of what they begin with.
    share_prefixes: bool,
}

/// A prompt with all its targets, each weighted by its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// Its targets among the examples.
    pub targets: Range<usize>,
    /// Entropy of the targets' distribution in nats: the least that the cross-entropy can be.
    pub floor: f64,
}

/// The prompts of examples whose rows have targets.
pub fn prompts(examples: &[Example]) -> Vec<Prompt> {
    let mut prompts: Vec<Prompt> = Vec::new();
    let mut start = 0;
    for targets in examples.chunk_by(|a, b| a.group == b.group) {
        // Targets that are alike, which a recipe may allow, are one outcome.
        let mut outcomes: BTreeMap<&[u32], f64> = BTreeMap::new();
        for target in targets {
            *outcomes.entry(&target.ids).or_default() += target.weight;
        }
        let floor = entropy_of(outcomes.into_values());
        prompts.push(Prompt { targets: start..start + targets.len(), floor });
        start += targets.len();
    }
    prompts
}

impl<'a> Order<'a> {
    /// The order of `examples` in steps of `batch_size` rows; `shuffle` is the seed, or `None` for the order of the file.
    pub fn new(
        examples: &'a [Example],
        batch_size: usize,
        micro_batch_size: usize,
        shuffle: Option<u64>,
        multiple: usize,
    ) -> Self {
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let steps = datasets::epoch(&lengths, batch_size, shuffle, 0);
        Self { examples, lengths, batch_size, micro_batch_size, shuffle, multiple, prompts: None, epoch: 0, steps }
    }

    /// The same in steps of `batch_size` prompts with all their targets, of which `micro_batch_size` run at once.
    pub fn by_prompt(mut self, share_prefixes: bool) -> Self {
        let prompts = prompts(self.examples);
        self.lengths = prompts.iter().map(|prompt| self.lengths[prompt.targets.clone()].iter().sum()).collect();
        self.prompts = Some(Prompts { prompts, share_prefixes });
        self.steps = datasets::epoch(&self.lengths, self.batch_size, self.shuffle, 0);
        self
    }

    /// Steps that take every row once.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps.len()
    }

    /// The rows of a step, or its prompts, from 1.
    fn units(&mut self, step: usize) -> &[usize] {
        let (epoch, place) = ((step - 1) / self.steps.len(), (step - 1) % self.steps.len());
        if epoch != self.epoch {
            self.steps = datasets::epoch(&self.lengths, self.batch_size, self.shuffle, epoch);
            self.epoch = epoch;
        }
        &self.steps[place]
    }

    /// The sum of the floors of a step's prompts; `None` for rows without targets.
    pub fn floor(&mut self, step: usize) -> Option<f64> {
        self.prompts.as_ref()?;
        let units = self.units(step).to_vec();
        let prompts = &self.prompts.as_ref()?.prompts;
        Some(units.iter().map(|prompt| prompts[*prompt].floor).sum())
    }

    /// The sum of the floors of all prompts.
    pub fn floor_of_a_pass(&self) -> f64 {
        self.prompts.iter().flat_map(|prompts| &prompts.prompts).map(|prompt| prompt.floor).sum()
    }

    /// The micro-batches of a step, from 1.
    pub fn batches(&mut self, step: usize) -> Vec<Batch> {
        let units = self.units(step).to_vec();
        let Some(Prompts { prompts, share_prefixes }) = &self.prompts else {
            return datasets::micro_batches(&units, &self.lengths, self.micro_batch_size)
                .iter()
                .map(|indices| Batch::new(self.examples, indices, self.multiple))
                .collect();
        };
        let units = units.iter().map(|prompt| &prompts[*prompt]);
        units.flat_map(|prompt| self.parts(prompt, *share_prefixes)).collect()
    }

    /// The targets of a prompt in parts; each begins with the prompt.
    fn parts(&self, prompt: &Prompt, share_prefixes: bool) -> Vec<Batch> {
        let mut targets: Vec<usize> = prompt.targets.clone().collect();
        // Targets that begin alike stand together, so that a part holds as few tokens as it can.
        targets.sort_by(|a, b| self.examples[*a].ids.cmp(&self.examples[*b].ids));
        let part = |targets: &[usize]| match share_prefixes {
            true => Batch::packed(self.examples, targets, self.multiple),
            false => Batch::new(self.examples, targets, self.multiple),
        };
        targets.chunks(self.micro_batch_size).map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::example;

    fn target(group: usize, last: u32, weight: f64) -> Example {
        Example { weight, group, line: group + 1, ..example(&[1, group as u32 + 2, last], 2) }
    }

    #[test]
    fn a_step_takes_whole_prompts_and_knows_their_floor() {
        let examples =
            [target(0, 7, 0.5), target(0, 8, 0.25), target(0, 9, 0.25), target(1, 7, 0.5), target(1, 7, 0.5)];
        let mut order = Order::new(&examples, 1, 2, None, 1).by_prompt(true);
        assert_eq!(order.steps_per_epoch(), 2);
        let entropy = -(0.5f64 * 0.5f64.ln() + 0.5 * 0.25f64.ln());
        assert!((order.floor(1).expect("targets") - entropy).abs() < 1e-12);
        // The two targets alike are one outcome.
        assert_eq!(order.floor(2), Some(0.0));
        let batches = order.batches(1);
        assert_eq!(batches.iter().map(|batch| batch.tokens_real()).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(batches.iter().map(|batch| batch.rows.len()).collect::<Vec<_>>(), [2, 1]);
        let mut plain = Order::new(&examples, 1, 2, None, 1).by_prompt(false);
        assert_eq!(plain.batches(1).iter().map(|batch| batch.tokens_real()).collect::<Vec<_>>(), [6, 3]);
    }
}
