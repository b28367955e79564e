//! `trainer push`: an exported folder into a repository of the Hugging Face hub.

use std::path::{Path, PathBuf};

use clap::Args;
use faults::{Fault, Faults, Place, counted};
use hub::{Hub, Push, progress_up_on_stderr};

use super::{Outcome, print};
use crate::loading::is_run;

/// Upload an exported folder to the Hugging Face hub, all of its files in one commit.
///
/// The repository is made where there is none. `HF_TOKEN` (or what `hf auth login` has kept) is the token; it needs the right to
/// write. `HF_ENDPOINT` names another hub.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder that `trainer export` has written.
    dir: PathBuf,
    /// The repository: `organisation/name`, or `your-name/name`.
    name: String,
    /// The branch to push to; it must be there.
    #[arg(long, default_value = "main")]
    revision: String,
    /// Make the repository private, where it is made.
    #[arg(long)]
    private: bool,
    /// The first line of the commit.
    #[arg(long, default_value = "Upload by trainer")]
    message: String,
}

/// Runs the command.
///
/// # Errors
/// A folder that is no export, and everything that can fail between here and the hub.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    check(&arguments.dir)?;
    let hub = Hub::from_env()?;
    let push = Push {
        folder: &arguments.dir,
        name: &arguments.name,
        revision: Some(&arguments.revision),
        private: arguments.private,
        message: &arguments.message,
    };
    let pushed = hub.push(&push, &progress_up_on_stderr())?;
    tracing::info!("{} in commit {}", counted(pushed.files as u64, "file"), pushed.commit);
    print(&format!("{}\n", pushed.page))?;
    Ok(Outcome::Done)
}

/// What others load: weights or an adapter with their description. A run has its state beside them, which is nobody's business.
fn check(folder: &Path) -> Result<(), Fault> {
    if !folder.is_dir() {
        return Err(Fault::new("there is no such folder")
            .at(Place::file(folder))
            .hint("name one that `trainer export` has written"));
    }
    let is_checkpoint = folder.join("training_state.safetensors").is_file();
    if is_run(folder) || is_checkpoint {
        let shown = folder.display();
        return Err(Fault::new("this is a run, with the state of its training")
            .at(Place::file(folder))
            .hint(format!("`trainer export {shown} --out DIR` writes what others load; push that")));
    }
    let has = |name: &str| folder.join(name).is_file();
    match has("adapter_config.json") || has("config.json") {
        true => Ok(()),
        false => Err(Fault::new("this folder has neither an adapter nor a model in it")
            .at(Place::file(folder))
            .hint("name one that `trainer export` has written, with `adapter_config.json` or `config.json`")),
    }
}
