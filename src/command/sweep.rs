//! `trainer sweep`: a recipe once for each point of a grid, all measured alike, and a table.
//!
//! Each run and each evaluation is a process of its own, of this same program: it is what the user would type, one that
//! ends badly takes nothing with it, and one that was stopped goes on by its own checkpoint.

mod folder;
mod grid;
mod runs;
mod table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use faults::{Fault, Faults, FromToml, counted, nearest};
use losses::Registry;

use super::typed::quoted;
use super::{Outcome, announce, argument, check_temperatures, interrupt, print, recipe_text, tell};
use crate::recipe::{self, Backbone, Recipe};
use folder::{Evaluation, Folder, RunState, State, Sweep};
use grid::{Axis, Point};
use table::{Row, Table};

/// Train a recipe at every point of a grid, evaluate all, and tabulate: means over seeds, differences to a baseline.
///
/// The table goes to stdout as JSON Lines, and to stderr for a person: the mean over seeds, half of its 95 % t interval,
/// and in brackets the difference to the baseline, paired by seed. The same command goes on where a sweep was stopped.
/// docs/sweeps.md says what stands where.
#[derive(Debug, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// A key of the recipe and its values: `objective.alpha=1.1,1.2`, `seed=1,2,3`; may be given several times.
    #[arg(long, required = true, value_name = "KEY=VALUES")]
    grid: Vec<String>,
    /// Change a value of the recipe in all runs: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Rows that all runs are measured on, as with `trainer eval`; may be given several times [default: `data.eval`]
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Temperatures that all runs are measured at, with commas between them.
    #[arg(long, value_delimiter = ',', default_value = "1", value_name = "T")]
    temperatures: Vec<f64>,
    /// The arm that the others are compared with, such as `kind=nll` [default: the first]
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// The folder of the sweep [default: `sweeps/` and the recipe's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at the same time; each uses all cores, so that more than one pays for small models alone.
    #[arg(long, default_value_t = 1, value_name = "N")]
    processes: usize,
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with grid, recipe at any point, data and folder, before anything is trained; afterwards each run that
/// failed.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    let text = recipe_text(&arguments.recipe)?;
    let stem = arguments.recipe.file_stem().map_or("recipe".into(), |stem| stem.to_string_lossy().into_owned());
    let (axes, points) = read_grid(arguments, &stem)?;
    let recipes = recipes(arguments, &text, &points, axes.as_slice(), registry)?;
    let evaluation = evaluation(arguments, &recipes)?;
    let sweep = Sweep {
        recipe: arguments.recipe.display().to_string(),
        set: arguments.set.clone(),
        baseline: baseline(arguments.baseline.as_deref(), &points)?,
        runs: points.iter().zip(&recipes).map(|(point, recipe)| RunState::waiting(point, recipe.seed)).collect(),
        grid: axes,
        evaluation,
    };
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("sweeps").join(&stem));
    let (folder, sweep) = Folder::open(&out, sweep, &text)?;
    for warning in recipes.iter().flat_map(|recipe| &recipe.warnings).collect::<BTreeSet<_>>() {
        tracing::warn!("{warning}");
    }
    announce(&format!("{} in {}", counted(points.len() as u64, "run"), quoted(&out.display().to_string())));
    let interrupted = interrupt::watch()?;
    let runner = runs::Runner::new(&folder, &sweep, &points, &interrupted)?;
    let base = base(&recipes);
    let Some(sweep) = runner.run(base.as_deref(), arguments.processes)? else {
        tell(&format!("interrupted; go on with\n  {}", typed_again()));
        return Ok(Outcome::Interrupted);
    };
    tabulate(&folder, &sweep, base.is_some())?;
    crate::report::comparison::write_sweep(&out)?;
    failures(&folder, &sweep)?;
    Ok(Outcome::Done)
}

/// The keys of the grid, and its points.
fn read_grid(arguments: &Arguments, stem: &str) -> Result<(Vec<Axis>, Vec<Point>), Faults> {
    let (mut axes, mut faults) = (Vec::new(), Vec::new());
    for written in &arguments.grid {
        match Axis::parse(written) {
            Ok(axis) => axes.push(axis),
            Err(fault) => faults.push(fault),
        }
    }
    for set in &arguments.set {
        let key = set.split('=').next().unwrap_or_default().trim();
        if key == "output.dir" {
            let fault = Fault::new("`output.dir` has no effect in a sweep").at(argument("set"));
            faults.push(fault.hint("each run has its own folder in that of the sweep: `--out` says where that is"));
        }
        if axes.iter().any(|axis| axis.key == key) {
            let fault = Fault::new(format!("`{key}` is set and in the grid")).at(argument("set"));
            faults.push(fault.hint("leave one of them out"));
        }
    }
    if arguments.processes == 0 {
        faults
            .push(Fault::new("`--processes` must be at least 1").at(argument("processes")).hint("leave it out for 1"));
    }
    faults.extend(check_temperatures(&arguments.temperatures).err());
    Faults::check(faults)?;
    let points = grid::points(&axes, stem)?;
    Ok((axes, points))
}

/// The recipe at every point, checked. A fault that several have is one.
fn recipes(
    arguments: &Arguments,
    text: &str,
    points: &[Point],
    axes: &[Axis],
    registry: &Registry,
) -> Result<Vec<Recipe>, Faults> {
    let name = arguments.recipe.display().to_string();
    let mut recipes = Vec::new();
    let mut found: Vec<(Fault, Vec<&str>)> = Vec::new();
    for point in points {
        let overrides: Vec<String> = arguments.set.iter().chain(&point.set).cloned().collect();
        match recipe::parse(&name, text, &overrides, registry) {
            Ok(recipe) => recipes.push(recipe),
            Err(faults) => {
                for fault in faults.into_list() {
                    match found.iter_mut().find(|(known, _)| *known == fault) {
                        Some((_, names)) => names.push(&point.name),
                        None => found.push((fault, vec![&point.name])),
                    }
                }
            }
        }
    }
    let of_objective = |axis: &&Axis| axis.key.starts_with("objective.");
    let kinds = axes.iter().any(|axis| axis.key == "objective.kind") && axes.iter().filter(of_objective).count() > 1;
    let told = found.into_iter().map(|(mut fault, names)| {
        if names.len() < points.len() {
            fault.message += &match names[..] {
                [name] => format!(" (in the run `{name}`)"),
                _ => format!(" (in {} of {} runs, the first `{}`)", names.len(), points.len(), names[0]),
            };
            if kinds && fault.message.contains("objective") {
                let whole = "a key that not every kind has goes with its kind: \
                             `--grid 'objective={kind=\"nll\"},{kind=\"cdiv\",alpha=1.4}'`";
                fault.hint = Some(fault.hint.map_or(whole.into(), |hint| format!("{hint}; {whole}")));
            }
        }
        fault
    });
    Faults::check_first(told.collect())?;
    Ok(recipes)
}

/// What all runs are measured on: as asked for, or the held-out rows of the recipe.
fn evaluation(arguments: &Arguments, recipes: &[Recipe]) -> Result<Evaluation, Faults> {
    let fault = |message: &str| Fault::new(message).at(argument("data"));
    let [first, others @ ..] = recipes else { unreachable!("a grid has a point") };
    let given: Vec<String> = arguments.data.iter().map(|path| path.display().to_string()).collect();
    let (data, rename) = match given.is_empty() {
        false => (given, Vec::new()),
        true if first.data.eval.is_empty() => {
            let hint = "name them with `--data FILE`, or as `data.eval` in the recipe";
            return Err(fault("there are no rows to measure the runs on").hint(hint).into());
        }
        true if others.iter().any(|other| other.data.eval != first.data.eval) => {
            let hint = "name the rows that all of them are measured on with `--data FILE`";
            return Err(fault("the runs have different `data.eval`").hint(hint).into());
        }
        true => {
            let rename = first.data.rename.0.iter().map(|(column, key)| format!("{column}={key}"));
            (first.data.eval.clone(), rename.collect())
        }
    };
    datasets::refuse_unreadable(&data.iter().map(PathBuf::from).collect::<Vec<_>>())?;
    let device = match first.model.device.to_toml() {
        toml::Value::String(device) => device,
        other => other.to_string(),
    };
    Ok(Evaluation { data, temperatures: arguments.temperatures.clone(), rename, device })
}

/// The arm that the others are compared with.
fn baseline(wanted: Option<&str>, points: &[Point]) -> Result<String, Fault> {
    let mut arms: Vec<&str> = points.iter().map(|point| &*point.arm).collect();
    arms.dedup();
    let Some(wanted) = wanted else { return Ok(arms[0].into()) };
    if arms.contains(&wanted) {
        return Ok(wanted.into());
    }
    let hint = match nearest(wanted, arms.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of: {}", arms.join(", ")),
    };
    Err(Fault::new(format!("there is no arm `{wanted}`")).at(argument("baseline")).hint(hint))
}

/// The model before training, where all runs have the same and it can be named.
fn base(recipes: &[Recipe]) -> Option<String> {
    let [first, others @ ..] = recipes else { unreachable!("a grid has a point") };
    let Backbone::Pretrained { path, revision } = &first.model.backbone else {
        tracing::info!("the base is not measured: it is built from scratch");
        return None;
    };
    if others.iter().any(|other| other.model.backbone != first.model.backbone) {
        tracing::info!("the base is not measured: the runs have different ones");
        return None;
    }
    if revision.is_some() {
        tracing::info!("the base is not measured: `trainer eval` takes no `model.revision`");
        return None;
    }
    Some(path.clone())
}

/// Writes the table of what is done: to its file, to stdout, and for a person.
fn tabulate(folder: &Folder, sweep: &Sweep, has_base: bool) -> Result<(), Faults> {
    let mut rows = Vec::new();
    for run in sweep.runs.iter().filter(|run| run.state == State::Done) {
        let mut settings = run.settings.clone();
        settings.shift_remove("seed");
        rows.push(Row { arm: run.arm.clone(), seed: run.seed, settings, measured: folder.measured(&run.name)? });
    }
    let table = Table::new(&rows, &sweep.baseline);
    let lines: String = table.lines().iter().map(|line| format!("{line}\n")).collect();
    folder.write("table.jsonl", lines.as_bytes())?;
    print(&lines)?;
    let base = if has_base { Some(folder.measured(folder::BASE)?) } else { None };
    announce(&table.aligned(base.as_ref()));
    Ok(())
}

/// A fault for each run that failed.
fn failures(folder: &Folder, sweep: &Sweep) -> Result<(), Faults> {
    let failed = sweep.runs.iter().filter(|run| run.state == State::Failed);
    let fault = |run: &RunState| {
        let words = run.fault.as_deref().unwrap_or("no word of it");
        let log = folder.log(&run.name);
        let hint = format!("all it said is in `{}`; the same command tries it again", log.display());
        Fault::new(format!("the run `{}` failed: {words}", run.name)).hint(hint)
    };
    Faults::check(failed.map(fault).collect())
}

/// The command as it was typed.
fn typed_again() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    ["trainer".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
