//! The training loop.

use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use backbone::Decoder;
use checkpoints::{Checkpoint, Contents, Retention, Run, Trained};
use datasets::Example;
use faults::{Faults, Place, counted};
use group::{Group, Pace};
use losses::Objective;
use tracing::{info, warn};

use super::data::Order;
use super::guard::Skips;
use super::record::{Pending, evaluation_record};
use super::settings::Settings;
use super::state::RunState;
use super::step::{StepNumbers, Trainer};
use super::together::{self, Told};
use super::trainee::Trainee;
use crate::report::{Numbers, Reporter};

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

/// The model in training and its objective.
pub struct Learner<'a> {
    /// The model, its adapter and the auxiliary losses.
    pub trainee: &'a mut Trainee,
    /// The objective.
    pub objective: &'a mut dyn Objective,
}

/// What is measured of the model at each evaluation beside the held-out rows: groups of named numbers, after a step. What
/// was drawn is written into the run's folder by the process that has it, whose numbers count.
pub type Observe<'a> = dyn Fn(&Decoder, usize, Option<&Run>) -> Result<Vec<(String, Numbers)>, Faults> + 'a;

/// The rows of a run: those that it trains on, and those that it is evaluated by.
pub struct Rows<'a, 'b> {
    /// The training rows in the order of the run.
    pub order: &'a mut Order<'b>,
    /// The held-out rows; may be none.
    pub evaluation: &'a [Example],
    /// The sources of the held-out rows, each with its range among them.
    pub sources: &'a [(&'a str, Range<usize>)],
    /// Metrics of the prompts that the run observes.
    pub observe: Option<&'a Observe<'a>>,
}

/// The processes that train together, and who may end them.
pub struct Company<'a> {
    /// All of them; a process by itself is a group, too.
    pub group: &'a Group,
    /// Set when this one is asked to end.
    pub interrupted: &'a AtomicBool,
}

/// Where a run writes its metrics, events and checkpoints.
pub struct Log<'a> {
    /// The run's directory.
    pub run: &'a mut Run,
    /// Progress, metrics and events.
    pub reporter: &'a mut Reporter,
}

/// Trains from the start or from the checkpoint `resume` to the last step, or until one of the processes is asked to end.
/// The first of them has a `log`; all others leave the run's folder alone.
///
/// # Errors
/// A checkpoint that does not fit, a disk that cannot be written, losses that are not finite for three steps in a row, an
/// adapter that the first update did not reach, another process that cannot go on.
pub fn train<'a>(
    settings: &'a Settings,
    learner: Learner<'a>,
    rows: Rows<'a, '_>,
    log: Option<Log<'a>>,
    resume: Option<&Checkpoint>,
    company: Company<'a>,
) -> Result<Outcome, Faults> {
    let mut training = Training::new(settings, learner, rows, log, company);
    match resume {
        Some(checkpoint) => training.resume(checkpoint)?,
        None => _ = training.evaluate(0)?,
    }
    for step in training.progress.step + 1..=settings.steps {
        let started = Instant::now();
        let batches = training.rows.order.batches(step);
        let numbers = training.trainer.step(step, &batches)?;

        let stop = training.is_asked_to_end(&numbers.told);
        let mut due = training.due(step, stop);
        training.record(numbers, started, due)?;
        if due.pass_ends && training.pass_is_near_the_floor(step) {
            due = Due { last: true, evaluate: true, save: true, ..due };
        }
        let best = due.evaluate && training.evaluate(step)?;
        if !due.last && training.is_out_of_patience(step) {
            due = Due { last: true, save: true, ..due };
        }
        if due.save || best {
            training.save(step, best, due)?;
        }
        if due.last {
            break;
        }
        if stop {
            return Ok(Outcome::Interrupted { step });
        }
    }
    Ok(Outcome::Finished)
}

/// A run under way.
struct Training<'a, 'b> {
    settings: &'a Settings,
    trainer: Trainer<'a>,
    rows: Rows<'a, 'b>,
    log: Option<Log<'a>>,
    group: &'a Group,
    pace: Pace,
    progress: RunState,
    skips: Skips,
    pending: Option<Pending>,
}

/// The evaluation, checkpoint and end that are due after a step.
#[derive(Clone, Copy)]
struct Due {
    /// The step is the run's last.
    last: bool,
    /// The user asked the run to end.
    stop: bool,
    /// Every prompt has been seen once more, of an objective that may end a run early.
    pass_ends: bool,
    evaluate: bool,
    save: bool,
}

impl<'a, 'b> Training<'a, 'b> {
    fn new(
        settings: &'a Settings,
        learner: Learner<'a>,
        rows: Rows<'a, 'b>,
        log: Option<Log<'a>>,
        company: Company<'a>,
    ) -> Self {
        let Company { group, interrupted } = company;
        let skips = Skips::new(learner.objective.overflow_hint());
        let trainer = Trainer::new(learner.trainee, learner.objective, settings.step).in_group(group, interrupted);
        let progress = settings.origin.clone();
        Self { settings, trainer, rows, log, group, pace: Pace::default(), progress, skips, pending: None }
    }

    /// Whether one of the processes is asked to end: then all do.
    fn is_asked_to_end(&self, told: &Told) -> bool {
        for rank in told.asked_to_end.iter().filter(|rank| **rank != self.group.rank()) {
            warn!("{} is asked to end: all stop after this step, with a checkpoint", self.group.named(*rank));
        }
        !told.asked_to_end.is_empty()
    }

    /// Restores weights, optimizer state, losses and progress from a checkpoint.
    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<(), Faults> {
        let RunState { step, skipped, best, evaluations_since_best, pass_loss, stopped_early, .. } =
            RunState::read(checkpoint)?;
        // Progress is the checkpoint's; fingerprints and recipe are this run's, which have been compared with it.
        self.progress = RunState {
            step,
            skipped,
            best,
            evaluations_since_best,
            pass_loss,
            stopped_early,
            ..self.settings.origin.clone()
        };
        let tensors = checkpoint.training_state()?;
        self.trainer.restore(tensors).map_err(|fault| fault.at(Place::file(&checkpoint.folder)))?;
        let Some(log) = &mut self.log else { return Ok(()) };
        log.run.cut_metrics(self.progress.step)?;
        if self.settings.keep_best && self.progress.best.is_some_and(|(best, _)| best == self.progress.step) {
            log.run.mark_best(self.progress.step)?;
        }
        Ok(())
    }

    fn due(&self, step: usize, stop: bool) -> Due {
        let last = step == self.settings.steps;
        let every = |steps: Option<usize>| last || steps.is_some_and(|steps| step.is_multiple_of(steps));
        let may_end_early = self.trainer.objective.early_stop().is_some();
        Due {
            last,
            stop,
            pass_ends: may_end_early && step.is_multiple_of(self.rows.order.steps_per_epoch()),
            evaluate: every(self.settings.evaluate_every),
            save: stop || every(self.settings.checkpoint_every),
        }
    }

    /// Logs a step. Its numbers are read one step late, unless something is due that needs them: by then the device has
    /// them, and no step waits for its own.
    fn record(&mut self, numbers: StepNumbers, started: Instant, due: Due) -> Result<(), Faults> {
        let step = numbers.step;
        let floor = self.rows.order.floor(step).map(|sum| sum * numbers.scale.objective);
        let next = Pending { numbers, floor, started, seconds: None };
        let mut ready: Vec<Pending> = self.pending.take().into_iter().collect();
        let is_evaluated = due.evaluate && !self.rows.evaluation.is_empty();
        if is_evaluated || due.save || due.pass_ends {
            ready.push(next);
        } else {
            self.pending = Some(next);
        }
        for done in ready {
            let (record, loss) = done.read();
            if let Some(slow) = self.pace.add(record.seconds, &record.waited) {
                let (name, share) = (self.group.named(slow.rank), 100.0 * slow.share);
                warn!("{name} is slow: the others waited for it {share:.0} % of the last {} steps", slow.steps);
            }
            if self.trainer.objective.early_stop().is_some() {
                // The largest number, so that a pass with a skipped step cannot end the run; JSON has no infinity.
                self.progress.pass_loss = if record.skipped { f64::MAX } else { self.progress.pass_loss + loss };
            }
            self.progress.skipped += usize::from(record.skipped);
            if let Some(log) = &mut self.log {
                log.reporter.step(log.run, &record)?;
            }
            self.skips.take(&record, run(&self.log))?;
        }
        if let Some(pending) = &mut self.pending {
            pending.seconds = Some(started.elapsed().as_secs_f64());
        }
        self.progress.step = step;
        Ok(())
    }

    /// Ends a pass over all prompts: true when its loss says that there is little left to learn.
    fn pass_is_near_the_floor(&mut self, step: usize) -> bool {
        let pass_loss = std::mem::take(&mut self.progress.pass_loss);
        let floor = self.rows.order.floor_of_a_pass();
        let is_near = self.trainer.objective.early_stop().is_some_and(|gap| pass_loss <= (1.0 + gap) * floor);
        if is_near {
            info!("step {step} ends the run early: the loss of its pass is near enough to the floor");
            self.progress.stopped_early = true;
        }
        is_near
    }

    /// Evaluates on the held-out rows, if there are any: true when the checkpoint of this step is the best to keep.
    fn evaluate(&mut self, step: usize) -> Result<bool, Faults> {
        if self.rows.evaluation.is_empty() {
            return Ok(false);
        }
        let started = Instant::now();
        let mut record = evaluation_record(self.settings, self.trainer.trainee, &self.rows, step, self.group)?;
        if let Some(observe) = self.rows.observe {
            record.measured.extend(self.observed(observe, step)?);
            record.seconds = started.elapsed().as_secs_f64();
        }
        let by = &self.settings.best_by;
        let value = by.of_line(&record.to_json());
        if step == 0 && value.is_none() && by.needs_prompts() {
            let known = record.measured.iter().flat_map(|(_, numbers)| numbers);
            return Err(by.missing(known.map(|(name, _)| name.as_str())).into());
        }
        // Before the first step there is nothing that could be kept.
        let value = value.filter(|_| step > 0);
        let best = value.filter(|value| self.progress.best.is_none_or(|(_, best)| by.is_better(*value, best)));
        let is_best = best.is_some();
        match best {
            Some(value) => {
                self.progress.best = Some((step, value));
                self.progress.evaluations_since_best = 0;
            }
            None => self.progress.evaluations_since_best += usize::from(step > 0),
        }
        if let Some(log) = &mut self.log {
            log.reporter.evaluation(log.run, &record)?;
        }
        Ok(is_best && self.settings.keep_best)
    }

    /// What is measured beside the held-out rows, as the first process has it.
    fn observed(&self, observe: &Observe<'_>, step: usize) -> Result<Vec<(String, Numbers)>, Faults> {
        let found = observe(&self.trainer.trainee.decoder, step, run(&self.log))?;
        Ok(together::from_first(self.group, found)?)
    }

    /// Ends a run whose evaluations no longer get better.
    fn is_out_of_patience(&self, step: usize) -> bool {
        let is_out = self.progress.is_out_of_patience(self.settings.patience);
        if is_out {
            let (name, since) = (self.settings.best_by.name(), self.progress.evaluations_since_best);
            info!("step {step} ends the run early: no better {name} in {}", counted(since as u64, "evaluation"));
        }
        is_out
    }

    fn save(&mut self, step: usize, best: bool, due: Due) -> Result<(), Faults> {
        // After a skipped step the values are those of the last checkpoint: saving them again would push a good one out.
        if self.skips.is_skipping() && !due.stop && !due.last {
            return Ok(());
        }
        self.skips.check_values(self.trainer.values(), step, run(&self.log))?;
        // A step that a damaged weight took part in is not to be kept.
        self.trainer.check_frozen()?;
        if due.last {
            self.skips.check_end(run(&self.log))?;
        }
        self.trainer.check_same()?;
        let Some(log) = &mut self.log else { return Ok(()) };
        let contents = Contents {
            weights: weights(self.settings, self.trainer.trainee),
            training_state: self.trainer.state(),
            state: serde_json::to_value(&self.progress).expect("a state is plain data"),
            beside: self.settings.beside.clone(),
            best,
        };
        let folder = log.run.save(step, &contents, &Retention { keep: self.settings.keep })?;
        info!("checkpoint {}", folder.display());
        Ok(())
    }
}

/// The run's folder, of the process that has it.
fn run<'a>(log: &'a Option<Log<'_>>) -> Option<&'a Run> {
    log.as_ref().map(|log| &*log.run)
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
