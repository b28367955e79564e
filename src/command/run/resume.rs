//! `--resume`: the checkpoint that a run goes on from, whether it is still the run that was started, and what is said of
//! where it goes on.
//!
//! Base, rows and encoders are known by what they are. A path that moved is told; other content is refused.

use std::path::Path;

use backbone::ModelFiles;
use backbone::{Identity, TokenizerParts, local_folder};
use checkpoints::{Checkpoint, Retention, Run};
use datasets::Moment;
use faults::{Fault, Faults, Place};
use losses::Registry;

use crate::chat::kept_template;
use crate::engine::schedule::Schedule;
use crate::engine::state::RunState;
use crate::plan::print::duration;
use crate::plan::{Plan, length, schedule};
use crate::recipe::{self, Backbone, Changes, Recipe, since_start, up_to_date};
use crate::report::{Reporter, Watched};

/// A run that goes on.
pub struct Resumed {
    /// Its latest checkpoint.
    pub checkpoint: Checkpoint,
    /// Where that stood.
    pub state: RunState,
    changes: Changes,
}

impl Resumed {
    /// The latest checkpoint in `folder`, if the recipe is still one of the same steps.
    ///
    /// # Errors
    /// No checkpoint, or a recipe that changed.
    pub fn find(folder: &Path, recipe: &Recipe, registry: &Registry) -> Result<Self, Faults> {
        let checkpoint = Run::open(folder)?.latest()?.ok_or_else(|| {
            let first = match recipe.checkpoint.every {
                Some(every) => format!("the first comes after step {every}, as `checkpoint.every` says"),
                None => "the only one comes at the end, as `checkpoint.every` = 0 says".to_owned(),
            };
            Fault::new("there is no checkpoint to resume from: the run ended before its first")
                .at(Place::file(folder))
                .hint(format!("remove the folder, or name another `output.dir`, and start without `--resume`; {first}"))
        })?;
        let state = RunState::read(&checkpoint)?;
        let old: toml::Table = toml::from_str(&state.recipe).map_err(|error| {
            Fault::new(format!("the checkpoint's recipe cannot be read: {error}"))
                .at(Place::file(checkpoint.folder.join("state.json")))
                .hint("another version wrote it: start a new run in another `output.dir`")
        })?;
        let mut changes = since_start(&up_to_date(old, registry), &recipe.resolved);
        // Without anything to compare, a path is all there is.
        if state.base.is_none() {
            changes.blocking.append(&mut changes.base);
        }
        let same = |file: &String| {
            let kept = kept_template(&checkpoint).and_then(|copy| fs_err::read(copy).ok());
            kept.is_some() && faults::read_file(Path::new(file)).ok() == kept
        };
        if !recipe.data.chat.template.as_ref().is_some_and(same) {
            changes.blocking.append(&mut changes.template);
        }
        if state.encoders.is_empty() {
            changes.blocking.append(&mut changes.encoders);
        }
        let resumed = Self { checkpoint, state, changes };
        resumed.refuse(&resumed.changes.blocking)?;
        Ok(resumed)
    }

    /// The plan of what is left, as that of the whole run.
    ///
    /// # Errors
    /// As [`Plan::resuming`]; where a base has gone, the fault says how to name its place.
    pub fn plan(&self, mut recipe: Recipe) -> Result<Plan, Faults> {
        if let (None, Some(moment)) = (recipe.data.chat.date, &self.state.moment) {
            let place = || Place::file(self.checkpoint.folder.join("state.json"));
            recipe.data.chat.date = Some(Moment::parse(moment).map_err(|fault| fault.at(place()))?);
        }
        if let (Some(file), Some(copy)) = (&mut recipe.data.chat.template, kept_template(&self.checkpoint))
            && !Path::new(file).exists()
        {
            tracing::info!("there is no `{file}` any more: the chat template is that of the checkpoint");
            *file = copy.display().to_string();
        }
        if let Backbone::Pretrained { path, revision } = &recipe.model.backbone {
            let then = self.state.base.as_ref().and_then(|base| base.folder.as_deref());
            let folder = then.filter(|folder| Path::new(folder).is_dir()).unwrap_or("DIR");
            ModelFiles::locate(path, revision.as_deref()).map_err(|fault| {
                let now = "where the same base lies now is said with";
                let hint = format!("{now} `--base {folder}`: its content is compared");
                let hint = match &fault.hint {
                    Some(of_hub) if path.contains('/') && !local(path) => format!("{of_hub}; {hint}"),
                    _ => hint,
                };
                fault.at(recipe.places.of("model.path")).hint(hint)
            })?;
        }
        Plan::resuming(recipe, &self.checkpoint)
    }

    /// Compares base, rows and encoders with those of the start, and tells of paths that moved. Gives what they are for the
    /// checkpoints to come.
    ///
    /// # Errors
    /// One of them is not the same any more.
    pub fn compare(&self, plan: &Plan) -> Result<(Option<Identity>, Vec<Option<String>>), Faults> {
        let mut changed = Vec::new();
        if self.state.train_fingerprint != plan.train.fingerprint {
            changed.push("the rows of `data.train` are not the same any more".to_owned());
        }
        if self.state.eval_fingerprint != plan.eval.as_ref().map(|eval| eval.fingerprint.clone()) {
            changed.push("the rows of `data.eval` are not the same any more".to_owned());
        }
        let encoders = plan.encoder_fingerprints()?;
        if !self.state.encoders.is_empty() && self.state.encoders != encoders {
            changed.push("a sentence encoder is not the same any more".to_owned());
        }
        let base = match (&self.state.base, &plan.files) {
            (Some(base), Some(files)) => {
                let tokenizer = base.other_tokenizer(files, TokenizerParts::default())?;
                let tokenizer = tokenizer.map(|difference| format!("the base has another tokenizer: {difference}"));
                match tokenizer {
                    // It may be why they are others.
                    Some(difference) if !changed.is_empty() => changed.push(difference),
                    Some(difference) => tracing::warn!("{difference}"),
                    None => {}
                }
                let difference = base.difference(files)?;
                changed.extend(difference.map(|difference| format!("the base is another one: {difference}")));
                Some(Identity { folder: self.base_folder(plan), config: files.config_text()?, ..base.clone() })
            }
            (None, Some(_)) => {
                tracing::info!("the checkpoint does not say what its base was: that it is the same is not looked at");
                plan.identity()?
            }
            (_, None) => None,
        };
        self.refuse(&changed)?;
        let places = [&self.changes.base, &self.changes.encoders, &self.changes.rows, &self.changes.template];
        for change in places.into_iter().flatten() {
            tracing::info!("another place, the same content: {change}");
        }
        for change in &self.changes.begun_with {
            tracing::info!("the adapter is that of the checkpoint, and no other is read: {change}");
        }
        Ok((base, encoders))
    }

    fn base_folder(&self, plan: &Plan) -> Option<String> {
        match &plan.recipe.model.backbone {
            Backbone::Pretrained { path, .. } => local_folder(path),
            Backbone::Init(_) => None,
        }
    }

    fn refuse(&self, changed: &[String]) -> Result<(), Fault> {
        refuse_changes(changed, &self.checkpoint.folder)
    }

    /// Where the run goes on, as a line of its plan, with so many `processes`.
    pub fn line(&self, plan: &Plan, processes: usize) -> String {
        let done = self.checkpoint.step;
        let pass = done / plan.steps_per_epoch.max(1) + 1;
        let best = match self.state.best {
            Some((step, loss)) => format!("; best so far {loss:.4}, at step {step}"),
            None => String::new(),
        };
        let left = plan.steps.saturating_sub(done) as f64 / plan.steps.max(1) as f64;
        let time = duration(left * plan.estimate.seconds);
        let shared = match self.state.processes {
            before if before == processes => String::new(),
            before => format!("; the processes are {processes} and were {before}"),
        };
        let steps = plan.steps;
        format!("{:<12} after step {done} of {steps}, in pass {pass}, about {time} to go{best}{shared}\n", "goes on")
    }

    /// What moves of the learning rate because the run has another length now.
    pub fn rate_warning(&self, plan: &Plan, registry: &Registry) -> Option<String> {
        // A recipe of another program's objective is none that was started here.
        let old = recipe::parse("recipe.toml", &self.state.recipe, &[], registry).ok()?;
        let old = schedule(&old, length(&old, plan.steps_per_epoch)).ok()?;
        moved(&old, &plan.schedule, self.checkpoint.step)
    }

    /// Does what a run does after its last checkpoint, where it was ended before that was done. Tells whether there was
    /// anything left.
    ///
    /// # Errors
    /// A file of the run that cannot be written.
    pub fn finish(&self, run: &mut Run, plan: &Plan, watched: &Watched) -> Result<bool, Faults> {
        let step = self.checkpoint.step;
        run.lock()?;
        let is_best = plan.recipe.checkpoint.keep_best && self.state.best.is_some_and(|(best, _)| best == step);
        let unnamed = is_best && run.best()?.is_none_or(|best| best.step != step);
        if unnamed {
            run.mark_best(step)?;
        }
        let swept = run.tidy(step, &Retention { keep: plan.recipe.checkpoint.keep })?;
        // The page tells which checkpoint is the best.
        let unreported = unnamed || !Reporter::has_told(run, step)?;
        if unreported {
            Reporter::new(plan.steps, step, watched.clone()).finish(run, &plan.recipe.resolved)?;
        }
        Ok(unnamed || swept || unreported)
    }
}

/// True for a path that can be no name on the hub.
fn local(path: &str) -> bool {
    path.starts_with(['.', '/', '~'])
}

/// Refuses to go on with what lies in `folder` where something has changed.
pub(super) fn refuse_changes(changed: &[String], folder: &Path) -> Result<(), Fault> {
    if changed.is_empty() {
        return Ok(());
    }
    Err(Fault::new(format!("this is not the run that was started: {}", changed.join("; ")))
        .at(Place::file(folder))
        .hint("take the changes back, or start a new run in another `output.dir`"))
}

/// How the rate of a run that goes on after step `done` moves from one schedule to another; `None` where it does not.
fn moved(old: &Schedule, new: &Schedule, done: usize) -> Option<String> {
    let differs = |step: usize| old.at(step) != new.at(step);
    let next = done + 1;
    let at_next = next <= new.total && (differs(next) || next > old.total && new.at(next) != old.at(old.total.max(1)));
    let before = (1..=done.min(old.total)).any(differs);
    if old.total == new.total && old.warmup == new.warmup || !at_next && !before {
        return None;
    }
    let mut words = format!("the run has {} steps in place of {}", new.total, old.total);
    if old.warmup != new.warmup {
        words += &format!(", and a warm-up of {} in place of {}", new.warmup, old.warmup);
    }
    if at_next {
        words += &match next <= old.total {
            true => {
                format!(": the rate of step {next} is {:.1e} and would have been {:.1e}", new.at(next), old.at(next))
            }
            false => match [old.at(done), new.at(next)].map(|rate| format!("{rate:.1e}")) {
                [before, now] if before == now => String::new(),
                [before, now] => format!(": the rate was {before} at step {done} and is {now} at step {next}"),
            },
        };
    }
    Some(words + "; an unbroken run of this length would have had other rates in the steps that are done")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::schedule::Kind;

    fn of(kind: Kind, warmup: usize, total: usize) -> Schedule {
        Schedule::new(kind, 1e-3, warmup, total)
    }

    #[test]
    fn a_rate_that_moves_is_told_with_both_rates() {
        let said = moved(&of(Kind::Cosine, 0, 10), &of(Kind::Cosine, 0, 20), 10).expect("the rate moves");
        // `1e-3 (1 + cos(pi 9 / 10)) / 2` and `1e-3 (1 + cos(pi 10 / 20)) / 2`
        assert!(said.contains("was 2.4e-5 at step 10 and is 5.0e-4 at step 11"), "{said}");
        let said = moved(&of(Kind::Linear, 0, 10), &of(Kind::Linear, 0, 20), 4).expect("the rate moves");
        assert!(said.contains("the rate of step 5 is 8.0e-4 and would have been 6.0e-4"), "{said}");
        let said = moved(&of(Kind::Constant, 4, 8), &of(Kind::Constant, 8, 16), 2).expect("the rate moves");
        assert!(said.contains("warm-up of 8 in place of 4: the rate of step 3 is 2.5e-4"), "{said}");
        // A cosine that begins anew where the other ended: the rates are other ones, and look alike.
        let said = moved(&of(Kind::Cosine, 0, 10_000), &of(Kind::Cosine, 0, 10_001), 9_999).expect("the rates moved");
        assert!(!said.contains("the rate was"), "{said}");
        // Past both warm-ups the rate is the same; the steps done are not.
        let said = moved(&of(Kind::Constant, 2, 8), &of(Kind::Constant, 4, 16), 8).expect("the rates moved");
        assert!(said.contains("warm-up of 4 in place of 2; an unbroken run"), "{said}");
    }

    #[test]
    fn a_rate_that_stays_is_not_told() {
        assert_eq!(moved(&of(Kind::Constant, 3, 10), &of(Kind::Constant, 3, 20), 10), None);
        assert_eq!(moved(&of(Kind::Cosine, 3, 10), &of(Kind::Cosine, 3, 10), 4), None);
        // Within a warm-up that stays, what comes after it does not show yet.
        assert_eq!(moved(&of(Kind::Linear, 6, 10), &of(Kind::Linear, 6, 20), 2), None);
    }
}
