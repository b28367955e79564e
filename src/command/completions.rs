//! `trainer completions`: what a shell needs to complete the command line.

use clap::{Args, Command};
use clap_complete::{Shell, generate};
use faults::Faults;

use super::{Outcome, print};

/// Print what a shell completes command lines by.
///
/// bash: `trainer completions bash > ~/.local/share/bash-completion/completions/trainer`; zsh: into a file `_trainer` in a
/// folder of `$fpath`; fish: `~/.config/fish/completions/trainer.fish`; powershell: at the end of `$PROFILE`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
///
/// # Errors
/// Stdout that cannot be written.
pub fn run(arguments: &Arguments, mut command: Command) -> Result<Outcome, Faults> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, "trainer", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Done)
}
