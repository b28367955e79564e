//! Which rows each optimizer step takes.
//!
//! A function of the seed and of the step alone, so that a resumed run goes on with the rows an unbroken one would take;
//! and of the batch size but not of the micro-batch size, so that the micro-batch size changes nothing but speed.

use datasets::Example;

use super::batch::Batch;

/// The training rows in the order of the run.
pub struct Order<'a> {
    examples: &'a [Example],
    lengths: Vec<usize>,
    batch_size: usize,
    micro_batch_size: usize,
    shuffle: Option<u64>,
    /// Rows are padded to a multiple of this.
    multiple: usize,
    epoch: usize,
    steps: Vec<Vec<usize>>,
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
        Self { examples, lengths, batch_size, micro_batch_size, shuffle, multiple, epoch: 0, steps }
    }

    /// Steps that take every row once.
    pub fn steps_per_epoch(&self) -> usize {
        self.steps.len()
    }

    /// The rows of a step, from 1.
    pub fn rows(&mut self, step: usize) -> &[usize] {
        let (epoch, place) = ((step - 1) / self.steps.len(), (step - 1) % self.steps.len());
        if epoch != self.epoch {
            self.steps = datasets::epoch(&self.lengths, self.batch_size, self.shuffle, epoch);
            self.epoch = epoch;
        }
        &self.steps[place]
    }

    /// The micro-batches of a step, from 1.
    pub fn batches(&mut self, step: usize) -> Vec<Batch> {
        let rows = self.rows(step).to_vec();
        datasets::micro_batches(&rows, &self.lengths, self.micro_batch_size)
            .iter()
            .map(|indices| Batch::new(self.examples, indices, self.multiple))
            .collect()
    }
}
