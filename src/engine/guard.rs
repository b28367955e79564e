//! What is checked while a run goes on: that losses stay finite, that the first update reached every adapter, and that it
//! left the frozen weights alone.

use std::path::{Path, PathBuf};

use burn::tensor::Tensor;
use faults::{Fault, Place};
use tracing::warn;

use super::parameters::{Layout, Slot};
use super::trainee::{Trainee, values as read};
use crate::report::StepRecord;

/// Steps in a row that may be skipped because a loss or gradient is not finite; one more stops the run.
const SKIPS_ALLOWED: usize = 2;

/// Counts the steps that were skipped, and knows the last checkpoint that a later finite step has shown to be good.
#[derive(Default)]
pub struct Skips {
    in_a_row: usize,
    any_kept: bool,
    saved: Option<(usize, PathBuf)>,
    good: Option<PathBuf>,
}

impl Skips {
    /// Takes a checkpoint that was written, or gone on from, at `step`.
    pub fn saved(&mut self, step: usize, folder: PathBuf) {
        self.saved = Some((step, folder));
    }

    /// True while the last step was skipped.
    pub fn is_skipping(&self) -> bool {
        self.in_a_row > 0
    }

    /// Takes the record of a step.
    ///
    /// # Errors
    /// One step too many in a row was skipped.
    pub fn take(&mut self, record: &StepRecord) -> Result<(), Fault> {
        if record.skipped {
            self.in_a_row += 1;
            warn!("step {} skipped: its loss or gradient is not finite", record.step);
        } else {
            self.in_a_row = 0;
            self.any_kept = true;
            // A later step with a finite loss is what shows that the weights saved were still good.
            if let Some((step, folder)) = &self.saved
                && *step < record.step
            {
                self.good = Some(folder.clone());
            }
        }
        match self.in_a_row > SKIPS_ALLOWED {
            true => Err(self.diverged(format!(
                "the loss or its gradient was not finite for {} steps in a row, the last one step {}",
                self.in_a_row, record.step
            ))),
            false => Ok(()),
        }
    }

    /// Looks at the values that a checkpoint is about to hold, after `step`.
    ///
    /// # Errors
    /// A value is not finite, or no step so far was.
    pub fn check_values(&self, values: &Tensor<1>, step: usize) -> Result<(), Fault> {
        if !self.any_kept && self.in_a_row > 0 {
            return Err(self.diverged(format!("no step up to {step} had a finite loss and gradient")));
        }
        match read(values.clone()).iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(self.diverged(format!("the weights after step {step} are not finite"))),
        }
    }

    fn diverged(&self, message: String) -> Fault {
        let fault = Fault::new(message);
        match self.good.as_deref().filter(|folder: &&Path| folder.exists()) {
            Some(folder) => fault.hint(format!(
                "the last good checkpoint is {}; lower `optimizer.learning_rate` and go on from there",
                folder.display()
            )),
            None => fault.hint("lower `optimizer.learning_rate`, or look at the data with `trainer check`"),
        }
    }
}

/// Sees after the first update that every factor that starts at zero has moved and that no frozen weight has.
pub struct Untouched {
    sums: Option<Vec<f32>>,
}

impl Untouched {
    /// Before the first update.
    pub fn new(trainee: &mut Trainee) -> Self {
        Self { sums: Some(trainee.frozen_sums()) }
    }

    /// Looks once, after the first update with a learning rate above zero and a finite gradient.
    ///
    /// # Errors
    /// An adapter that no gradient reaches.
    pub fn check(
        &mut self,
        trainee: &mut Trainee,
        layout: &Layout,
        before: &Tensor<1>,
        after: &Tensor<1>,
        learning_rate: f64,
    ) -> Result<(), Fault> {
        if learning_rate == 0.0 {
            return Ok(());
        }
        let Some(sums) = self.sums.take() else { return Ok(()) };
        let (before, after) = (read(before.clone()), read(after.clone()));
        if before == after {
            // A step without any learned weight, or a skipped one: look again after the next.
            self.sums = Some(sums);
            return Ok(());
        }
        let still = |slot: &&Slot| {
            let range = slot.offset..slot.offset + slot.length;
            let zero_at_first = slot.name.contains(".lora_B.") || slot.name.ends_with(".lora_embedding_A");
            zero_at_first && before[range.clone()] == after[range]
        };
        if let Some(slot) = layout.slots.iter().find(still) {
            return Err(Fault::new("the first update left an adapter where it was")
                .at(Place::Named(slot.name.clone()))
                .hint("no gradient reaches it: this is a fault of this program, please report it with the recipe"));
        }
        // Bit by bit: a base that holds NaN is as untouched as any other. Packed matrices need no look, nothing holds
        // them mutably.
        let bits = |sums: Vec<f32>| sums.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert!(bits(sums) == bits(trainee.frozen_sums()), "the first update changed a frozen weight");
        Ok(())
    }
}
