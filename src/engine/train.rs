//! The training loop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use checkpoints::{Checkpoint, Contents, Retention, Run, Trained};
use datasets::Example;
use faults::{Fault, Faults, Place as FaultPlace};
use losses::{Normalisation, Objective};
use tracing::info;

use super::backward::{Place, StepScale, StepSums, micro_batch};
use super::data::Order;
use super::guard::{Skips, Untouched};
use super::optimizer::Moments;
use super::parameters::{GradientSum, Layout};
use super::record::{Pending, evaluation_record};
use super::settings::Settings;
use super::state::{self, RunState};
use super::totals::Totals;
use super::trainee::Trainee;
use crate::report::Reporter;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// The user stopped it; a checkpoint was written at this step.
    Interrupted {
        /// The last step done.
        step: usize,
    },
}

/// What learns.
pub struct Learner<'a> {
    /// The model, its adapter and the auxiliary losses.
    pub trainee: &'a mut Trainee,
    /// What is minimised.
    pub objective: &'a mut dyn Objective,
}

/// What is learned from, and what that is measured on.
pub struct Rows<'a, 'b> {
    /// The training rows in the order of the run.
    pub order: &'a mut Order<'b>,
    /// The held-out rows; may be none.
    pub evaluation: &'a [Example],
}

/// Where all that happens is written down.
pub struct Log<'a> {
    /// The run's directory.
    pub run: &'a mut Run,
    /// Progress, metrics and events.
    pub reporter: &'a mut Reporter,
}

/// Trains from the start or from the checkpoint `resume` to the last step, or until `interrupted` is set.
///
/// # Errors
/// A checkpoint that does not fit, a disk that cannot be written, losses that are not finite for three steps in a row.
pub fn train(
    settings: &Settings,
    learner: Learner,
    rows: Rows,
    log: Log,
    resume: Option<&Checkpoint>,
    interrupted: &AtomicBool,
) -> Result<Outcome, Faults> {
    let Learner { trainee, objective } = learner;
    let Rows { order, evaluation } = rows;
    let Log { run, reporter } = log;
    let device = trainee.decoder.device().clone();
    let layout = Layout::of(trainee);
    let mut values = layout.gather(trainee);
    let mut moments = Moments::zeros(layout.length(), &device);
    let mut progress = settings.origin.clone();
    if let Some(checkpoint) = resume {
        let state = read_state(checkpoint)?;
        let RunState { step, skipped, best, pass_loss, stopped_early, .. } = state;
        // Where it stands is the checkpoint's; what it is made of is what was compared with it.
        progress = RunState { step, skipped, best, pass_loss, stopped_early, ..progress };
        (values, moments) = state::restore(checkpoint.training_state()?, &layout, objective, trainee)
            .map_err(|fault| fault.at(FaultPlace::file(&checkpoint.folder)))?;
        run.cut_metrics(progress.step)?;
        if settings.keep_best && progress.best.is_some_and(|(best, _)| best == progress.step) {
            run.mark_best(progress.step)?;
        }
    }
    moments.factors = settings.lora_plus_ratio.map(|ratio| layout.rate_factors(ratio));
    let mut untouched = Untouched::new(trainee);
    let mut skips = Skips::new(objective.overflow_hint());
    let mut pending: Option<Pending> = None;

    if progress.step == 0 && !evaluation.is_empty() {
        let record = evaluation_record(settings, trainee, evaluation, 0);
        reporter.evaluation(run, &record)?;
    }
    for step in progress.step + 1..=settings.steps {
        let started = Instant::now();
        let batches = order.batches(step);
        let scale = step_scale(&batches, objective, trainee, step);
        let mut sums = StepSums {
            gradients: GradientSum::new(&layout),
            totals: Totals::zeros(&device),
            auxiliaries: vec![None; trainee.auxiliaries.len()],
        };
        let step_seed = crate::random::key(settings.seed, &["step", &step.to_string()]);
        for (index, batch) in batches.iter().enumerate() {
            let seed = crate::random::key(settings.seed, &["micro-batch", &step.to_string(), &index.to_string()]);
            let place = Place { step, seed, step_seed, scale: scale.clone() };
            micro_batch(trainee, objective, batch, &place, settings.recompute, &mut sums);
        }
        let learning_rate = settings.schedule.at(step);
        let gradient = sums.gradients.flatten();
        let loss = sums.totals.loss();
        let (values_now, controls) = (values.clone(), layout.controls);
        let optimizer = &settings.optimizer;
        let (updated, norm) =
            optimizer.update_with_controls(values_now, gradient, &loss, &mut moments, learning_rate, controls);
        let updated = layout.damp(&values, updated, trainee, step);
        layout.scatter(&updated, trainee);
        for auxiliary in &mut trainee.auxiliaries {
            auxiliary.after_step(step);
        }
        if scale.objective > 0.0 {
            untouched.check(trainee, &layout, &values, &updated, learning_rate)?;
        }
        values = updated;

        let floor = order.floor(step).map(|sum| sum * scale.objective);
        let next = Pending {
            step,
            floor,
            learning_rate,
            norm,
            totals: sums.totals,
            auxiliary_losses: sums.auxiliaries,
            scale,
            diagnostics: objective.diagnostics(),
            auxiliary_diagnostics: trainee.auxiliaries.iter_mut().map(|a| (a.name().into(), a.diagnostics())).collect(),
            tokens: batches.iter().map(|batch| batch.tokens()).sum(),
            tokens_real: batches.iter().map(|batch| batch.tokens_real()).sum(),
            tokens_loss: batches.iter().map(|batch| batch.tokens_learned()).sum(),
            started,
            seconds: None,
        };
        // The record is read one step late: by then the device has it, and no step waits for its own numbers.
        let stop = interrupted.load(Ordering::SeqCst);
        let mut last = step == settings.steps;
        let due = |every: Option<usize>, last: bool| last || every.is_some_and(|every| step.is_multiple_of(every));
        let pass_ends = objective.early_stop().is_some() && step.is_multiple_of(order.steps_per_epoch());
        let mut ready: Vec<Pending> = pending.take().into_iter().collect();
        let evaluation_due = !evaluation.is_empty() && due(settings.evaluate_every, last);
        if evaluation_due || stop || due(settings.checkpoint_every, last) || pass_ends {
            ready.push(next)
        } else {
            pending = Some(next)
        }
        for done in ready {
            let (record, loss) = done.read();
            if objective.early_stop().is_some() {
                // A pass with a skipped step is never near its floor; infinity is no number of JSON.
                progress.pass_loss = if record.skipped { f64::MAX } else { progress.pass_loss + loss };
            }
            progress.skipped += usize::from(record.skipped);
            reporter.step(run, &record)?;
            skips.take(&record, run)?;
        }
        if let Some(pending) = &mut pending {
            pending.seconds = Some(started.elapsed().as_secs_f64());
        }
        progress.step = step;
        if pass_ends {
            let pass_loss = std::mem::take(&mut progress.pass_loss);
            if objective.early_stop().is_some_and(|gap| pass_loss <= (1.0 + gap) * order.floor_of_a_pass()) {
                info!("step {step} ends the run early: the loss of its pass is near enough to the floor");
                progress.stopped_early = true;
                last = true;
            }
        }
        let evaluate_now = !evaluation.is_empty() && due(settings.evaluate_every, last);
        let save_now = stop || due(settings.checkpoint_every, last);
        let mut best = false;
        if evaluate_now {
            let record = evaluation_record(settings, trainee, evaluation, step);
            if record.loss.is_finite() && progress.best.is_none_or(|(_, loss)| record.loss < loss) {
                progress.best = Some((step, record.loss));
                best = settings.keep_best;
            }
            reporter.evaluation(run, &record)?;
        }
        // What a skipped step would save is there already, and retention would let go of a good one for it.
        if (save_now || best) && (!skips.is_skipping() || stop || last) {
            skips.check_values(&values, step, run)?;
            if last {
                skips.check_end(run)?;
            }
            let contents = Contents {
                weights: weights(settings, trainee),
                training_state: state::save(&layout, &values, &moments, objective, trainee),
                state: serde_json::to_value(&progress).expect("a state is plain data"),
                beside: settings.beside.clone(),
                best,
            };
            let folder = run.save(step, &contents, &Retention { keep: settings.keep })?;
            info!("checkpoint {}", folder.display());
        }
        if stop && !last {
            return Ok(Outcome::Interrupted { step });
        }
        if last {
            break;
        }
    }
    Ok(Outcome::Finished)
}

/// The step's normalisers, from all of its micro-batches.
fn step_scale(batches: &[super::batch::Batch], objective: &dyn Objective, trainee: &Trainee, step: usize) -> StepScale {
    let normaliser = match objective.normalisation() {
        Normalisation::Tokens => batches.iter().map(|batch| batch.learned.len()).sum::<usize>(),
        Normalisation::Prompts => {
            let mut prompts: Vec<usize> = batches.iter().flat_map(|batch| batch.groups.iter().copied()).collect();
            prompts.sort_unstable();
            prompts.dedup();
            prompts.len()
        }
    };
    let auxiliaries = trainee.auxiliaries.iter().map(|auxiliary| {
        let units: f64 = batches.iter().map(|batch| auxiliary.units(&batch.rows)).sum();
        auxiliary.weight(step) / units.max(1.0)
    });
    let share: f64 = trainee.auxiliaries.iter().map(|auxiliary| auxiliary.token_loss_scale(step)).product();
    StepScale { objective: share / normaliser.max(1) as f64, auxiliaries: auxiliaries.collect() }
}

fn weights(settings: &Settings, trainee: &mut Trainee) -> Trained {
    match &settings.adapter {
        Some(config) => Trained::Adapter(checkpoints::Adapter {
            config: config.clone(),
            tensors: trainee.decoder.adapter_tensors(),
        }),
        None => Trained::Model(trainee.decoder.base_tensors()),
    }
}

/// Where the run of a checkpoint stood.
///
/// # Errors
/// A `state.json` that is not one of this program.
pub fn read_state(checkpoint: &Checkpoint) -> Result<RunState, Fault> {
    serde_json::from_value(checkpoint.state()?).map_err(|error| {
        Fault::new(format!("`state.json` is not a state of this program: {error}"))
            .at(FaultPlace::file(&checkpoint.folder))
            .hint("the checkpoint was written by another version")
    })
}
