//! The folder of a sweep: what it is, where each run stands, and what was measured.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use checkpoints::Lock;
use faults::{Fault, Faults, Place, counted};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::grid::{self, Axis, Point};
use super::table::Measured;
use crate::command::{announce, argument};
use crate::logging::typed::quoted;

/// What the model before training is called among the evaluations.
pub(super) const BASE: &str = "base";

const SWEEP: &str = "sweep.json";
const RECIPE: &str = "recipe.toml";
const LOCK: &str = "lock";
/// The folders in it.
const PARTS: [&str; 4] = ["runs", "logs", "evaluation", "samples"];
/// Written whole and then renamed.
const PARTIAL: &str = ".partial";

/// `sweep.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Sweep {
    /// The recipe's path as it was given.
    pub recipe: String,
    /// Where the command was typed: paths of recipe and rows are relative to it.
    pub directory: String,
    pub set: Vec<String>,
    pub grid: Vec<Axis>,
    pub runs: Vec<RunState>,
    /// The arm that the others are compared with.
    pub baseline: String,
    /// The model before training, where all runs have the same and it can be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The model of a sweep that trains none and samples at every point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    pub evaluation: Evaluation,
    /// What every run is sampled on, where samples are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Sampling>,
}

impl Sweep {
    /// The points of the grid, in the order of the runs.
    ///
    /// # Errors
    /// As [`grid::points`].
    pub(super) fn points(&self) -> Result<Vec<Point>, Faults> {
        grid::points(&self.grid, &stem(Path::new(&self.recipe)), &argument("grid"))
    }
}

/// What a recipe is called: its file's name without the ending.
pub(super) fn stem(recipe: &Path) -> String {
    recipe.file_stem().map_or("recipe".into(), |stem| stem.to_string_lossy().into_owned())
}

/// What samples are drawn of, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Sampling {
    pub prompts: String,
    /// Of `trainer sample`, without their dashes: `n=8`.
    pub options: Vec<String>,
    /// Of `trainer eval --samples`, which measures them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measure: Vec<String>,
}

impl Sampling {
    /// Whether the samples are the same, however they are measured.
    fn draws_alike(&self, other: &Self) -> bool {
        (&self.prompts, &self.options) == (&other.prompts, &other.options)
    }
}

/// What all runs are measured on, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Evaluation {
    pub data: Vec<String>,
    pub temperatures: Vec<f64>,
    /// `COLUMN=KEY`, as `trainer eval --rename` takes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rename: Vec<String>,
    pub device: String,
}

/// Where a run stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RunState {
    pub name: String,
    pub arm: String,
    pub seed: u64,
    pub settings: Map<String, Value>,
    pub state: State,
    /// The first line of what went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Trained and measured.
    Done,
    Failed,
    /// Not begun, or stopped on the way.
    Waiting,
}

impl RunState {
    pub(super) fn waiting(point: &Point, seed: u64) -> Self {
        Self {
            name: point.name.clone(),
            arm: point.arm.clone(),
            seed,
            settings: point.settings.clone(),
            state: State::Waiting,
            fault: None,
        }
    }
}

/// Who else may work in the folder meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody: what the sweep is may change.
    Alone,
    /// Tasks, each of which trains one run; they wait for who works alone.
    Shared,
}

/// The folder, held against every other process that would sweep into it.
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// A new folder, or the one of a sweep that goes on: `sweep`, with what is done already.
    ///
    /// # Errors
    /// The folder of another sweep, with what changed; of anything else; one that another process sweeps into.
    pub(super) fn open(path: &Path, mut sweep: Sweep, recipe: Option<&str>) -> Result<(Self, Sweep), Faults> {
        let old = before(path)?;
        if let Some(old) = &old {
            let kept = fs_err::read_to_string(path.join(RECIPE)).ok();
            let is_other = kept.zip(recipe).is_some_and(|(kept, recipe)| kept != recipe);
            let faults = changes(old, &sweep, is_other);
            Faults::check(faults.into_iter().map(|fault| fault.or_at(Place::file(path))).collect())?;
        }
        for part in PARTS {
            let part = path.join(part);
            fs_err::create_dir_all(&part).map_err(|error| Fault::of_file("cannot make the folder", &part, &error))?;
        }
        let folder = Self { _lock: lock(path, Hold::Alone)?, path: path.to_owned() };
        if let Some(old) = &old {
            if old.evaluation != sweep.evaluation {
                tracing::info!("the runs are measured again: `--data` or `--temperatures` changed");
                folder.forget_evaluations(old)?;
            }
            if old.samples != sweep.samples {
                let alike = old.samples.iter().zip(&sweep.samples).any(|(old, new)| old.draws_alike(new));
                folder.forget_samples(old, alike)?;
            }
            let new = sweep.runs.iter().filter(|run| old.runs.iter().all(|known| known.name != run.name)).count();
            if new > 0 {
                tracing::info!("the sweep had {}; {new} more", counted(old.runs.len() as u64, "run"));
            }
        }
        folder.look_what_is_done(&mut sweep);
        // The recipe comes second: a folder with `sweep.json` alone is a sweep in which nothing has run yet.
        folder.write_sweep(&sweep)?;
        if let Some(recipe) = recipe {
            folder.write(RECIPE, recipe.as_bytes())?;
        }
        Ok((folder, sweep))
    }

    /// The folder of a sweep that is there, in which nothing of what it is changes. Paths of its recipe are relative to where
    /// the sweep was started, and so this process works there from now on.
    ///
    /// # Errors
    /// There is no sweep, or the folder that it was started in is not there.
    pub(super) fn enter(path: &Path, hold: Hold) -> Result<(Self, Sweep), Fault> {
        let path = std::path::absolute(path).map_err(|error| Fault::of_file("cannot find it", path, &error))?;
        let none = || {
            let fault = Fault::new("there is no sweep in this folder").at(Place::file(&path));
            fault
                .hint(format!("a sweep's folder holds `{SWEEP}`; `trainer sweep RECIPE --grid .. --out DIR` makes one"))
        };
        let mut sweep = if path.is_dir() { before(&path)? } else { None }.ok_or_else(none)?;
        std::env::set_current_dir(&sweep.directory).map_err(|error| {
            let fault =
                Fault::of_file("cannot work in the folder that the sweep was started in", &sweep.directory, &error);
            fault.hint(
                "paths of recipe and rows are relative to it; the sweep's own command, typed anew here, says another",
            )
        })?;
        let folder = Self { _lock: lock(&path, hold)?, path };
        folder.look_what_is_done(&mut sweep);
        Ok((folder, sweep))
    }

    fn look_what_is_done(&self, sweep: &mut Sweep) {
        let measured: Vec<bool> = sweep.runs.iter().map(|run| self.is_measured(sweep, &run.name)).collect();
        for (run, is_measured) in sweep.runs.iter_mut().zip(measured) {
            if is_measured {
                (run.state, run.fault) = (State::Done, None);
            } else if run.state == State::Done {
                run.state = State::Waiting;
            }
        }
    }

    /// True when there is nothing left to measure of a run, or of the base.
    pub(super) fn is_measured(&self, sweep: &Sweep, name: &str) -> bool {
        let is_there = |file: PathBuf| file.is_file();
        let of_samples =
            sweep.samples.is_none() || is_there(self.samples(name)) && is_there(self.measured_samples(sweep, name));
        is_there(self.evaluation(name)) && of_samples
    }

    /// Makes every evaluation one that has begun and is not done.
    fn forget_evaluations(&self, sweep: &Sweep) -> Result<(), Fault> {
        let names = sweep.runs.iter().map(|run| &*run.name).chain([BASE]);
        for name in names.filter(|name| self.evaluation(name).exists()) {
            let whole = self.evaluation(name);
            fs_err::rename(&whole, partial(&whole))
                .map_err(|error| Fault::of_file("cannot rename it", &whole, &error))?;
        }
        Ok(())
    }

    /// Removes what was measured of samples, and unless they are to be `kept` the samples.
    fn forget_samples(&self, sweep: &Sweep, kept: bool) -> Result<(), Fault> {
        for name in sweep.runs.iter().map(|run| &*run.name).chain([BASE]) {
            let files = [self.measured_samples(sweep, name), self.samples(name)];
            let forgotten = files.iter().take(if kept { 1 } else { 2 });
            for file in forgotten.filter(|file| file.exists()) {
                fs_err::remove_file(file).map_err(|error| Fault::of_file("cannot remove it", file, &error))?;
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write_sweep(&self, sweep: &Sweep) -> Result<(), Fault> {
        let text = serde_json::to_string_pretty(sweep).expect("a sweep is JSON");
        self.write(SWEEP, format!("{text}\n").as_bytes())
    }

    /// Writes a file of the folder whole or not at all.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Fault> {
        checkpoints::replace(&self.path.join(name), bytes)
    }

    pub(super) fn recipe(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    pub(super) fn run(&self, name: &str) -> PathBuf {
        self.path.join("runs").join(name)
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn evaluation(&self, name: &str) -> PathBuf {
        self.path.join(format!("evaluation/{name}.jsonl"))
    }

    pub(super) fn samples(&self, name: &str) -> PathBuf {
        self.path.join(format!("samples/{name}.jsonl"))
    }

    /// What was measured of the samples of a run: beside them, or where nothing is trained all that is measured.
    pub(super) fn measured_samples(&self, sweep: &Sweep, name: &str) -> PathBuf {
        match sweep.model {
            Some(_) => self.evaluation(name),
            None => self.path.join(format!("samples/{name}.measured.jsonl")),
        }
    }

    /// True when a run has been trained to its end: what is measured of it has begun.
    pub(super) fn is_trained(&self, name: &str) -> bool {
        let evaluation = self.evaluation(name);
        partial(&evaluation).is_file() || evaluation.is_file() || self.samples(name).is_file()
    }

    /// What was measured of a run, or of the base.
    pub(super) fn measured(&self, sweep: &Sweep, name: &str) -> Result<Measured, Fault> {
        let mut lines = read_lines(&self.evaluation(name))?;
        if sweep.samples.is_some() && sweep.model.is_none() {
            lines.extend(read_lines(&self.measured_samples(sweep, name))?);
        }
        Ok(Measured::read(&lines))
    }
}

/// What `trainer eval` printed into a file.
fn read_lines(path: &Path) -> Result<Vec<Value>, Fault> {
    let text =
        fs_err::read_to_string(path).map_err(|error| Fault::of_file("cannot read what was measured", path, &error))?;
    let read = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let fault = Fault::new(format!("this is no line of `trainer eval`: {error}"));
            fault.at(Place::line(path, number + 1)).hint("remove the file: the same command measures again")
        })
    };
    text.lines().enumerate().map(read).collect()
}

/// Where a file is written to before it is whole.
pub(super) fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(PARTIAL);
    name.into()
}

/// The sweep that is in a folder already.
pub(super) fn before(path: &Path) -> Result<Option<Sweep>, Fault> {
    let file = path.join(SWEEP);
    if file.is_file() {
        let text = fs_err::read_to_string(&file).map_err(|error| Fault::of_file("cannot read it", &file, &error))?;
        let read = serde_json::from_str(&text).map_err(|error| {
            let fault = Fault::new(format!("this is not what a sweep writes: {error}")).at(Place::file(&file));
            fault.hint("another version wrote it: name another folder with `--out`")
        });
        return read.map(Some);
    }
    if path.exists() && !path.is_dir() {
        let fault = Fault::new("the folder of the sweep is a file").at(Place::file(path));
        return Err(fault.hint("name another with `--out`"));
    }
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    // The files of a sweep that was stopped before it had written its description.
    let is_ours = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        *name == *LOCK || PARTS.contains(&&*name) || name.ends_with(PARTIAL)
    };
    if entries.into_iter().any(|name| !is_ours(&name)) {
        let fault = Fault::new("the folder is not empty, and holds no sweep").at(Place::file(path));
        return Err(fault.hint("name another with `--out`"));
    }
    Ok(None)
}

/// How a sweep is another one than that which is in its folder, more values of a key apart: those are more runs.
fn changes(old: &Sweep, new: &Sweep, other_recipe: bool) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut changed = |message: String| {
        let hint =
            "give the command as it was, to which values of the grid may be added, or name another folder with `--out`";
        faults.push(Fault::new(message).hint(hint));
    };
    if other_recipe {
        changed(format!("`{}` is not the recipe of the sweep in this folder, which has another text", new.recipe));
    }
    if old.model != new.model {
        let of = |sweep: &Sweep| match &sweep.model {
            Some(model) => format!("samples `{model}`"),
            None => "trains a recipe".into(),
        };
        changed(format!("the sweep in this folder {}, and now it {}", of(old), of(new)));
    } else if old.model.is_some() && !old.samples.iter().zip(&new.samples).all(|(old, new)| old.draws_alike(new)) {
        changed("`--prompts` or `--sample` are not those of the sweep in this folder".into());
    }
    let sets = |sweep: &Sweep| {
        let words: Vec<String> = sweep.set.iter().map(|set| format!("`--set {}`", quoted(set))).collect();
        if words.is_empty() { "no `--set`".into() } else { words.join(" ") }
    };
    if old.set != new.set {
        changed(format!("the sweep in this folder has {}, and now it is {}", sets(old), sets(new)));
    }
    let grid = |sweep: &Sweep| json!(sweep.grid);
    if grid(old) != grid(new) {
        for axis in &new.grid {
            let Some(before) = old.grid.iter().find(|before| before.key == axis.key) else {
                changed(format!("`{}` is not in the grid of the sweep in this folder", axis.key));
                continue;
            };
            let gone: Vec<&Value> = before.values.iter().filter(|value| !axis.values.contains(value)).collect();
            if !gone.is_empty() {
                let before = json!(before.values);
                let message =
                    format!("`{}` has the values {before} in this folder, and now not {}", axis.key, json!(gone));
                changed(message);
            }
        }
        for axis in old.grid.iter().filter(|axis| new.grid.iter().all(|now| now.key != axis.key)) {
            changed(format!("`{}` is in the grid of the sweep in this folder, and now it is not", axis.key));
        }
        let keys = |sweep: &Sweep| sweep.grid.iter().map(|axis| axis.key.clone()).collect::<Vec<_>>();
        if faults.is_empty() && keys(old) != keys(new) {
            let fault = Fault::new("the keys of the grid are in another order than in this folder");
            faults.push(fault.at(argument("grid")).hint("give them in the order they had"));
        }
    }
    faults
}

/// Keeps other processes from sweeping into a folder.
fn lock(path: &Path, hold: Hold) -> Result<File, Fault> {
    let file = path.join(LOCK);
    // Read, too: some file systems share a lock among readers alone.
    let lock = File::options().read(true).write(true).create(true).truncate(false).open(&file);
    let lock = lock.map_err(|error| Fault::of_file("cannot write it", &file, &error))?;
    let held = match hold {
        Hold::Alone => Lock::ask(|| lock.try_lock()),
        Hold::Shared => match Lock::ask(|| lock.try_lock_shared()) {
            // A task that has got its place on a cluster does not give it up for who only gathers.
            Lock::Taken => {
                announce("waiting for the process that works in the folder of this sweep");
                Lock::ask(|| lock.lock_shared().map_err(TryLockError::Error))
            }
            held => held,
        },
    };
    match held {
        Lock::Held => {}
        Lock::Taken => {
            return Err(Fault::new("another process works in the folder of this sweep")
                .at(Place::file(path))
                .hint("wait for it, which may be tasks on a cluster; another sweep has another `--out`"));
        }
        Lock::Missing(error) => Lock::warn_of_missing(path, &error),
    }
    Ok(lock)
}
