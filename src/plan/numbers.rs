//! What follows from recipe, configuration and rows without a weight: steps, learning rates, memory and time.

use backbone::{Config, EncoderFiles};
use burn::tensor::{DType, Device};
use datasets::Dataset;
use faults::Fault;

use super::adaptation::Adaptation;
use super::estimate::{Basis, Estimate, held};
use super::{by_prompt, fitting, length, order, room, schedule, smaller};
use crate::engine::batch::Batch;
use crate::engine::evaluate;
use crate::engine::schedule::Schedule;
use crate::recipe::Recipe;

/// The numbers of a run.
pub(super) struct Numbers {
    /// Rows are padded to a multiple of this.
    pub width_multiple: usize,
    /// Steps that take every row once.
    pub steps_per_epoch: usize,
    /// Optimizer steps of the run.
    pub steps: usize,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// Memory, arithmetic and time.
    pub estimate: Estimate,
    /// A warning where memory may not suffice.
    pub warning: Option<String>,
}

/// The data, adapter and encoders that the numbers depend on.
pub(super) struct Of<'a> {
    /// The training rows.
    pub train: &'a Dataset,
    /// The evaluation rows.
    pub eval: Option<&'a Dataset>,
    /// What is trained.
    pub adaptation: &'a Adaptation,
    /// For each auxiliary loss, the sentence encoder that it needs.
    pub encoders: &'a [Option<EncoderFiles>],
}

impl Numbers {
    /// # Errors
    /// A warm-up as long as the run, or more memory than there is.
    pub(super) fn new(
        recipe: &Recipe,
        config: &Config,
        of: &Of,
        (device, dtype): (&Device, DType),
    ) -> Result<Self, Fault> {
        let width_multiple = backbone::device::width_multiple(device);
        let mut order = order(recipe, of.train, width_multiple);
        let steps_per_epoch = order.steps_per_epoch();
        let steps = length(recipe, steps_per_epoch);
        let schedule = schedule(recipe, steps)?;
        let fitted = fitting::rows(recipe, of.adaptation, of.train, width_multiple);
        let evaluated = of.eval.map_or(0, |eval| {
            let size = recipe.train.micro_batch_size;
            let batches = evaluate::batches(&eval.examples, size, width_multiple, by_prompt(recipe));
            batches.iter().map(Batch::tokens).max().unwrap_or(0)
        });
        let basis = Basis {
            recipe,
            config,
            adaptation: of.adaptation,
            auxiliaries: held(recipe, config, of.encoders),
            steps,
            fitted: fitted.iter().map(|row| row.len()).sum(),
            evaluated,
            device,
            dtype,
        };
        let estimate = Estimate::new(&basis, &mut order);
        let warning = room(&estimate.memory, device)
            .map_err(|fault| fault.at(recipe.places.of("train")).hint(smaller(&estimate, recipe)))?;
        Ok(Self { width_multiple, steps_per_epoch, steps, schedule, estimate, warning })
    }
}
