//! `--emit slurm`: a script for `sbatch`, an array of tasks, each of which trains and measures one run.
//!
//! What a task does is said in `sweep.json`; the script holds no more than where that is, so that little has to be quoted.

use std::path::{Path, PathBuf};

use faults::{Fault, Place};

use super::folder::{Folder, Sweep, stem};
use crate::command::argument;
use crate::logging::typed::{is_one_line, quoted};

/// Tasks of one array: Slurm's `MaxArraySize` is 1001 where nobody has set it, and its indices end below that.
const MOST: usize = 1000;

/// Options that are the script's own.
const OURS: [&str; 3] = ["--array", "-a", "--wrap"];

/// Refuses options that are none of `sbatch`, or that the script gives itself.
pub(super) fn check(options: &[String]) -> Vec<Fault> {
    let fault = |option: &str| {
        let hint = match OURS.contains(&name(option)) {
            true => "the script says itself which tasks there are; leave it out",
            false => "write an option of `sbatch` on one line, for example `--slurm '--time=02:00:00'`",
        };
        Fault::new(format!("`--slurm` cannot be `{}`", option.escape_debug())).at(argument("slurm")).hint(hint)
    };
    let is_wrong = |option: &&String| {
        let option = option.as_str();
        !option.starts_with('-') || option.len() < 2 || !is_one_line(option) || OURS.contains(&name(option))
    };
    options.iter().filter(is_wrong).map(|option| fault(option)).collect()
}

/// The option without its value.
fn name(option: &str) -> &str {
    if option.starts_with("-a") { "-a" } else { option.split(['=', ' ']).next().unwrap_or_default() }
}

/// Writes the scripts of a sweep: one, or as many as its tasks need.
///
/// # Errors
/// A path that is no Unicode, which a script cannot hold, or a folder that cannot be written.
pub(super) fn write(folder: &Folder, sweep: &Sweep, options: &[String]) -> Result<Vec<PathBuf>, Fault> {
    let program = std::env::current_exe().map_err(|error| Fault::of_file("cannot find itself", "trainer", &error))?;
    let home =
        std::path::absolute(folder.path()).map_err(|error| Fault::of_file("cannot find it", folder.path(), &error))?;
    let (program, home) = (unicode(&program)?, unicode(&home)?);
    let tasks = sweep.runs.len() + usize::from(sweep.base.is_some());
    let starts: Vec<usize> = (0..tasks).step_by(MOST).collect();
    let mut scripts = Vec::new();
    for (number, first) in starts.iter().enumerate() {
        let name = if starts.len() == 1 { "sweep.sbatch".into() } else { format!("sweep-{}.sbatch", number + 1) };
        let text = script(sweep, (program, home), *first..tasks.min(first + MOST), options);
        folder.write(&name, text.as_bytes())?;
        scripts.push(Path::new(home).join(name));
    }
    Ok(scripts)
}

fn unicode(path: &Path) -> Result<&str, Fault> {
    path.to_str().ok_or_else(|| {
        let fault = Fault::new("the path is no Unicode, and cannot stand in a script").at(Place::file(path));
        fault.hint("rename it")
    })
}

fn script(sweep: &Sweep, (program, home): (&str, &str), tasks: std::ops::Range<usize>, options: &[String]) -> String {
    let is_given = |names: [&str; 2]| options.iter().any(|option| names.contains(&name(option)));
    let mut lines = vec!["#!/bin/bash".to_owned()];
    if !is_given(["--job-name", "-J"]) {
        let kept: String =
            stem(Path::new(&sweep.recipe)).chars().filter(|c| c.is_alphanumeric() || "-_.".contains(*c)).collect();
        lines.push(format!("#SBATCH --job-name={}", if kept.is_empty() { "sweep" } else { &kept }));
    }
    lines.push(format!("#SBATCH --array=0-{}", tasks.len() - 1));
    // Slurm replaces `%` in this name and reads quotes in its own way: from a path with other marks its default stays.
    let is_plain = home.chars().all(|c| c.is_alphanumeric() || "/._-+=, ".contains(c));
    if is_plain && !is_given(["--output", "-o"]) {
        lines.push(format!("#SBATCH --output=\"{home}/logs/slurm-%A_%a.log\""));
    }
    lines.extend(options.iter().map(|option| format!("#SBATCH {option}")));
    let offset = if tasks.start == 0 { String::new() } else { format!(" + {}", tasks.start) };
    lines.extend([
        "# One task for each run of the sweep in this folder, in the order of its sweep.json, and one more that measures the"
            .to_owned(),
        "# base where there is one. What is done already ends at once, and what was stopped goes on: submit it again as often".into(),
        "# as there is something left. `trainer sweep --emit slurm` writes this file anew.".into(),
        "task=${SLURM_ARRAY_TASK_ID:?\"submit this file with sbatch\"}".into(),
        // In its place, not below it: requests to end reach it.
        format!("exec {} sweep --task {} \"$((task{offset}))\"", always_quoted(program), always_quoted(home)),
    ]);
    lines.join("\n") + "\n"
}

/// A word that is read as it stands even where its first character is special.
fn always_quoted(word: &str) -> String {
    match quoted(word) {
        plain if plain == word => format!("'{plain}'"),
        quoted => quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_one_line_each_and_none_is_the_scripts_own() {
        let options = |options: &[&str]| options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>();
        assert!(check(&options(&["--time=02:00:00", "-p gpu", "-N1", "--gres=gpu:1"])).is_empty());
        for wrong in
            ["--time=1\nrm -rf x", "time=1", "", "-", "--array=0-1", "-a 1", "-a1-2", "--wrap=x", "--time=\u{b}1"]
        {
            let faults = check(&options(&[wrong]));
            assert!(faults.len() == 1 && faults[0].hint.is_some(), "{wrong:?}");
        }
    }
}
