//! One optimizer step: forward and backward through all of its micro-batches, one normalisation over them, one clip and one
//! update (controls of an auxiliary loss have their own).
//!
//! The training loop, `trainer bench` and the tests against PEFT and against a GPU all take this very step.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use burn::tensor::Tensor;
use checkpoints::StoredTensor;
use faults::Fault;
use group::Group;
use losses::{Nll, Normalisation, Objective, Terms};

use super::backward::{MicroStep, Recompute, StepScale, StepSums, micro_batch};
use super::batch::Batch;
use super::guard::Untouched;
use super::optimizer::{AdamW, Moments, update_with_controls};
use super::parameters::{GradientSum, Layout, Slot};
use super::remembering::Remembering;
use super::schedule::Schedule;
use super::state;
use super::together::{self, Told};
use super::totals::Totals;
use super::trainee::Trainee;

/// The settings of an optimizer step; the same for all steps of a run.
#[derive(Debug, Clone, Copy)]
pub struct StepSettings {
    /// Seed of every random stream.
    pub seed: u64,
    /// Which activations are kept for the backward pass.
    pub recompute: Recompute,
    /// The optimizer.
    pub optimizer: AdamW,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// The learning rate of every `B` of an adapter as a multiple of that of all else.
    pub lora_plus_ratio: Option<f64>,
    /// The first steps, which minimise the nll in place of the objective.
    pub warm_start: usize,
    /// Label smoothing and entropy bonus.
    pub terms: Terms,
    /// The size of the noise on the embeddings.
    pub neftune_alpha: Option<f64>,
}

impl StepSettings {
    /// AdamW with its usual settings and clipping at 1, the objective from the first step on, and nothing beside it.
    pub const fn plain(seed: u64, recompute: Recompute, schedule: Schedule) -> Self {
        Self {
            seed,
            recompute,
            optimizer: AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0, clip_norm: Some(1.0) },
            schedule,
            lora_plus_ratio: None,
            warm_start: 0,
            terms: Terms::NONE,
            neftune_alpha: None,
        }
    }

    /// The seeds and settings of micro-batch `index` of step `step`, which is normalised by `scale`.
    pub fn micro_step(&self, step: usize, index: usize, scale: StepScale) -> MicroStep {
        let step_name = step.to_string();
        MicroStep {
            step,
            seed: backbone::random::key(self.seed, &["micro-batch", &step_name, &index.to_string()]),
            step_seed: backbone::random::key(self.seed, &["step", &step_name]),
            scale,
            terms: self.terms,
            neftune_alpha: self.neftune_alpha,
        }
    }
}

/// A model that is trained step by step, with its objective and the optimizer's state.
pub struct Trainer<'a> {
    /// The model, its adapter and the auxiliary losses.
    pub trainee: &'a mut Trainee,
    /// The objective.
    pub objective: &'a mut dyn Objective,
    settings: StepSettings,
    layout: Layout,
    /// The exact f32 values of everything trained, `[layout.length()]`: what a bf16 backbone holds is rounded.
    values: Tensor<1>,
    moments: Moments,
    untouched: Untouched,
    /// The processes that share the steps.
    group: Group,
    /// Set when this process is asked to end.
    interrupted: &'a AtomicBool,
    /// The objective's weights depend on what it saw before.
    remembers: bool,
}

/// For a trainer that nobody interrupts.
static NEVER: AtomicBool = AtomicBool::new(false);

/// The gradient of a step before clipping, with the sums that were taken on the way.
pub struct StepGradient {
    /// The gradient of all trained values, in the order of [`Trainer::slots`], `[length]`.
    pub gradient: Tensor<1>,
    /// Sums over the learned tokens, on the device.
    pub totals: Totals,
    /// For each auxiliary loss, the sum of its losses before weight and normaliser, `[1]`, on the device.
    pub auxiliary_losses: Vec<Option<Tensor<1>>>,
    /// How the step was normalised.
    pub scale: StepScale,
}

/// The numbers of a step that is done. Those that the model computed are still on the device, so that the next step need
/// not wait for them.
pub struct StepNumbers {
    /// The optimizer step, from 1.
    pub step: usize,
    /// The learning rate of its update.
    pub learning_rate: f64,
    /// The gradient's global norm before clipping, `[1]`.
    pub norm: Tensor<1>,
    /// Sums over its learned tokens.
    pub totals: Totals,
    /// For each auxiliary loss, the sum of its losses, `[1]`.
    pub auxiliary_losses: Vec<Option<Tensor<1>>>,
    /// How it was normalised.
    pub scale: StepScale,
    /// The objective's own numbers.
    pub diagnostics: Vec<(String, f64)>,
    /// The auxiliary losses' own numbers, by their names.
    pub auxiliary_diagnostics: Vec<(String, Vec<(String, f64)>)>,
    /// Tokens processed, padding included.
    pub tokens: usize,
    /// Tokens without padding.
    pub tokens_real: usize,
    /// Learned tokens of all rows.
    pub tokens_loss: usize,
    /// What the other processes have told along with the step.
    pub told: Told,
}

impl<'a> Trainer<'a> {
    /// Before the first step.
    pub fn new(trainee: &'a mut Trainee, objective: &'a mut dyn Objective, settings: StepSettings) -> Self {
        let layout = Layout::of(trainee);
        let values = layout.gather(trainee);
        let mut moments = Moments::zeros(layout.length(), trainee.decoder.device());
        moments.factors = settings.lora_plus_ratio.map(|ratio| layout.rate_factors(ratio));
        let untouched = Untouched::new(trainee);
        let remembers = objective.state().is_some();
        let (group, interrupted) = (Group::single(), &NEVER);
        Self { trainee, objective, settings, layout, values, moments, untouched, group, interrupted, remembers }
    }

    /// Shares the steps with other processes, each of which is a trainer of the same: of the micro-batches each takes its
    /// part. `interrupted` is set when this one is asked to end, which all are told of.
    pub fn in_group(self, group: &Group, interrupted: &'a AtomicBool) -> Self {
        Self { group: group.clone(), interrupted, ..self }
    }

    /// Goes on from the tensors that [`Trainer::state`] gave.
    ///
    /// # Errors
    /// A tensor that is missing or of another shape, or a state that the objective refuses.
    pub fn restore(&mut self, tensors: BTreeMap<String, StoredTensor>) -> Result<(), Fault> {
        let factors = self.moments.factors.take();
        let (values, moments) = state::restore(tensors, &self.layout, self.objective, self.trainee)?;
        self.values = values;
        self.moments = Moments { factors, ..moments };
        Ok(())
    }

    /// Takes optimizer step `step`, from 1, on its micro-batches.
    ///
    /// A loss or gradient that is not finite leaves everything trained as it was; the record of the step says so.
    ///
    /// # Errors
    /// An adapter that the first update did not reach, or another process that cannot go on.
    pub fn step(&mut self, step: usize, batches: &[Batch]) -> Result<StepNumbers, Fault> {
        let mut found = self.gradient(step, batches)?;
        let auxiliaries = &mut self.trainee.auxiliaries;
        let objective: Option<&mut dyn Objective> = if self.remembers { None } else { Some(&mut *self.objective) };
        let told = together::add_up(&self.group, self.interrupted, &mut found, objective, auxiliaries)?;
        let StepGradient { gradient, totals, auxiliary_losses, scale } = found;
        let (learning_rate, norm) = self.update(step, gradient, &totals.loss(), scale.objective > 0.0)?;
        let diagnostics = if self.is_warm_start(step) { Vec::new() } else { self.objective.diagnostics() };
        let count = |tokens: fn(&Batch) -> usize| batches.iter().map(tokens).sum();
        let of_auxiliary = self.trainee.auxiliaries.iter_mut();
        Ok(StepNumbers {
            step,
            learning_rate,
            norm,
            totals,
            auxiliary_losses,
            scale,
            diagnostics,
            auxiliary_diagnostics: of_auxiliary.map(|loss| (loss.name().into(), loss.diagnostics())).collect(),
            tokens: count(Batch::tokens),
            tokens_real: count(Batch::tokens_real),
            tokens_loss: count(Batch::tokens_learned),
            told,
        })
    }

    fn is_warm_start(&self, step: usize) -> bool {
        step <= self.settings.warm_start
    }

    /// Forward and backward: the gradient of a step, summed over those of its micro-batches that this process takes.
    ///
    /// # Errors
    /// Another process that cannot go on, where they show each other what the objective has to see.
    pub fn gradient(&mut self, step: usize, batches: &[Batch]) -> Result<StepGradient, Fault> {
        let scale = self.scale(step, batches);
        let mut sums = StepSums {
            gradients: GradientSum::new(&self.layout),
            totals: Totals::zeros(self.trainee.decoder.device()),
            auxiliaries: vec![None; self.trainee.auxiliaries.len()],
        };
        let mut nll = Nll;
        let is_warm_start = self.is_warm_start(step);
        let objective: &mut dyn Objective = if is_warm_start { &mut nll } else { self.objective };
        let device = self.trainee.decoder.device().clone();
        let remembers = self.remembers && !is_warm_start;
        let mut objective = Remembering::new(objective, &self.group, batches, device, remembers);
        for index in self.group.share(batches.len()) {
            let of = self.settings.micro_step(step, index, scale.clone());
            micro_batch(self.trainee, &mut objective, &batches[index], &of, self.settings.recompute, &mut sums);
            objective.end_rounds(Some(index))?;
        }
        objective.end_rounds(None)?;
        let StepSums { gradients, totals, auxiliaries } = sums;
        Ok(StepGradient { gradient: gradients.flatten(), totals, auxiliary_losses: auxiliaries, scale })
    }

    /// Clips the gradient and moves everything trained; gives the learning rate and the gradient's norm, `[1]`. With
    /// `is_weighted`, the objective has a part in the loss, so that its gradient must reach every adapter.
    fn update(
        &mut self,
        step: usize,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        is_weighted: bool,
    ) -> Result<(f64, Tensor<1>), Fault> {
        let learning_rate = self.settings.schedule.at(step);
        let before = self.values.clone();
        let (updated, norm) = update_with_controls(
            &self.settings.optimizer,
            before.clone(),
            gradient,
            loss,
            &mut self.moments,
            learning_rate,
            self.layout.controls,
        );
        let updated = self.layout.damp(&before, updated, self.trainee, step);
        self.layout.scatter(&updated, self.trainee);
        for auxiliary in &mut self.trainee.auxiliaries {
            auxiliary.after_step(step);
        }
        if is_weighted {
            self.untouched.check_first(self.trainee, &self.layout, &before, &updated, learning_rate)?;
        }
        self.values = updated;
        Ok((learning_rate, norm))
    }

    /// The step's normalisers, from all of its micro-batches.
    fn scale(&self, step: usize, batches: &[Batch]) -> StepScale {
        let normaliser = match self.objective.normalisation() {
            Normalisation::Tokens => batches.iter().map(|batch| batch.learned.len()).sum::<usize>(),
            Normalisation::Prompts => {
                let mut prompts: Vec<usize> = batches.iter().flat_map(|batch| batch.groups.iter().copied()).collect();
                prompts.sort_unstable();
                prompts.dedup();
                prompts.len()
            }
        };
        let auxiliaries = self.trainee.auxiliaries.iter().map(|auxiliary| {
            let units: f64 = batches.iter().map(|batch| auxiliary.units(&batch.rows)).sum();
            auxiliary.weight(step) / units.max(1.0)
        });
        let share: f64 = self.trainee.auxiliaries.iter().map(|auxiliary| auxiliary.token_loss_scale(step)).product();
        StepScale { objective: share / normaliser.max(1) as f64, auxiliaries: auxiliaries.collect() }
    }

    /// Looks whether the frozen weights are still what they were before the first step.
    ///
    /// # Errors
    /// One that is not.
    pub fn check_frozen(&mut self) -> Result<(), Fault> {
        self.untouched.check(self.trainee)
    }

    /// Looks whether all processes that share the steps still train the same.
    ///
    /// # Errors
    /// One that does not, or that cannot go on.
    pub fn check_same(&self) -> Result<(), Fault> {
        let trained = [&self.values, &self.moments.first, &self.moments.second];
        together::check_same(&self.group, trained.into_iter().cloned(), "the weights and moments")
    }

    /// Where each trained tensor stands in the flat vectors.
    pub fn slots(&self) -> &[Slot] {
        &self.layout.slots
    }

    /// The exact values of everything trained, `[length]`.
    pub fn values(&self) -> &Tensor<1> {
        &self.values
    }

    /// What a checkpoint holds beside the weights: exact values, moments, and what the losses remember.
    pub fn state(&self) -> BTreeMap<String, StoredTensor> {
        state::save(&self.layout, &self.values, &self.moments, self.objective, self.trainee)
    }
}
