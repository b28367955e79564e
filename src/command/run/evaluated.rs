//! A run of no steps: it evaluates the base, or the adapter it would go on from, and leaves no checkpoint.

use std::path::Path;

use checkpoints::Run;
use faults::{Fault, Faults, Place};
use losses::Registry;

use super::resume::refuse_changes;
use crate::logging::typed::quoted;
use crate::recipe::{since_start, up_to_date};
use crate::report::Reporter;

/// Whether the run in a folder evaluated and was to do nothing else, so that going on from it is to begin.
///
/// # Errors
/// `folder` is not a run's directory, or its files cannot be read.
pub fn is_all(folder: &Path) -> Result<bool, Fault> {
    let run = Run::open(folder)?;
    // One that was ended before it had a recipe has evaluated nothing.
    let has_recipe = folder.join("recipe.toml").is_file();
    Ok(run.checkpoints()?.is_empty() && has_recipe && steps(&run)? == Some(0))
}

/// The steps of the recipe that a run keeps.
fn steps(run: &Run) -> Result<Option<i64>, Fault> {
    Ok(recipe(run)?.get("train").and_then(|train| train.get("steps")).and_then(toml::Value::as_integer))
}

fn recipe(run: &Run) -> Result<toml::Table, Fault> {
    toml::from_str(&run.recipe()?).map_err(|error| {
        Fault::new(format!("the run's recipe cannot be read: {error}"))
            .at(Place::file(run.folder().join("recipe.toml")))
            .hint("start a new run in another `output.dir`")
    })
}

/// Whether that evaluation is done, and its page written.
///
/// # Errors
/// The page cannot be read.
pub fn is_done(folder: &Path) -> Result<bool, Fault> {
    Reporter::has_told(&Run::open(folder)?, 0)
}

/// Looks whether the run that begins in `folder` is the one that evaluated there.
///
/// # Errors
/// The recipe has changed in more than its length.
pub fn refuse_another(folder: &Path, resolved: &toml::Table, registry: &Registry) -> Result<(), Faults> {
    let old = up_to_date(recipe(&Run::open(folder)?)?, registry);
    let changes = since_start(&old, resolved);
    let changed = [changes.blocking, changes.base, changes.encoders].concat();
    Ok(refuse_changes(&changed, folder)?)
}

/// Takes away the evaluation, which the run that begins makes again.
///
/// # Errors
/// The file cannot be written.
pub fn forget(run: &Run) -> Result<(), Fault> {
    run.write_file("metrics.jsonl", &[])
}

/// What a person is told at the end.
///
/// # Errors
/// The metrics cannot be read.
pub fn closing_words(run: &Run) -> Result<String, Fault> {
    let metrics = run.metrics()?;
    let number =
        |key: &str| metrics.iter().rev().find(|line| line["split"] == "eval").and_then(|line| line[key].as_f64());
    let of = |key: &str| number(key).map_or_else(String::new, |value| format!(", {key} {value:.4}"));
    let folder = quoted(&run.folder().display().to_string());
    Ok(format!(
        "done: evaluated, nothing trained{}{} of the held-out rows\n\nthe numbers are in {folder}/metrics.jsonl; with \
         more `train.steps`, `--resume` trains in the same folder\n",
        of("nll"),
        of("entropy")
    ))
}
