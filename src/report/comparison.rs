//! The page that compares what was evaluated: folders and files as runs, sweeps and `trainer eval` write them.

mod targets;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use faults::{Fault, Place};
use pages::grid::{Grid, value_text};
use pages::read::{self, Point, Run, Trouble};
use pages::samples::{self, Drawn};
use pages::training::Training;
use pages::{Comparison, UnknownBaseline};
use serde_json::Value;

use super::record::SAMPLES;
use targets::add_targets;

/// The model before training.
const BASE: &str = "base";

/// What is compared: all of the paths, each a sweep, a run, or a file of evaluations or samples.
///
/// # Errors
/// A path without an evaluation, and a line that is none.
pub fn of_paths(paths: &[PathBuf]) -> Result<Comparison, Fault> {
    let titles: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let mut comparison = Comparison { title: titles.join(", "), ..Comparison::default() };
    for path in paths {
        if is_there(&path.join("sweep.json"))? {
            add_sweep(path, &mut comparison)?;
        } else if path.is_dir() {
            add_run(path, &mut comparison)?;
        } else {
            add_file(path, &mut comparison)?;
        }
    }
    Ok(comparison)
}

/// The evaluations of a run while it trained, whose metrics are `lines`, the first step as what the others are compared with;
/// `None` where it has none.
///
/// # Errors
/// A file that cannot be read.
pub fn of_run(folder: &Path, lines: &[Value]) -> Result<Option<Comparison>, Fault> {
    let mut comparison = Comparison { title: folder.display().to_string(), ..Comparison::default() };
    comparison.temperature = temperature(&folder.join("recipe.toml"));
    if add_steps(folder, lines, &mut comparison)? == 0 {
        return Ok(None);
    }
    add_targets_of_run(folder, &mut comparison);
    Ok(Some(comparison))
}

/// Writes the page of a sweep into its folder; gives the words of its first verdict, if it has one, and the page's path.
///
/// # Errors
/// A file that cannot be read or written.
pub fn write_sweep(folder: &Path) -> Result<(Option<String>, PathBuf), Fault> {
    let (comparison, page) = (of_paths(&[folder.to_owned()])?, folder.join("report.html"));
    write(&comparison, &page)?;
    let verdict = pages::headline(&comparison).map_err(|unknown| fault_of(&unknown))?;
    Ok((verdict, page))
}

/// Writes the page of a comparison.
///
/// # Errors
/// A baseline that is no arm, a file that cannot be written.
pub fn write(comparison: &Comparison, out: &Path) -> Result<(), Fault> {
    let page = pages::render(comparison).map_err(|unknown| fault_of(&unknown))?;
    checkpoints::write_whole(out, page.as_bytes())
}

fn fault_of(unknown: &UnknownBaseline) -> Fault {
    let arms = unknown.arms.iter().map(|arm| format!("`{arm}`")).collect::<Vec<_>>().join(", ");
    Fault::new(format!("no arm is named `{}`", unknown.wanted)).hint(match &arms[..] {
        "" => "nothing was evaluated".into(),
        arms => format!("the arms are {arms}"),
    })
}

fn text(path: &Path) -> Result<String, Fault> {
    faults::read_text(path).map_err(|error| unread(path, &error))
}

/// Whether there is such a file or folder: one that the disk does not tell of is none that is missing.
fn is_there(path: &Path) -> Result<bool, Fault> {
    match path.try_exists() {
        Err(error) if error.kind() == ErrorKind::NotADirectory => Ok(false),
        found => found.map_err(|error| unread(path, &error)),
    }
}

fn unread(path: &Path, error: &io::Error) -> Fault {
    Fault::of_file("cannot read what was evaluated", path, error)
}

fn located(path: &Path, trouble: &Trouble) -> Fault {
    let hint = "give what `trainer eval` or `trainer sample` printed, one JSON object a line";
    Fault::new(trouble.message.clone()).at(Place::line(path, trouble.line)).hint(hint)
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| path.display().to_string(), |stem| stem.to_string_lossy().into_owned())
}

/// A file that `trainer eval` wrote, or `trainer sample`.
fn add_file(path: &Path, comparison: &mut Comparison) -> Result<(), Fault> {
    let text = faults::read_given(path).map_err(|error| unread(path, &error))?;
    let lines = read::objects(&text).map_err(|trouble| located(path, &trouble))?;
    let Some((_, first)) = lines.first() else {
        let hint = "a file of `trainer eval` or `trainer sample` has a line for each result";
        return Err(Fault::new("the file is empty").at(Place::file(path)).hint(hint));
    };
    if !first.contains_key("model") && (first.contains_key("text") || first.contains_key("response")) {
        comparison.samples.extend(samples::read(&stem(path), &text).map_err(|trouble| located(path, &trouble))?);
        return Ok(());
    }
    read::evaluations(&text, &stem(path), &mut comparison.runs).map_err(|trouble| located(path, &trouble))
}

/// The evaluation of one model, all of it under one name; `None` where the file holds none.
fn evaluation(path: &Path, name: &str) -> Result<Option<Run>, Fault> {
    let mut runs = Vec::new();
    read::evaluations(&text(path)?, name, &mut runs).map_err(|trouble| located(path, &trouble))?;
    match runs.len() {
        0 => Ok(None),
        1 => Ok(runs.pop()),
        count => Err(Fault::new(format!("the file evaluates {count} models, and is that of `{name}` alone"))
            .at(Place::file(path))
            .hint("give the file itself to `trainer report`")),
    }
}

fn drawn(path: &Path, name: &str) -> Result<Vec<Drawn>, Fault> {
    if !is_there(path)? {
        return Ok(Vec::new());
    }
    samples::read(name, &text(path)?).map_err(|trouble| located(path, &trouble))
}

/// The steps of `folder` that have a file, rising.
fn steps(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Fault> {
    let unread = |error| unread(folder, &error);
    if !is_there(folder)? {
        return Ok(Vec::new());
    }
    let mut steps = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(unread)? {
        let path = entry.map_err(unread)?.path();
        let step = stem(&path).strip_prefix("step-").and_then(|step| step.parse().ok());
        if let Some(step) = step.filter(|_| path.extension().is_some_and(|extension| extension == "jsonl")) {
            steps.push((step, path));
        }
    }
    steps.sort();
    Ok(steps)
}

/// Of the steps the first, the best of the run and the last: before and after stand side by side, and what lies between is
/// in the run's curves.
fn ends(folder: &Path, all: Vec<(u64, PathBuf)>) -> Vec<(u64, PathBuf)> {
    let best = faults::read_text(&folder.join("checkpoints/best")).ok();
    let best = best.and_then(|name| name.trim().strip_prefix("step-")?.parse::<u64>().ok());
    let ends = [all.first(), all.last()].map(|end| end.map(|(step, _)| *step));
    all.into_iter().filter(|(step, _)| ends.contains(&Some(*step)) || best == Some(*step)).collect()
}

/// Adds what a run measured and drew while it trained, an arm for each step that is shown; how many there are.
fn add_steps(folder: &Path, lines: &[Value], comparison: &mut Comparison) -> Result<usize, Fault> {
    // Several runs on one page are told apart by their folder.
    let alone = comparison.title == folder.display().to_string();
    let name = |step: u64| {
        let step = if step == 0 { "before (step 0)".into() } else { format!("step {step}") };
        if alone { step } else { format!("{} {step}", folder.display()) }
    };
    let evaluated = ends(folder, steps(&folder.join("evaluation"))?);
    for (step, path) in &evaluated {
        let arm = name(*step);
        match evaluation(path, &arm)? {
            Some(run) => {
                comparison.runs.push(Run { name: arm.clone(), arm: arm.clone(), seed: None, ..run });
                comparison.lead = Some(arm);
            }
            None => comparison.failures.push((arm, format!("`{}` is empty", path.display()))),
        }
    }
    let with_samples = ends(folder, steps(&folder.join("samples"))?);
    for (step, path) in &with_samples {
        let arm = name(*step);
        comparison.samples.extend(drawn(path, &arm)?);
        let Some(measured) = of_samples(lines, *step) else { continue };
        match comparison.runs.iter_mut().find(|run| run.name == arm) {
            // What has no temperature comes first.
            Some(run) => run.points.insert(0, measured),
            None => {
                let run = Run { name: arm.clone(), arm: arm.clone(), points: vec![measured], ..Run::default() };
                comparison.runs.push(run);
                comparison.lead = Some(arm);
            }
        }
    }
    Ok(evaluated.len() + with_samples.len())
}

/// What was measured of the samples of a step, by the line of its evaluation: means over the prompts.
fn of_samples(lines: &[Value], step: u64) -> Option<Point> {
    let line = lines.iter().rfind(|line| line["split"] == "eval" && line["step"] == step)?;
    let number = |(name, value): (&String, &Value)| {
        let name = match &name[..] {
            "entropy" => "sample_entropy".into(),
            // A setting stands after a dot in `metrics.jsonl`.
            name => name.replacen('.', "@", 1),
        };
        Some((name, value.as_f64()?))
    };
    let values: Vec<(String, f64)> = line[SAMPLES].as_object()?.iter().filter_map(number).collect();
    (!values.is_empty()).then(|| Point { values, ..Point::default() })
}

/// A run: what it measured while it trained, its curves and its recipe.
fn add_run(folder: &Path, comparison: &mut Comparison) -> Result<(), Fault> {
    let name = folder.display().to_string();
    let training = training(folder, &name, &name, None)?;
    let lines = training.as_ref().map_or(&[][..], |(training, _)| &training.lines);
    if add_steps(folder, lines, comparison)? == 0 {
        let hint = "`[eval] prompts` evaluates while a run trains; of others `trainer eval RUN --data FILE > eval.jsonl` makes a \
                    file: give that";
        return Err(Fault::new("no evaluation is in the folder").at(Place::file(folder)).hint(hint));
    }
    comparison.temperature = temperature(&folder.join("recipe.toml"));
    add_targets_of_run(folder, comparison);
    add_digests(&[folder.to_owned()], comparison);
    if let Some((training, is_whole)) = training {
        comparison.training.push(training);
        if !is_whole {
            let words = format!("{name}/metrics.jsonl ends in the middle of a line: its last numbers are not here");
            comparison.notes.push(words);
        }
    }
    settings(&folder.join("recipe.toml"), "recipe", comparison)
}

/// The training of a run, and whether its last line is whole.
fn training(folder: &Path, run: &str, arm: &str, seed: Option<u64>) -> Result<Option<(Training, bool)>, Fault> {
    let path = folder.join("metrics.jsonl");
    if !is_there(&path)? {
        return Ok(None);
    }
    // A run that is still going may be in the middle of its last line.
    let text = text(&path)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = read::objects(whole).map_err(|trouble| {
        Fault::new(trouble.message).at(Place::line(&path, trouble.line)).hint("the run writes this file: run it again")
    })?;
    let lines = lines.into_iter().map(|(_, line)| Value::Object(line)).collect();
    let is_whole = text.is_empty() || text.ends_with('\n');
    Ok(Some((Training { run: run.into(), arm: arm.into(), seed, lines }, is_whole)))
}

fn add_targets_of_run(folder: &Path, comparison: &mut Comparison) {
    let recipe = recipe(&folder.join("recipe.toml")).unwrap_or_default();
    let prompts = recipe.get("eval").and_then(|eval| eval.get("prompts")).and_then(toml::Value::as_array);
    let files: Vec<&str> = prompts.into_iter().flatten().filter_map(toml::Value::as_str).collect();
    add_targets(files.into_iter(), Path::new(""), &recipe, comparison);
}

fn recipe(path: &Path) -> Option<toml::Table> {
    faults::read_text(path).ok()?.parse().ok()
}

/// The temperature that a recipe draws at.
fn temperature(path: &Path) -> Option<f64> {
    let recipe = recipe(path)?;
    let temperature = recipe.get("eval")?.get("temperature")?;
    temperature.as_float().or_else(|| Some(temperature.as_integer()? as f64))
}

/// What checkpoints say of the rows and the base that runs were trained on: once where all say the same.
fn add_digests(folders: &[PathBuf], comparison: &mut Comparison) {
    let states: Vec<Value> = folders.iter().filter_map(|folder| latest_state(folder)).collect();
    for (name, pointer) in [
        ("digest of the training rows", "/train_fingerprint"),
        ("digest of the held-out rows", "/eval_fingerprint"),
        ("digest of the base's weights", "/base/weights"),
    ] {
        let mut digests: Vec<&str> = states.iter().filter_map(|state| state.pointer(pointer)?.as_str()).collect();
        digests.dedup();
        if !digests.is_empty() {
            comparison.settings.push((name.into(), digests.join(", ")));
        }
    }
}

/// The state of a run's last checkpoint.
fn latest_state(folder: &Path) -> Option<Value> {
    let entries = fs_err::read_dir(folder.join("checkpoints")).ok()?;
    let steps = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let last = steps.filter(|path| stem(path).starts_with("step-") && path.is_dir()).max()?;
    serde_json::from_str(&faults::read_text(&last.join("state.json")).ok()?).ok()
}

/// The recipe as it stands in a file, where it is there.
fn settings(path: &Path, name: &str, comparison: &mut Comparison) -> Result<(), Fault> {
    if is_there(path)? {
        comparison.settings.push((name.into(), text(path)?));
    }
    Ok(())
}

/// All runs of a sweep, under the arms and seeds that it names; those that failed are listed.
fn add_sweep(folder: &Path, comparison: &mut Comparison) -> Result<(), Fault> {
    let file = folder.join("sweep.json");
    let sweep: Value = serde_json::from_str(&text(&file)?).map_err(|error| {
        Fault::new(format!("this is no sweep: {error}")).at(Place::file(&file)).hint("`trainer sweep` writes this file")
    })?;
    let base = folder.join("evaluation").join(format!("{BASE}.jsonl"));
    if is_there(&base)?
        && let Some(mut run) = evaluation(&base, BASE)?
    {
        add_samples(&mut run, folder, BASE)?;
        comparison.runs.push(Run { name: BASE.into(), arm: BASE.into(), seed: None, ..run });
    }
    comparison.samples.extend(drawn(&folder.join("samples").join(format!("{BASE}.jsonl")), BASE)?);
    for entry in sweep["runs"].as_array().into_iter().flatten() {
        add_sweep_run(folder, entry, comparison)?;
    }
    add_grid(&sweep, comparison);
    let data = sweep["evaluation"]["data"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let from = Path::new(sweep["directory"].as_str().unwrap_or_default());
    add_targets(data, from, &recipe(&folder.join("recipe.toml")).unwrap_or_default(), comparison);
    // With all of its runs failed the baseline has no numbers, and the page must say what it compares with instead.
    match sweep["baseline"].as_str() {
        Some(arm) if comparison.runs.iter().any(|run| run.arm == arm) => comparison.baseline = Some(arm.into()),
        Some(arm) => comparison
            .notes
            .push(format!("The sweep's baseline {arm} has no numbers: the first arm that has some takes its place.")),
        None => {}
    }
    for key in ["set", "grid", "evaluation"] {
        comparison.settings.push((key.into(), sweep[key].to_string()));
    }
    let runs = sweep["runs"].as_array().into_iter().flatten().filter_map(|run| run["name"].as_str());
    let folders: Vec<PathBuf> = runs.map(|name| folder.join("runs").join(name)).collect();
    add_digests(&folders, comparison);
    comparison.temperature = temperature(&folder.join("recipe.toml"));
    let recipe = sweep["recipe"].as_str().unwrap_or("recipe");
    comparison.settings.push(("command".into(), command(&sweep, recipe, folder)));
    settings(&folder.join("recipe.toml"), recipe, comparison)
}

fn add_sweep_run(folder: &Path, entry: &Value, comparison: &mut Comparison) -> Result<(), Fault> {
    let word = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let (name, arm, seed) = (word("name"), word("arm"), entry["seed"].as_u64());
    let path = folder.join("evaluation").join(format!("{name}.jsonl"));
    let is_evaluated = is_there(&path)?;
    let run = if is_evaluated { evaluation(&path, &name)? } else { None };
    match run {
        Some(mut run) => {
            add_samples(&mut run, folder, &name)?;
            comparison.runs.push(Run { name: name.clone(), arm: arm.clone(), seed, ..run });
        }
        None => {
            let why = match (&word("fault")[..], is_evaluated) {
                ("", true) => "its evaluation is an empty file".into(),
                ("", false) => format!("it is {}, and was not evaluated", word("state")),
                (fault, _) => fault.to_owned(),
            };
            comparison.failures.push((name.clone(), why));
        }
    }
    // One column for an arm: its seeds answer the same. What the sweep has not drawn its runs may have, at their end.
    let mut samples = drawn(&folder.join("samples").join(format!("{name}.jsonl")), &arm)?;
    if let (true, Some((_, last))) =
        (samples.is_empty(), steps(&folder.join("runs").join(&name).join("samples"))?.last())
    {
        samples = drawn(last, &arm)?;
    }
    comparison.samples.extend(samples);
    // A run of a sweep may still be going.
    let training = training(&folder.join("runs").join(&name), &name, &arm, seed)?;
    comparison.training.extend(training.map(|(training, _)| training));
    Ok(())
}

/// What was measured of the samples of a run that a sweep has trained, beside the rest.
fn add_samples(run: &mut Run, folder: &Path, name: &str) -> Result<(), Fault> {
    let path = folder.join("samples").join(format!("{name}.measured.jsonl"));
    let measured = if is_there(&path)? { evaluation(&path, name)? } else { None };
    if let Some(Run { points, parts, .. }) = measured {
        run.points.extend(points);
        run.parts.extend(parts);
    }
    Ok(())
}

/// The keys of the grid but the seed, and their values by arm.
fn add_grid(sweep: &Value, comparison: &mut Comparison) {
    let axes = sweep["grid"].as_array().into_iter().flatten();
    let keys: Vec<String> = axes
        .filter_map(|axis| axis["key"].as_str())
        .filter(|key| !["seed", "sample.seed"].contains(key))
        .map(str::to_owned)
        .collect();
    let mut grid = Grid { keys, ..Grid::default() };
    for entry in sweep["runs"].as_array().into_iter().flatten() {
        let arm = entry["arm"].as_str().unwrap_or_default();
        if grid.arms.iter().all(|(known, _)| known != arm) {
            let values = grid.keys.iter().map(|key| value_text(&entry["settings"][key])).collect();
            grid.arms.push((arm.into(), values));
        }
    }
    comparison.grid = grid;
}

/// The command that makes the sweep again.
fn command(sweep: &Value, recipe: &str, folder: &Path) -> String {
    use crate::logging::typed::quoted;
    let mut words = vec!["trainer sweep".to_owned(), quoted(recipe)];
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for axis in list(&sweep["grid"]) {
        let values: Vec<String> = list(&axis["values"]).iter().map(written).collect();
        words.push(format!("--grid {}", quoted(&format!("{}={}", plain(&axis["key"]), values.join(",")))));
    }
    words.extend(list(&sweep["set"]).iter().map(|set| format!("--set {}", quoted(&plain(set)))));
    let evaluation = &sweep["evaluation"];
    words.extend(list(&evaluation["data"]).iter().map(|data| format!("--data {}", quoted(&plain(data)))));
    let temperatures: Vec<String> = list(&evaluation["temperatures"]).iter().map(plain).collect();
    if !temperatures.is_empty() {
        words.push(format!("--temperatures {}", temperatures.join(",")));
    }
    let samples = &sweep["samples"];
    words.extend(samples["prompts"].as_str().map(|prompts| format!("--prompts {}", quoted(prompts))));
    for (option, key) in [("--sample", "options"), ("--measure", "measure")] {
        words.extend(list(&samples[key]).iter().map(|value| format!("{option} {}", quoted(&plain(value)))));
    }
    words.push(format!("--out {}", quoted(&folder.display().to_string())));
    words.join(" ")
}

/// A value of a grid as `--grid` takes it: TOML, a plain word without its quotes.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().all(|letter| letter.is_alphanumeric() || "_-./".contains(letter)) => {
            text.clone()
        }
        Value::Object(table) => {
            let pairs: Vec<String> = table.iter().map(|(key, value)| format!("{key}={}", toml_of(value))).collect();
            format!("{{{}}}", pairs.join(","))
        }
        other => toml_of(other),
    }
}

fn toml_of(value: &Value) -> String {
    toml::Value::try_from(value).map_or_else(|_| value.to_string(), |value| value.to_string())
}
