//! `trainer run`: a recipe goes in, a mergeable adapter comes out.

mod company;
mod evaluated;
mod resume;

use std::path::{Path, PathBuf};

use backbone::Decoder;
use checkpoints::Run;
use clap::Args;
use datasets::Dataset;
use faults::{Fault, Faults, Place};
use group::Group;
use losses::Registry;

use super::{Outcome, announce, closing, interrupt, read_recipe, tell};
use crate::engine::train::{self, Company, Learner, Log, Observe, Rows, train};
use crate::logging::terminal;
use crate::logging::typed::quoted;
use crate::plan::print::INDENT;
use crate::plan::{Plan, order};
use crate::recipe::Recipe;
use crate::report::{Reporter, Watched, trouble};
use resume::Resumed;

/// Train as a recipe says.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Change a value of the recipe: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the latest checkpoint of the output directory. Base and rows may lie elsewhere now (`--base DIR`, `--set
    /// data.train=FILE`): what they hold is compared.
    #[arg(long)]
    resume: bool,
    /// Where the base of a run that is resumed lies now; its content is compared.
    #[arg(long, value_name = "DIR|NAME", requires = "resume")]
    base: Option<String>,
    /// Start so many processes of this run on this machine, one for each GPU, which share every step (`docs/clusters.md`).
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// Seconds for which a process of several may say nothing before it is held for lost, and ends the run.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait_limit: u64,
}

impl Arguments {
    /// True for one of several processes that leaves the words to the first of them.
    pub fn is_silent(&self) -> bool {
        self.processes.is_none() && company::is_silent()
    }

    /// The recipe with what the command line says of it.
    fn recipe(&self, registry: &Registry) -> Result<Recipe, Faults> {
        let mut recipe = read_recipe(&self.recipe, &self.set, registry)?;
        if let Some(base) = &self.base {
            recipe.move_base(base)?;
        }
        if recipe.sweep.is_some() {
            let words = "`[sweep]` has no effect in a run: `trainer sweep` trains at every point of its grid";
            recipe.warnings.push(words.into());
        }
        Ok(recipe)
    }

    /// The command that goes on with the run.
    fn going_on(&self) -> String {
        let set: String = self.set.iter().map(|set| format!(" --set {}", quoted(set))).collect();
        let base = self.base.as_ref().map(|base| format!(" --base {}", quoted(base))).unwrap_or_default();
        format!("trainer run {}{set} --resume{base}", quoted(&self.recipe.display().to_string()))
    }
}

/// Where a run begins.
enum Start {
    /// In a folder of its own.
    Fresh,
    /// In the folder of a run of no steps, which only evaluated.
    Evaluated,
    /// At a checkpoint.
    GoesOn(Box<Resumed>),
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with recipe, model, data, output directory or checkpoint, and processes that are joined by nothing.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    if let Some(processes) = arguments.processes {
        return company::start(processes);
    }
    let group = company::join(arguments.wait_limit)?;
    let done = run_in(&group, arguments, registry);
    company::leave(&group, done)
}

/// Runs the command as one of a group of processes.
fn run_in(group: &Group, arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    let mut recipe = arguments.recipe(registry)?;
    let folder = recipe.output.dir.clone();
    if group.is_first() {
        Run::refuse_in_use(&folder)?;
    }
    company::agree_on_the_date(group, arguments.resume, &mut recipe)?;
    company::take_device(group, &mut recipe);
    let start = Start::of(arguments, &folder, &recipe, registry)?;
    let mut plan = match &start {
        Start::GoesOn(resumed) => resumed.plan(recipe)?,
        Start::Fresh | Start::Evaluated => Plan::new(recipe)?,
    };
    for warning in &plan.recipe.warnings {
        tracing::warn!("{warning}");
    }
    // Before anything is built: fitting codes may take minutes.
    let (base, encoders) = match &start {
        Start::GoesOn(resumed) => resumed.compare(&plan)?,
        Start::Fresh => {
            if group.is_first() {
                Run::refuse_used(&folder)?;
            }
            (plan.identity()?, plan.encoder_fingerprints()?)
        }
        Start::Evaluated => (plan.identity()?, plan.encoder_fingerprints()?),
    };
    if start.is_done(&folder, &plan)? {
        if group.is_first() {
            finish(&start, &folder, &plan)?;
        }
        return Ok(Outcome::Done);
    }
    tell_the_plan(&start, &plan, group, registry);
    let mut trainee = plan.build()?;
    // Up to here there is nothing to save, and Ctrl-C ends the program as it ends any other.
    let interrupted = interrupt::watch()?;
    let mut settings = plan.settings(&mut trainee);
    (settings.origin.base, settings.origin.encoders) = (base, encoders);
    settings.origin.processes = group.size();
    company::check_alike(group, &settings, start.done())?;
    let mut written = match group.is_first() {
        true => Some(Written::open(&start, &folder, &plan)?),
        false => None,
    };
    let mut order = order(&plan.recipe, &plan.train, plan.width_multiple);
    let (observation, tokenizer) = (plan.observation.as_ref(), &plan.tokenizer);
    let observe = observation.map(|observation| {
        move |decoder: &Decoder, step: usize, run: Option<&Run>| {
            observation.measure((decoder, tokenizer), step, run, group)
        }
    });
    let sources = plan.eval.as_ref().map(Dataset::sources).unwrap_or_default();
    let trained = train(
        &settings,
        Learner { trainee: &mut trainee, objective: plan.recipe.objective.as_mut() },
        Rows {
            order: &mut order,
            evaluation: plan.eval.as_ref().map_or(&[], |eval| eval.examples.as_slice()),
            sources: &sources,
            observe: observe.as_ref().map(|observe| observe as &Observe),
        },
        written.as_mut().map(|Written { run, reporter }| Log { run, reporter }),
        start.resumed().map(|resumed| &resumed.checkpoint),
        Company { group, interrupted: &interrupted },
    );
    end(arguments, &plan, written, trained)
}

/// Ends a run: what it has `written` is told of, by the process that has done so.
fn end(
    arguments: &Arguments,
    plan: &Plan,
    written: Option<Written>,
    trained: Result<train::Outcome, Faults>,
) -> Result<Outcome, Faults> {
    let Some(Written { run, reporter }) = written else {
        return Ok(match trained? {
            train::Outcome::Finished => Outcome::Done,
            train::Outcome::Interrupted { .. } => Outcome::Interrupted,
        });
    };
    let reported = reporter.finish(&run, &plan.recipe.resolved);
    // What stopped the run comes before what kept it from being told: a full disk does both.
    let outcome = trained?;
    reported?;
    match outcome {
        train::Outcome::Finished => {
            tell_the_end(&run, plan, &watched(plan))?;
            Ok(Outcome::Done)
        }
        train::Outcome::Interrupted { step } => {
            // Said even when logs are held back: it is what the user needs next.
            let go_on = arguments.going_on();
            tell(&format!("interrupted after step {step} of {}; go on with\n  {go_on}", plan.steps));
            Ok(Outcome::Interrupted)
        }
    }
}

/// What the first process writes: the run's folder, locked, and what is told of it.
struct Written {
    run: Run,
    reporter: Reporter,
}

impl Written {
    fn open(start: &Start, folder: &Path, plan: &Plan) -> Result<Self, Faults> {
        let run = start.open(folder)?;
        run.write_recipe(&plan.recipe.resolved_text())?;
        Ok(Self { run, reporter: Reporter::new(plan.steps, start.done(), watched(plan)) })
    }
}

impl Start {
    /// Where a run in `folder` begins; the recipe must be the one it was started with.
    fn of(arguments: &Arguments, folder: &Path, recipe: &Recipe, registry: &Registry) -> Result<Self, Faults> {
        if !arguments.resume {
            return Ok(Self::Fresh);
        }
        if !folder
            .try_exists()
            .map_err(|error| Fault::of_file("cannot look at the output directory", folder, &error))?
        {
            let fault =
                Fault::new("there is no run to go on with yet: there is no such directory").at(Place::file(folder));
            let beside = arguments.recipe.parent().filter(|beside| beside.join("checkpoints").is_dir());
            return Err(fault
                .hint(match beside {
                    Some(run) => format!(
                        "the recipe is that of the run in `{}`, and its paths are meant from the folder in which it was started: \
                         go on from there",
                        if run.as_os_str().is_empty() { Path::new(".") } else { run }.display()
                    ),
                    None => "leave `--resume` out to start it; `output.dir` of the recipe says where it is".into(),
                })
                .into());
        }
        if evaluated::is_all(folder)? {
            evaluated::refuse_another(folder, &recipe.resolved, registry)?;
            return Ok(Self::Evaluated);
        }
        Ok(Self::GoesOn(Box::new(Resumed::find(folder, recipe, registry)?)))
    }

    fn resumed(&self) -> Option<&Resumed> {
        match self {
            Self::GoesOn(resumed) => Some(resumed),
            Self::Fresh | Self::Evaluated => None,
        }
    }

    /// Steps that are done already.
    fn done(&self) -> usize {
        self.resumed().map_or(0, |resumed| resumed.checkpoint.step)
    }

    /// True when no step is left to be done of a run that goes on in `folder`.
    fn is_done(&self, folder: &Path, plan: &Plan) -> Result<bool, Fault> {
        Ok(match self {
            Self::Fresh => false,
            Self::Evaluated => plan.steps == 0 && evaluated::is_done(folder)?,
            Self::GoesOn(resumed) => {
                let Resumed { checkpoint, state, .. } = resumed.as_ref();
                let is_out_of_patience = state.is_out_of_patience(plan.recipe.checkpoint.patience);
                checkpoint.step >= plan.steps || state.stopped_early || is_out_of_patience
            }
        })
    }

    /// The run's folder, locked.
    fn open(&self, folder: &Path) -> Result<Run, Faults> {
        let mut run = match self {
            Self::Fresh => Run::create(folder)?,
            Self::Evaluated | Self::GoesOn(_) => Run::open(folder)?,
        };
        run.lock()?;
        if matches!(self, Self::Evaluated) {
            evaluated::forget(&run)?;
        }
        Ok(run)
    }
}

/// What is looked at while the run goes on.
fn watched(plan: &Plan) -> Watched {
    Watched {
        clip_norm: plan.recipe.optimizer.clip_norm,
        learning_rate: plan.schedule.learning_rate,
        milder: plan.recipe.objective.milder(),
        has_auxiliary: !plan.recipe.auxiliaries.is_empty(),
    }
}

/// Tells what will be done, where a run goes on, and what is odd about it.
fn tell_the_plan(start: &Start, plan: &Plan, group: &Group, registry: &Registry) {
    let goes_on = start.resumed().map_or_else(String::new, |resumed| resumed.line(plan, group.size()));
    let shared = if group.is_several() { plan.sharing_line(group.size()) } else { String::new() };
    announce(&terminal::wrapped(&format!("{plan}{shared}{goes_on}"), terminal::columns(), INDENT));
    let of_rate = start.resumed().and_then(|resumed| resumed.rate_warning(plan, registry));
    for warning in of_rate.into_iter().chain(plan.idle(group.size())) {
        tracing::warn!("{warning}");
    }
}

/// Does what is left after the last step of a run that was ended before its end.
fn finish(start: &Start, folder: &Path, plan: &Plan) -> Result<(), Faults> {
    let mut run = Run::open(folder)?;
    let watched = watched(plan);
    match start.resumed() {
        Some(resumed) if resumed.finish(&mut run, plan, &watched)? => tell_the_end(&run, plan, &watched)?,
        _ => tracing::info!("the run is done already, at step {}", start.done()),
    }
    Ok(())
}

/// The last words.
fn tell_the_end(run: &Run, plan: &Plan, watched: &Watched) -> Result<(), Faults> {
    if plan.steps == 0 {
        announce(&evaluated::closing_words(run)?);
        return Ok(());
    }
    let lines = run.metrics()?;
    for trouble in trouble::of_run(&lines, watched) {
        tracing::warn!("{trouble}");
    }
    announce(&closing::words(run, plan, &lines)?);
    Ok(())
}
