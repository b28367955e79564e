//! `trainer sweep`: a recipe once for each point of a grid, all measured alike, and a table.
//!
//! Each run and each evaluation is a process of its own, of this same program: it is what the user would type, one that
//! ends badly takes nothing with it, and one that was stopped goes on by its own checkpoint.

mod checked;
mod collect;
mod folder;
mod grid;
mod runs;
mod sampling;
mod slurm;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use faults::{Fault, Faults, FromToml, Place, counted, nearest};
use losses::Registry;

use super::{Outcome, announce, argument, check_temperatures, interrupt, print, recipe_text, tell};
use crate::loading;
use crate::logging::terminal;
use crate::logging::typed::quoted;
use crate::recipe::{self, Backbone, Held, Recipe};
use crate::report::comparison;
pub(super) use checked::check;
use folder::{Evaluation, Folder, RunState, State, Sweep, stem};
use grid::{Axis, Point};
use table::{Row, Table};

/// Train a recipe at every point of a grid, evaluate all, and tabulate: means over seeds, differences to a baseline.
///
/// The table goes to stdout as JSON Lines, and to stderr for a person: the mean over seeds, half of its 95 % t interval,
/// and in brackets the difference to the baseline, paired by seed. The same command goes on where a sweep was stopped; with
/// more values of the grid it adds runs to it. docs/sweeps.md says what stands where.
#[derive(Debug, Clone, Args)]
#[command(allow_negative_numbers = true)]
pub struct Arguments {
    /// The recipe, a TOML file; or, where all keys of the grid are `sample.OPTION` of `trainer sample`, a model that is there.
    #[arg(required_unless_present_any = ["collect", "task"])]
    recipe: Option<PathBuf>,
    /// A key of the recipe and its values: `objective.alpha=1.1,1.2`, `seed=1,2,3`; may be given several times [default: `grid`
    /// of the recipe's `[sweep]`, and so are `data`, `temperatures` and `baseline`]. A grid of `sample.temperature=0.5,1` and
    /// the like samples a model at each point, and trains nothing.
    #[arg(long, value_name = "KEY=VALUES")]
    grid: Vec<String>,
    /// Change a value of the recipe in all runs: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Rows that all runs are measured on, as with `trainer eval`; may be given several times [default: `data.eval`]
    #[arg(long, value_name = "FILE")]
    data: Vec<PathBuf>,
    /// Temperatures that all runs are measured at, with commas between them [default: 1]
    #[arg(long, value_delimiter = ',', value_name = "T")]
    temperatures: Vec<f64>,
    /// Draw samples of these prompts from every run, as `trainer sample RUN --prompts` does.
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// An option of `trainer sample` for them: `n=8`, `temperature=0.7`, `chat`; may be given several times.
    #[arg(long, value_name = "OPTION=VALUE")]
    sample: Vec<String>,
    /// An option of `trainer eval --samples`, which measures them: `exact_match=answer`, `judge=COMMAND`, `k=1,4`; may be given
    /// several times.
    #[arg(long, value_name = "OPTION=VALUE")]
    measure: Vec<String>,
    /// The arm that the others are compared with, such as `kind=nll` [default: the first]
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// The folder of the sweep [default: `sweeps/` and the recipe's name]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs at the same time; each uses all cores, so that more than one pays for small models alone.
    #[arg(long, default_value_t = 1, value_name = "N")]
    processes: usize,
    /// Train nothing here, and write into the sweep's folder what does it on a cluster: an array of tasks, one a run.
    #[arg(long, value_enum, value_name = "SYSTEM", conflicts_with = "processes")]
    emit: Option<Emitted>,
    /// An option of `sbatch` for the tasks: `--slurm '--time=02:00:00'`; may be given several times.
    #[arg(long, requires = "emit", allow_hyphen_values = true, value_name = "OPTION")]
    slurm: Vec<String>,
    /// Gather a sweep that ran elsewhere: measure what is trained, tabulate, and name what failed or is missing.
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_A_NEW_SWEEP)]
    collect: Option<PathBuf>,
    /// Train and measure one run of the sweep in a folder, by its number from 0, as each task of an array does; the number
    /// after the last run measures the base.
    #[arg(long, num_args = 2, value_names = ["DIR", "NUMBER"], conflicts_with_all = OF_A_NEW_SWEEP, conflicts_with = "collect")]
    task: Vec<OsString>,
    /// Where the recipe says what the command line does not, by the name of the option.
    #[arg(skip)]
    of_recipe: BTreeMap<&'static str, Place>,
}

impl Arguments {
    /// Where an option was written: on the command line, or in the recipe.
    fn place(&self, name: &str) -> Place {
        self.of_recipe.get(name).cloned().unwrap_or_else(|| argument(name))
    }
}

/// What says what a sweep is: the folder of one that is there knows it.
const OF_A_NEW_SWEEP: [&str; 12] = [
    "recipe",
    "grid",
    "set",
    "data",
    "temperatures",
    "prompts",
    "sample",
    "measure",
    "baseline",
    "out",
    "processes",
    "emit",
];

/// What a sweep can be written for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Emitted {
    /// A script for `sbatch`.
    Slurm,
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with grid, recipe at any point, data and folder, before anything is trained; afterwards each run that
/// failed.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    if let Some(folder) = &arguments.collect {
        return collect::run(folder);
    }
    let Some(given) = &arguments.recipe else { return collect::task(&arguments.task) };
    let arguments = &with_recipe(arguments, given)?;
    let mut axes = read_grid(arguments)?;
    let is_trained = !axes.iter().all(sampling::is_of_samples);
    let name = given.display().to_string();
    let own = || if is_trained { Path::new("sweeps").join(stem(given)) } else { sampling::folder(&name) };
    let out = arguments.out.clone().unwrap_or_else(own);
    if let Some(before) = folder::before(&out)? {
        grid::keep_written(&mut axes, &before.grid);
    }
    let text = if is_trained { Some(recipe_text(given)?) } else { None };
    let (sweep, points) = match &text {
        Some(text) => {
            let (sweep, points, warnings) = trained(arguments, (&name, text), axes, registry)?;
            warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            (sweep, points)
        }
        None => sampling::sweep(arguments, &name, axes)?,
    };
    let (folder, sweep) = Folder::open(&out, sweep, text.as_deref())?;
    announce(&format!("{} in {}", counted(points.len() as u64, "run"), quoted(&out.display().to_string())));
    if let Some(Emitted::Slurm) = arguments.emit {
        return emit(&folder, &sweep, &arguments.slurm);
    }
    let interrupted = interrupt::watch()?;
    let runner = runs::Runner::new(&folder, &sweep, &points, &interrupted)?;
    let Some(sweep) = runner.run(arguments.processes)? else {
        tell(&format!("interrupted; go on with\n  {}", typed_again()));
        return Ok(Outcome::Interrupted);
    };
    tabulate(&folder, &sweep)?;
    failures(&folder, &sweep)?;
    Ok(Outcome::Done)
}

/// The arguments, and what the recipe's `[sweep]` says in place of those that are not given.
fn with_recipe(arguments: &Arguments, recipe: &Path) -> Result<Arguments, Faults> {
    let mut all = arguments.clone();
    // A grid of samples is of a model, which has no recipe of that name.
    if arguments.grid.is_empty() || recipe.extension().is_some_and(|extension| extension == "toml") {
        let name = recipe.display().to_string();
        let (of_recipe, places) = recipe::sweep(&name, &recipe_text(recipe)?)?.unwrap_or_default();
        let mut from = |option: &'static str, is_left: bool| {
            let key = format!("sweep.{option}");
            if is_left && places.has(&key) {
                all.of_recipe.insert(option, places.of(&key));
            }
        };
        from("grid", arguments.grid.is_empty());
        from("data", arguments.data.is_empty());
        from("temperatures", arguments.temperatures.is_empty());
        from("baseline", arguments.baseline.is_none());
        from("prompts", arguments.prompts.is_none());
        from("sample", arguments.sample.is_empty());
        from("measure", arguments.measure.is_empty());
        if all.grid.is_empty() {
            all.grid = of_recipe.grid;
        }
        if all.data.is_empty() {
            all.data = of_recipe.data.into_iter().map(PathBuf::from).collect();
        }
        if all.temperatures.is_empty() {
            all.temperatures = of_recipe.temperatures;
        }
        all.baseline = all.baseline.or(of_recipe.baseline);
        all.prompts = all.prompts.or(of_recipe.prompts.map(PathBuf::from));
        if all.sample.is_empty() {
            all.sample = of_recipe.sample;
        }
        if all.measure.is_empty() {
            all.measure = of_recipe.measure;
        }
    }
    for (option, written) in [("sample", &all.sample), ("measure", &all.measure)] {
        if let (Some(written), None) = (written.first(), &all.prompts) {
            let fault = Fault::new(format!("`{written}` is of samples, and there are no prompts to draw them of"));
            let hint = "name the prompts with `--prompts FILE`, or as `[sweep] prompts` in the recipe";
            return Err(fault.at(all.place(option)).hint(hint).into());
        }
    }
    if all.grid.is_empty() {
        let fault = Fault::new("there is no grid to train the recipe over").at(all.place("grid"));
        let hint = "name keys and values, such as `--grid seed=1,2,3`, or write `[sweep] grid = [\"seed=1,2,3\"]` in the recipe";
        return Err(fault.hint(hint).into());
    }
    if all.temperatures.is_empty() {
        all.temperatures = vec![1.0];
    }
    Ok(all)
}

/// A sweep that trains a recipe at every point of `axes`, its points, and what the recipes warn of, each once.
fn trained(
    arguments: &Arguments,
    recipe: (&str, &str),
    axes: Vec<Axis>,
    registry: &Registry,
) -> Result<(Sweep, Vec<Point>, BTreeSet<String>), Faults> {
    let (name, _) = recipe;
    let points = grid::points(&axes, &stem(Path::new(name)), &arguments.place("grid"))?;
    let recipes = recipes(arguments, recipe, &points, axes.as_slice(), registry)?;
    let warnings = recipes.iter().flat_map(|recipe| &recipe.warnings).cloned().collect();
    let evaluation = evaluation(arguments, &recipes)?;
    let samples = sampling::sampling(arguments, "RUN", &[])?;
    let sweep = Sweep {
        recipe: name.into(),
        directory: directory()?,
        base: base(&recipes),
        set: arguments.set.clone(),
        baseline: baseline(arguments, &points)?,
        runs: points.iter().zip(&recipes).map(|(point, recipe)| RunState::waiting(point, recipe.seed)).collect(),
        grid: axes,
        model: None,
        evaluation,
        samples,
    };
    Ok((sweep, points, warnings))
}

/// Where this process works.
fn directory() -> Result<String, Fault> {
    let directory = std::env::current_dir().map_err(|error| Fault::of_file("cannot find it", ".", &error))?;
    Ok(directory.display().to_string())
}

/// Writes what does a sweep on a cluster, and says how to start and gather it.
fn emit(folder: &Folder, sweep: &Sweep, options: &[String]) -> Result<Outcome, Faults> {
    let scripts = slurm::write(folder, sweep, options)?;
    let typed = |path: &Path| quoted(&path.display().to_string());
    let submit: String = scripts.iter().map(|script| format!("  sbatch {}\n", typed(script))).collect();
    tell(&format!(
        "submit it with\n{submit}and gather what it did with\n  trainer sweep --collect {}",
        typed(folder.path())
    ));
    Ok(Outcome::Done)
}

/// The keys of the grid with their values, and whatever else needs no recipe to be checked.
fn read_grid(arguments: &Arguments) -> Result<Vec<Axis>, Faults> {
    let (mut axes, mut faults, place) = (Vec::new(), Vec::new(), arguments.place("grid"));
    for written in &arguments.grid {
        match Axis::parse(written) {
            Ok(axis) => axes.push(axis),
            Err(fault) => faults.push(fault.at(place.clone())),
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
    if axes.iter().any(sampling::is_of_samples) && !axes.iter().all(sampling::is_of_samples) {
        let fault = Fault::new("the grid has keys of a recipe and of samples").at(place.clone());
        faults.push(fault.hint("train first; a second sweep, of one run, then has `sample.` keys alone"));
    }
    if arguments.processes == 0 {
        faults
            .push(Fault::new("`--processes` must be at least 1").at(argument("processes")).hint("leave it out for 1"));
    }
    let temperatures = check_temperatures(&arguments.temperatures).err();
    faults.extend(temperatures.map(|fault| fault.at(arguments.place("temperatures"))));
    faults.extend(slurm::check(&arguments.slurm));
    Faults::check(faults)?;
    Ok(axes)
}

/// The recipe at every point, checked. A fault that several have is one.
fn recipes(
    arguments: &Arguments,
    (name, text): (&str, &str),
    points: &[Point],
    axes: &[Axis],
    registry: &Registry,
) -> Result<Vec<Recipe>, Faults> {
    let mut recipes = Vec::new();
    let mut found: Vec<(Fault, Vec<&str>)> = Vec::new();
    for point in points {
        let overrides: Vec<String> = arguments.set.iter().chain(&point.set).cloned().collect();
        match recipe::parse(name, text, &overrides, registry) {
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
                let whole = "a key that not every kind has goes with its kind, in the grid as \
                             `objective={kind=\"nll\"},{kind=\"cdiv\",alpha=1.4}`";
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
    let fault = |message: &str| Fault::new(message).at(arguments.place("data"));
    let [first, others @ ..] = recipes else { unreachable!("a grid has a point") };
    let given: Vec<String> = arguments.data.iter().map(|path| path.display().to_string()).collect();
    let (data, rename) = match given.is_empty() {
        false => (given, Vec::new()),
        true if first.data.eval.is_empty() => {
            let hint = "name them with `--data FILE`, or as `data.eval` in the recipe";
            return Err(fault("there are no rows to measure the runs on").hint(hint).into());
        }
        true if matches!(first.data.eval, Held::Part(_)) => {
            let hint =
                "name a file of held-out rows as `data.eval`, or what the runs are measured on with `--data FILE`";
            return Err(fault("`data.eval` is a part of the training rows, on which runs are not measured afterwards")
                .hint(hint)
                .into());
        }
        true if others.iter().any(|other| other.data.eval != first.data.eval) => {
            let hint = "name the rows that all of them are measured on with `--data FILE`";
            return Err(fault("the runs have different `data.eval`").hint(hint).into());
        }
        true => {
            let rename = first.data.rename.0.iter().map(|(column, key)| format!("{column}={key}"));
            (first.data.eval.files().iter().map(|entry| entry.path.clone()).collect(), rename.collect())
        }
    };
    loading::rows::refuse_unreadable(data.iter().map(String::as_str))?;
    let device = match first.model.device.to_toml() {
        toml::Value::String(device) => device,
        other => other.to_string(),
    };
    Ok(Evaluation { data, temperatures: arguments.temperatures.clone(), rename, device })
}

/// The arm that the others are compared with.
fn baseline(arguments: &Arguments, points: &[Point]) -> Result<String, Fault> {
    let arms = arms(points);
    let Some(wanted) = arguments.baseline.as_deref() else { return Ok(arms[0].into()) };
    if arms.contains(&wanted) {
        return Ok(wanted.into());
    }
    let hint = match nearest(wanted, arms.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("one of: {}", arms.join(", ")),
    };
    Err(Fault::new(format!("there is no arm `{wanted}`")).at(arguments.place("baseline")).hint(hint))
}

/// What the points are without their seeds, each once.
fn arms(points: &[Point]) -> Vec<&str> {
    let mut arms: Vec<&str> = points.iter().map(|point| &*point.arm).collect();
    arms.dedup();
    arms
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

/// Writes the table of what is done, to its file, to stdout and for a person, and the page.
fn tabulate(folder: &Folder, sweep: &Sweep) -> Result<(), Faults> {
    let mut rows = Vec::new();
    for run in sweep.runs.iter().filter(|run| run.state == State::Done) {
        let mut settings = run.settings.clone();
        settings.retain(|key, _| !grid::is_seed(key));
        rows.push(Row { arm: run.arm.clone(), seed: run.seed, settings, measured: folder.measured(sweep, &run.name)? });
    }
    let table = Table::new(&rows, &sweep.baseline);
    let lines: String = table.lines().iter().map(|line| format!("{line}\n")).collect();
    folder.write("table.jsonl", lines.as_bytes())?;
    print(&lines)?;
    let base = match folder.evaluation(folder::BASE).is_file() {
        true => Some(folder.measured(sweep, folder::BASE)?),
        false => None,
    };
    announce(&table.aligned(base.as_ref(), terminal::columns()));
    let (verdict, page) = comparison::write_sweep(folder.path())?;
    let verdict = verdict.map_or_else(String::new, |verdict| format!("{verdict}\n"));
    let words = format!("{verdict}the page is {}\n", quoted(&page.display().to_string()));
    announce(&terminal::wrapped(&words, terminal::columns(), 0));
    Ok(())
}

/// A fault for each run that failed.
fn failures(folder: &Folder, sweep: &Sweep) -> Result<(), Faults> {
    let failed = sweep.runs.iter().filter(|run| run.state == State::Failed);
    let fault = |run: &RunState| {
        let words = run.fault.as_deref().unwrap_or("no word of it");
        let log = folder.log(&run.name);
        let hint = format!("all it said is in `{}`; the same command, or task, tries it again", log.display());
        Fault::new(format!("the run `{}` failed: {words}", run.name)).hint(hint)
    };
    Faults::check(failed.map(fault).collect())
}

/// The command as it was typed.
fn typed_again() -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    ["trainer".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}
