//! `trainer run`: a recipe goes in, a mergeable adapter comes out.

use std::path::{Path, PathBuf};

use checkpoints::{Checkpoint, Run};
use clap::Args;
use faults::{Fault, Faults, Place};
use losses::Registry;

use super::typed::quoted;
use super::{Outcome, announce, closing, interrupt, read_recipe, tell};
use crate::engine::train::{self, Learner, Log, Rows, read_state, train};
use crate::plan::print::INDENT;
use crate::plan::{Plan, order};
use crate::recipe::blocks_resume;
use crate::report::{Reporter, Watched, terminal, trouble};

/// Train as a recipe says.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Change a value of the recipe: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the latest checkpoint of the output directory.
    #[arg(long)]
    resume: bool,
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with recipe, model, data, output directory or checkpoint.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    let recipe = read_recipe(&arguments.recipe, &arguments.set, registry)?;
    let folder = recipe.output.dir.clone();
    Run::refuse_in_use(&folder)?;
    let mut plan = Plan::new(recipe)?;
    for warning in &plan.recipe.warnings {
        tracing::warn!("{warning}");
    }
    // Before anything is built: fitting codes may take minutes.
    let checkpoint = match arguments.resume {
        true => Some(checkpoint_to_resume(&folder, &plan)?),
        false => {
            Run::refuse_used(&folder)?;
            None
        }
    };
    let done = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.step);
    let stopped_early = checkpoint.as_ref().map(read_state).transpose()?.is_some_and(|state| state.stopped_early);
    if done >= plan.steps || stopped_early {
        tracing::info!("the run is done already, at step {done}");
        return Ok(Outcome::Done);
    }
    announce(&terminal::wrapped(&plan.to_string(), terminal::columns(), INDENT));
    plan.resumed =
        checkpoint.as_ref().filter(|checkpoint| checkpoint.has_adapter()).map(Checkpoint::adapter).transpose()?;
    let mut trainee = plan.build()?;
    // Up to here there is nothing to save, and Ctrl-C ends the program as it ends any other.
    let interrupted = interrupt::watch()?;
    let settings = plan.settings(&mut trainee);
    let mut run = match &checkpoint {
        Some(_) => Run::open(&folder)?,
        None => Run::create(&folder)?,
    };
    run.lock()?;
    run.write_recipe(&plan.recipe.resolved_text())?;
    let mut order = order(&plan.recipe, &plan.train, plan.width_multiple);
    let watched = Watched {
        clip_norm: plan.recipe.optimizer.clip_norm,
        learning_rate: plan.schedule.learning_rate,
        milder: plan.recipe.objective.milder(),
        has_auxiliary: !trainee.auxiliaries.is_empty(),
    };
    let mut reporter = Reporter::new(plan.steps, done, watched.clone());
    let trained = train(
        &settings,
        Learner { trainee: &mut trainee, objective: plan.recipe.objective.as_mut() },
        Rows { order: &mut order, evaluation: plan.eval.as_ref().map_or(&[], |eval| eval.examples.as_slice()) },
        Log { run: &mut run, reporter: &mut reporter },
        checkpoint.as_ref(),
        &interrupted,
    );
    let reported = reporter.finish(&run, &plan.recipe.resolved);
    // What stopped the run comes before what kept it from being told: a full disk does both.
    let outcome = trained?;
    reported?;
    match outcome {
        train::Outcome::Finished => {
            let lines = run.metrics()?;
            for trouble in trouble::of_run(&lines, &watched) {
                tracing::warn!("{trouble}");
            }
            announce(&closing::words(&run, &plan, &lines)?);
            Ok(Outcome::Done)
        }
        train::Outcome::Interrupted { step } => {
            let set: String = arguments.set.iter().map(|set| format!(" --set {}", quoted(set))).collect();
            let recipe = quoted(&arguments.recipe.display().to_string());
            // Said even when logs are held back: it is what the user needs next.
            tell(&format!(
                "interrupted after step {step} of {}; go on with\n  trainer run {recipe}{set} --resume",
                plan.steps
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// The checkpoint that `--resume` goes on from, if the recipe and the rows are still those it was made with.
fn checkpoint_to_resume(folder: &Path, plan: &Plan) -> Result<Checkpoint, Faults> {
    let checkpoint = Run::open(folder)?.latest()?.ok_or_else(|| {
        Fault::new("there is no checkpoint to resume from")
            .at(Place::file(folder))
            .hint("run without `--resume` into another `output.dir`, or remove this one")
    })?;
    let state = read_state(&checkpoint)?;
    let old: toml::Table = toml::from_str(&state.recipe).map_err(|error| {
        Fault::new(format!("the checkpoint's recipe cannot be read: {error}"))
            .at(Place::file(checkpoint.folder.join("state.json")))
            .hint("another version wrote it: start a new run in another `output.dir`")
    })?;
    let mut changed = blocks_resume(&old, &plan.recipe.resolved);
    if state.train_fingerprint != plan.train.fingerprint {
        changed.push("the rows of `data.train` are not the same any more".into());
    }
    if state.eval_fingerprint != plan.eval.as_ref().map(|eval| eval.fingerprint.clone()) {
        changed.push("the rows of `data.eval` are not the same any more".into());
    }
    if changed.is_empty() {
        return Ok(checkpoint);
    }
    Err(Fault::new(format!("this is not the run that was started: {}", changed.join("; ")))
        .at(Place::file(&checkpoint.folder))
        .hint("take the changes back, or start a new run in another `output.dir`")
        .into())
}
