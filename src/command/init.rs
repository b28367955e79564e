//! `trainer init`: a commented recipe from the settings of another trainer, from a few words, or from questions.

mod asked;
mod draft;
mod keys;
mod rows;
mod source;
mod special;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use faults::{Fault, Faults, Place, counted};
use losses::Registry;

use self::draft::Draft;
use self::source::Source;
use super::recipes::{RealRun, real_text, tell_of_schema};
use super::{Outcome, print};
use crate::recipe;

/// Write a recipe from what another trainer has, or from a few questions.
///
/// Of every setting of SOURCE the recipe says what became of it: it is written under its name here, or named at the end with
/// the reason why not.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Settings of PEFT (`adapter_config.json`, or its folder), Axolotl, LLaMA-Factory or TRL (YAML or JSON).
    source: Option<PathBuf>,
    /// The file to write, `-` for stdout; one that is there is left as it is.
    #[arg(long, value_name = "FILE", default_value = "recipe.toml")]
    out: PathBuf,
    /// The model, a folder or `org/name`, in place of the one that SOURCE names.
    #[arg(long, value_name = "PATH")]
    model: Option<String>,
    /// The rows to train on, in place of those that SOURCE names; may be given several times.
    #[arg(long, value_name = "FILE")]
    train: Vec<String>,
    /// The rows to evaluate on.
    #[arg(long, value_name = "FILE")]
    eval: Vec<String>,
    /// What to train by, `objective.kind` of the recipe; `nll` unless given.
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// A source that cannot be read or is of no trainer that is known here, questions that nobody answers, a file that is there
/// already or cannot be written.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    refuse_existing(&arguments.out)?;
    check_objective(arguments.objective.as_deref(), registry)?;
    let text = match &arguments.source {
        Some(path) => from_source(path, arguments)?,
        None => real_text(arguments.objective.as_deref().unwrap_or("nll"), &real_run(arguments)?)?,
    };
    // What it says is all from others: it may be refused here.
    let read = recipe::parse(&arguments.out.display().to_string(), &text, &[], registry);
    write(&arguments.out, &text)?;
    match read {
        Ok(recipe) => recipe.warnings.iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(faults) => {
            let list = faults.list().iter().map(|fault| fault.message.clone()).collect::<Vec<_>>().join("; ");
            tracing::warn!("the recipe needs your hand before it can be run: {list}");
        }
    }
    if arguments.out != Path::new("-") {
        tell_of_schema(&arguments.out);
        tracing::info!("`trainer check {}` says what it makes of your rows", arguments.out.display());
        print(&format!("{}\n", arguments.out.display()))?;
    }
    Ok(Outcome::Done)
}

fn from_source(path: &Path, arguments: &Arguments) -> Result<String, Faults> {
    let source = Source::read(path)?;
    let mut draft = keys::translate(&source)?;
    if let Some(model) = &arguments.model {
        draft.set("model.path", model.as_str(), "--model");
        draft.remove("model.revision");
    }
    for (key, files) in [("data.train", &arguments.train), ("data.eval", &arguments.eval)] {
        if !files.is_empty() {
            draft.set(key, files.clone(), &format!("--{}", key.trim_start_matches("data.")));
        }
    }
    if let Some(objective) = &arguments.objective {
        draft.set("objective.kind", objective.as_str(), "--objective");
    }
    keys::complete(&mut draft, &source);
    tell(&draft, &source, &arguments.out);
    Ok(draft.text(&source))
}

/// How much of the source is in the recipe.
fn tell(draft: &Draft, source: &Source, out: &Path) {
    let (written, left) = (draft.translated(), draft.left_out());
    let of = format!("{} ({})", source.path.display(), source.trainer.name());
    let written = counted(written as u64, "setting");
    match left {
        0 => tracing::info!("{written} of {of} are in the recipe, and none is left out"),
        _ => tracing::info!(
            "{written} of {of} are in the recipe; {left} have no place here: the end of {} says which, and why",
            if out == Path::new("-") { "it".into() } else { out.display().to_string() }
        ),
    }
    for word in draft.remarks() {
        tracing::warn!("{word}");
    }
}

/// Model and rows, from the command line or from who sits at it.
fn real_run(arguments: &Arguments) -> Result<RealRun, Fault> {
    let Arguments { model, train, eval, .. } = arguments;
    if let (Some(model), false) = (model, train.is_empty()) {
        return Ok(RealRun { model: model.clone(), train: train.clone(), eval: eval.clone() });
    }
    if !io::stdin().is_terminal() {
        return Err(Fault::new("there is nothing to write a recipe from, and nobody to ask: stdin is no terminal")
            .at(Place::Named("trainer init".into()))
            .hint("name the settings of another trainer, or write `--model NAME --train FILE`"));
    }
    asked::ask(&mut io::stdin().lock(), &mut io::stderr(), model.clone(), train.clone(), eval.clone())
}

fn check_objective(name: Option<&str>, registry: &Registry) -> Result<(), Fault> {
    let names: Vec<&str> = registry.objectives.iter().map(|kind| kind.name).collect();
    match name {
        Some(name) if !names.contains(&name) => {
            let hint = match faults::nearest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("one of: {}", names.join(", ")),
            };
            Err(Fault::new(format!("no objective is named `{name}`")).at(super::argument("objective")).hint(hint))
        }
        _ => Ok(()),
    }
}

fn refuse_existing(out: &Path) -> Result<(), Fault> {
    match out != Path::new("-") && out.symlink_metadata().is_ok() {
        true => Err(Fault::new("the file is there already").at(Place::file(out)).hint("name another with `--out`")),
        false => Ok(()),
    }
}

fn write(out: &Path, text: &str) -> Result<(), Fault> {
    if out == Path::new("-") {
        return print(text);
    }
    let unwritable = |error: io::Error| Fault::of_file("cannot write the recipe", out, &error);
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs_err::create_dir_all(folder).map_err(unwritable)?;
    }
    match std::fs::File::create_new(out) {
        Ok(mut file) => file.write_all(text.as_bytes()).map_err(|error| {
            // A part of a recipe would stand in the way of the next attempt.
            let _ = std::fs::remove_file(out);
            unwritable(error)
        }),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => refuse_existing(out),
        Err(error) => Err(unwritable(error)),
    }
}

#[cfg(test)]
mod tests;
