//! Parts of a sweep in processes of their own, as on a cluster: one task, and what becomes of all of them.

use std::ffi::OsString;
use std::path::Path;

use faults::{Fault, Faults, Place, counted};

use super::folder::{BASE, Folder, Hold, State, Sweep};
use super::runs::{Runner, Undone, unmeasured_base};
use super::{failures, tabulate};
use crate::command::{Outcome, announce, argument, interrupt, tell};

/// `--task DIR N`: trains and measures run N of the sweep in a folder, or the base, which comes after the last.
///
/// # Errors
/// There is no such sweep or task, or it failed.
pub(super) fn task(arguments: &[OsString]) -> Result<Outcome, Faults> {
    let [path, number] = arguments else { unreachable!("two values") };
    let (folder, sweep) = Folder::enter(Path::new(path), Hold::Shared)?;
    let tasks = sweep.runs.len() + usize::from(sweep.base.is_some());
    let index = number.to_str().and_then(|number| number.parse().ok()).filter(|index: &usize| *index < tasks);
    let index = index.ok_or_else(|| {
        let message = format!("there is no task `{}`", number.to_string_lossy());
        let hint =
            format!("this sweep has {}, from 0 on, one a run and one for the base", counted(tasks as u64, "task"));
        Fault::new(message).at(argument("task")).hint(hint)
    })?;
    let points = sweep.points()?;
    let name = sweep.runs.get(index).map_or(BASE, |run| &*run.name);
    if sweep.runs.get(index).is_some_and(|run| run.state == State::Done) {
        announce(&format!("{name}: done before"));
        return Ok(Outcome::Done);
    }
    announce(&format!("{name}: in {}", folder.log(name).display()));
    let interrupted = interrupt::watch()?;
    let runner = Runner::new(&folder, &sweep, &points, &interrupted)?;
    match if index < points.len() { runner.task(index) } else { runner.base() } {
        Ok(()) => {
            announce(&format!("{name}: done"));
            Ok(Outcome::Done)
        }
        Err(Undone::Interrupted) => {
            tell(&format!("{name}: stopped; the same task goes on"));
            Ok(Outcome::Interrupted)
        }
        Err(Undone::Failed(words)) => {
            let fault = Fault::new(format!("`{name}` failed: {words}")).at(Place::file(folder.log(name)));
            Err(fault.hint("all it said is in this file; the same task tries it again").into())
        }
    }
}

/// `--collect DIR`: measures what is trained and not measured, and tabulates what there is.
///
/// # Errors
/// The table is written, and then each run that failed or is missing is a fault.
pub(super) fn run(path: &Path) -> Result<Outcome, Faults> {
    let (folder, sweep) = Folder::enter(path, Hold::Alone)?;
    let points = sweep.points()?;
    let interrupted = interrupt::watch()?;
    let runner = Runner::new(&folder, &sweep, &points, &interrupted)?;
    let mut faults = Vec::new();
    match runner.base() {
        Ok(()) => {}
        Err(Undone::Interrupted) => return Ok(Outcome::Interrupted),
        Err(Undone::Failed(words)) => faults.push(unmeasured_base(&folder, &words).hint("all it said is in this file")),
    }
    let Some(sweep) = runner.collect()? else { return Ok(Outcome::Interrupted) };
    tabulate(&folder, &sweep)?;
    faults.extend(failures(&folder, &sweep).err().into_iter().flat_map(Faults::into_list));
    faults.extend(missing(&folder, &sweep));
    Faults::check(faults)?;
    Ok(Outcome::Done)
}

/// A fault for each run that is not done and said nothing of why.
fn missing(folder: &Folder, sweep: &Sweep) -> Vec<Fault> {
    let waiting = sweep.runs.iter().filter(|run| run.state == State::Waiting);
    let fault = |run: &super::RunState| {
        let words = match folder.log(&run.name).is_file() {
            true => "was stopped before its end",
            false => "has not begun",
        };
        let hint = "submit the tasks again, or give the sweep's own command: either does what is left";
        Fault::new(format!("the run `{}` {words}", run.name)).at(Place::file(folder.run(&run.name))).hint(hint)
    };
    waiting.map(fault).collect()
}
