//! `trainer schema`: the recipe as a JSON schema.

use clap::Args;
use faults::Faults;
use losses::Registry;

use super::{Outcome, print};
use crate::recipe;

/// Print the JSON schema of a recipe, by which an editor completes and checks it.
///
/// Editors with Taplo (Even Better TOML in VS Code) take the file that a recipe's first line names, from the recipe's
/// folder: `trainer schema > trainer.schema.json`.
#[derive(Debug, Args)]
pub struct Arguments {}

/// Runs the command.
///
/// # Errors
/// Stdout that cannot be written.
pub fn run(_: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    print(&format!("{:#}\n", recipe::schema(registry)))?;
    Ok(Outcome::Done)
}
