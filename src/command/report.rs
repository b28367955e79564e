//! `trainer report`: a page that compares what was evaluated.

use std::path::{Path, PathBuf};

use clap::Args;
use faults::{Fault, Faults, Place};
use pages::read::{self, Run, Trouble};
use pages::{Comparison, samples::Drawn};
use serde_json::Value;

use super::{Outcome, announce};

/// Write a page that compares models: verdict, precision against recall, metrics, samples.
///
/// One HTML file that needs nothing but itself. An arm is what runs share that differ in `seed=N` of their name alone.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Sweeps, runs, or files that `trainer eval` wrote
    #[arg(required = true, value_name = "RUN|SWEEP|EVAL.jsonl")]
    paths: Vec<PathBuf>,
    /// The arm that the others are compared with; by default the sweep's own, or the first
    #[arg(long, value_name = "ARM")]
    baseline: Option<String>,
    /// The file to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A path without an evaluation, a line that is none, a baseline that is no arm, a file that cannot be written.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    let titles: Vec<String> = arguments.paths.iter().map(|path| path.display().to_string()).collect();
    let mut comparison = Comparison { title: titles.join(", "), ..Comparison::default() };
    for path in &arguments.paths {
        if path.join("sweep.json").is_file() {
            add_sweep(path, &mut comparison)?;
        } else if path.is_dir() {
            add_run(path, &mut comparison)?;
        } else {
            add_evaluation(path, &mut comparison.runs)?;
        }
    }
    if let Some(baseline) = &arguments.baseline {
        let mut arms: Vec<&str> = comparison.runs.iter().map(|run| &run.arm[..]).collect();
        arms.dedup();
        if !arms.contains(&&baseline[..]) {
            return Err(Fault::new(format!("no arm is named `{baseline}`"))
                .at(super::argument("baseline"))
                .hint(format!("one of: {}", arms.join(", ")))
                .into());
        }
        comparison.baseline = Some(baseline.clone());
    }
    let page = pages::render(&comparison);
    fs_err::write(&arguments.out, page)
        .map_err(|error| Fault::of_file("cannot write the page", &arguments.out, &error))?;
    announce(&format!("wrote {}", arguments.out.display()));
    Ok(Outcome::Done)
}

fn text(path: &Path) -> Result<String, Fault> {
    fs_err::read_to_string(path).map_err(|error| Fault::of_file("cannot read what was evaluated", path, &error))
}

fn located(path: &Path, trouble: &Trouble) -> Fault {
    Fault::new(format!("line {}: {}", trouble.line, trouble.message))
        .at(Place::file(path))
        .hint("give what `trainer eval` printed, one JSON object a line")
}

fn add_evaluation(path: &Path, runs: &mut Vec<Run>) -> Result<(), Fault> {
    read::evaluations(&text(path)?, runs).map_err(|trouble| located(path, &trouble))
}

fn samples(path: &Path, name: &str) -> Result<Vec<Drawn>, Fault> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    read::samples(name, &text(path)?).map_err(|trouble| located(path, &trouble))
}

/// The evaluations of a run while it trained: an arm for each step.
fn add_run(folder: &Path, comparison: &mut Comparison) -> Result<(), Fault> {
    let evaluations = folder.join("evaluation");
    let mut steps: Vec<String> = fs_err::read_dir(&evaluations)
        .map_err(|error| {
            Fault::of_file("cannot read what was evaluated", &evaluations, &error)
                .hint("`trainer eval RUN --data FILE > eval.jsonl` evaluates a run; give that file")
        })?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    steps.sort();
    for step in steps {
        let mut runs = Vec::new();
        let file = format!("{step}.jsonl");
        add_evaluation(&evaluations.join(&file), &mut runs)?;
        let arm = format!("{} {step}", folder.display());
        comparison.runs.extend(runs.into_iter().map(|run| Run {
            name: arm.clone(),
            arm: arm.clone(),
            seed: None,
            ..run
        }));
        comparison.samples.extend(samples(&folder.join("samples").join(&file), &arm)?);
    }
    Ok(())
}

/// All runs of a sweep, under the arms and seeds that it names; those that failed are listed.
fn add_sweep(folder: &Path, comparison: &mut Comparison) -> Result<(), Fault> {
    let file = folder.join("sweep.json");
    let sweep: Value = serde_json::from_str(&text(&file)?)
        .map_err(|error| Fault::new(format!("this is no sweep: {error}")).at(Place::file(&file)))?;
    for entry in sweep["runs"].as_array().into_iter().flatten() {
        let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let (name, arm) = (word("name"), word("arm"));
        let evaluation = folder.join("evaluation").join(format!("{name}.jsonl"));
        if !evaluation.is_file() {
            let why = match &word("fault")[..] {
                "" => format!("it is {}, and was not evaluated", word("state")),
                fault => fault.to_owned(),
            };
            comparison.failures.push((name, why));
            continue;
        }
        let mut runs = Vec::new();
        add_evaluation(&evaluation, &mut runs)?;
        let seed = entry["seed"].as_u64();
        comparison.samples.extend(samples(&folder.join("samples").join(format!("{name}.jsonl")), &name)?);
        comparison.runs.extend(runs.into_iter().map(|run| Run { name: name.clone(), arm: arm.clone(), seed, ..run }));
    }
    let base = folder.join("evaluation/base.jsonl");
    if base.is_file() {
        let mut runs = Vec::new();
        add_evaluation(&base, &mut runs)?;
        let name = "base".to_owned();
        comparison.runs.extend(runs.into_iter().map(|run| Run {
            name: name.clone(),
            arm: name.clone(),
            seed: None,
            ..run
        }));
    }
    comparison.samples.extend(samples(&folder.join("samples/base.jsonl"), "base")?);
    comparison.baseline = sweep["baseline"].as_str().map(str::to_owned).or(comparison.baseline.take());
    for key in ["recipe", "set", "grid", "evaluation"] {
        comparison.settings.push((key.into(), sweep[key].as_str().map_or(sweep[key].to_string(), str::to_owned)));
    }
    Ok(())
}
