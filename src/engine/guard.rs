//! What is checked while a run goes on: that losses stay finite, that the first update reached every adapter, and that it
//! left the frozen weights alone.

use backbone::values as read;
use burn::tensor::Tensor;
use checkpoints::Run;
use faults::{Fault, Place};
use tracing::warn;

use super::parameters::{Layout, Slot};
use super::trainee::Trainee;
use crate::report::StepRecord;

/// Steps in a row that may be skipped because a loss or gradient is not finite; one more stops the run.
const SKIPS_ALLOWED: usize = 2;

/// Counts the steps that were skipped.
#[derive(Default)]
pub struct Skips {
    in_a_row: usize,
    any_kept: bool,
    /// The objective's hint for weights that overflow.
    overflow_hint: Option<String>,
    /// The plain nll of the last step was finite.
    nll_is_finite: bool,
}

impl Skips {
    /// No step yet; `overflow_hint` is what the objective would change when its weights overflow.
    pub fn new(overflow_hint: Option<String>) -> Self {
        Self { overflow_hint, ..Self::default() }
    }

    /// True while the last step was skipped.
    pub fn is_skipping(&self) -> bool {
        self.in_a_row > 0
    }

    /// Takes the record of a step, which `run` has in its metrics already; no other process than the first has a run.
    ///
    /// # Errors
    /// One step too many in a row was skipped.
    pub fn take(&mut self, record: &StepRecord, run: Option<&Run>) -> Result<(), Fault> {
        if record.skipped {
            self.in_a_row += 1;
            self.nll_is_finite = record.nll.is_finite();
            warn!("step {} skipped: its loss or gradient is not finite", record.step);
        } else {
            self.in_a_row = 0;
            self.any_kept = true;
        }
        match self.in_a_row > SKIPS_ALLOWED {
            true => Err(self.diverged(
                format!(
                    "the loss or its gradient was not finite for {} steps in a row, the last one step {}",
                    self.in_a_row, record.step
                ),
                run,
            )),
            false => Ok(()),
        }
    }

    /// Checks the trained values that the checkpoint of `step` is about to hold.
    ///
    /// # Errors
    /// A value is not finite, or no step so far was.
    pub fn check_values(&self, values: &Tensor<1>, step: usize, run: Option<&Run>) -> Result<(), Fault> {
        if !self.any_kept && self.in_a_row > 0 {
            return Err(self.diverged(format!("no step up to {step} had a finite loss and gradient"), run));
        }
        match read(values.clone()).iter().all(|value| value.is_finite()) {
            true => Ok(()),
            false => Err(self.diverged(format!("the weights after step {step} are not finite"), run)),
        }
    }

    /// Refuses to end a run on a skipped step.
    ///
    /// # Errors
    /// The last step was skipped: nobody knows whether what was saved is any good.
    pub fn check_end(&self, run: Option<&Run>) -> Result<(), Fault> {
        match self.in_a_row {
            0 => Ok(()),
            steps => {
                Err(self.diverged(format!("the run ended with a loss or gradient not finite, {steps} in a row"), run))
            }
        }
    }

    /// Names the last checkpoint that a later finite step has shown to be good, if there is one, and what to change.
    fn diverged(&self, message: String, run: Option<&Run>) -> Fault {
        let fault = Fault::new(message);
        // The process that has the run's folder tells of it.
        let Some(run) = run else { return fault };
        let fault = fault.at(Place::file(run.folder()));
        // Nothing that is wrong with the run's files is worse news than this.
        let checkpoints = run.checkpoints().unwrap_or_default();
        let lines = run.metrics().unwrap_or_default();
        let finite = lines.iter().filter(|line| line["split"] == "train" && line["skipped"] != true);
        let last_finite = finite.filter_map(|line| line["step"].as_u64()).max().unwrap_or(0);
        let good = checkpoints.iter().rev().find(|(step, _)| (*step as u64) < last_finite);
        // With a finite nll it is the weights that overflow, in the loss or in its gradient.
        let overflow = self.overflow_hint.as_deref().filter(|_| self.nll_is_finite);
        let change = overflow.unwrap_or(match self.any_kept {
            true => "lower `optimizer.learning_rate`",
            false => {
                "see with `trainer inspect` whether what the run starts from holds values that are not finite, or lower \
                 `optimizer.learning_rate`"
            }
        });
        fault.hint(match (good, checkpoints.last()) {
            (Some((_, folder)), _) => {
                format!("the last good checkpoint is {}; {change} and go on from there", folder.display())
            }
            (None, Some((_, folder))) => format!(
                "the last checkpoint is {}, and no step after it was finite; {change}, or look at the data with `trainer check`",
                folder.display()
            ),
            (None, None) => format!("{change}, or look at the data with `trainer check`"),
        })
    }
}

/// Sees after the first update that every factor that starts at zero has moved, and then and before every checkpoint that
/// no frozen weight has: neither this program nor a memory that fails may change one.
pub struct Untouched {
    checksums: Vec<(String, Vec<u64>)>,
    is_first: bool,
}

impl Untouched {
    /// Before the first update.
    pub fn new(trainee: &mut Trainee) -> Self {
        Self { checksums: trainee.decoder.frozen_checksums(), is_first: true }
    }

    /// Checks once, after the first update with a learning rate above zero and a finite gradient.
    ///
    /// # Errors
    /// An adapter that no gradient reaches, or a frozen weight that has changed.
    pub fn check_first(
        &mut self,
        trainee: &mut Trainee,
        layout: &Layout,
        before: &Tensor<1>,
        after: &Tensor<1>,
        learning_rate: f64,
    ) -> Result<(), Fault> {
        if !self.is_first || learning_rate == 0.0 {
            return Ok(());
        }
        let (before, after) = (read(before.clone()), read(after.clone()));
        // By their bits: values that are not finite are skipped ones, too.
        if before.iter().map(|value| value.to_bits()).eq(after.iter().map(|value| value.to_bits())) {
            // A step without any learned weight, or a skipped one: look again after the next.
            return Ok(());
        }
        self.is_first = false;
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
        self.check(trainee)
    }

    /// Looks at the frozen weights.
    ///
    /// # Errors
    /// One of them has changed since the run began.
    pub fn check(&self, trainee: &mut Trainee) -> Result<(), Fault> {
        let now = trainee.decoder.frozen_checksums();
        let changed = self.checksums.iter().zip(&now).find(|(before, now)| before != now);
        match changed {
            None => Ok(()),
            Some(((name, _), _)) => Err(Fault::new("a frozen weight is no longer what it was when the run began")
                .at(Place::Named(name.clone()))
                .hint(
                    "nothing of this program writes it: test this machine's memory, and go on with `--resume` from the checkpoint \
                     before on another one; where it comes again, please report it with the recipe",
                )),
        }
    }
}

#[cfg(test)]
mod tests {
    use backbone::{Decoder, ModelFiles, Source};
    use burn::tensor::{DType, Device, Tensor, TensorData};
    use losses::Parameter;

    use super::*;

    #[test]
    fn a_frozen_weight_that_changes_by_a_bit_is_named() {
        let (files, device) = (ModelFiles::Embedded, Device::flex());
        let weights = files.weights().expect("its weights");
        let source = Source::frozen(&weights, DType::F32, &device);
        let decoder = Decoder::load(files.config().expect("its configuration"), &source).expect("its tensors");
        let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
        let untouched = Untouched::new(&mut trainee);
        // Norms, and the matrices that are packed.
        assert!(untouched.checksums.len() > 28, "{}", untouched.checksums.len());
        assert!(untouched.check(&mut trainee).is_ok());
        trainee.decoder.visit(&mut |name, parameter| {
            if let Parameter::Vector(tensor) = parameter
                && name == "model.norm.weight"
            {
                let mut values = read(tensor.clone());
                values[5] = f32::from_bits(values[5].to_bits() ^ 1);
                let length = values.len();
                *tensor = Tensor::from_data(TensorData::new(values, [length]), &tensor.device());
            }
        });
        let fault = untouched.check(&mut trainee).expect_err("a bit has turned over").to_string();
        assert!(fault.contains("model.norm.weight") && fault.contains("no longer what it was"), "{fault}");
    }
}
