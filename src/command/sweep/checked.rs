//! A recipe's `[sweep]` as `trainer sweep` would take it, looked at without training anything.

use std::collections::BTreeSet;
use std::path::Path;

use faults::{Faults, counted};
use losses::Registry;

use super::{Arguments, arms, read_grid, recipe_text, sampling, trained, with_recipe};
use crate::recipe;

/// What a recipe's sweep would be.
pub(in crate::command) struct Checked {
    /// The names of its runs.
    pub runs: Vec<String>,
    /// What they are without their seeds.
    pub arms: Vec<String>,
    /// What the recipes of its runs warn of.
    pub warnings: BTreeSet<String>,
}

impl Checked {
    /// What there is to run, in words of the plan.
    pub fn words(&self) -> String {
        let runs = counted(self.runs.len() as u64, "run");
        format!("{runs} of {}, with `trainer sweep`: {}", counted(self.arms.len() as u64, "arm"), self.arms.join(", "))
    }
}

/// A command line of the recipe alone.
#[derive(clap::Parser)]
#[command(name = "sweep", no_binary_name = true)]
struct Typed {
    #[command(flatten)]
    arguments: Arguments,
}

/// Looks at the sweep of a recipe; `None` where it has none.
///
/// # Errors
/// All that `trainer sweep` would refuse of it before anything is trained.
pub(in crate::command) fn check(path: &Path, set: &[String], registry: &Registry) -> Result<Option<Checked>, Faults> {
    let (name, text) = (path.display().to_string(), recipe_text(path)?);
    if recipe::sweep(&name, &text)?.is_none() {
        return Ok(None);
    }
    let Typed { mut arguments } = <Typed as clap::Parser>::parse_from([path.as_os_str()]);
    arguments.set = set.to_vec();
    let arguments = with_recipe(&arguments, path)?;
    let axes = read_grid(&arguments)?;
    let (points, warnings) = match axes.iter().all(sampling::is_of_samples) {
        true => (sampling::sweep(&arguments, &name, axes)?.1, BTreeSet::new()),
        false => {
            let (_, points, warnings) = trained(&arguments, (&name, &text), axes, registry)?;
            (points, warnings)
        }
    };
    let arms = arms(&points).into_iter().map(str::to_owned).collect();
    Ok(Some(Checked { runs: points.into_iter().map(|point| point.name).collect(), arms, warnings }))
}
