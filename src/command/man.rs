//! `trainer man`: the command line as manual pages.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::generate_to;
use faults::{Fault, Faults};

use super::{Outcome, print};

/// Write manual pages, one for each command: `trainer.1`, `trainer-run.1` and so on.
///
/// `trainer man ~/.local/share/man/man1`, and then `man trainer`, `man trainer-run`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder to write them to.
    dir: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(arguments: &Arguments, command: Command) -> Result<Outcome, Faults> {
    let unwritable = |error| Fault::of_file("cannot write the manual pages", &arguments.dir, &error);
    fs_err::create_dir_all(&arguments.dir).map_err(unwritable)?;
    generate_to(command, &arguments.dir).map_err(unwritable)?;
    print(&format!("{}\n", arguments.dir.display()))?;
    Ok(Outcome::Done)
}
