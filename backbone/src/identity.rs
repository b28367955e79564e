//! Whether a base is the one that it was: by its content, apart from where it lies.

use std::path::Path;

use faults::Fault;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::files::ModelFiles;

/// What a base is, apart from where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its folder when it was taken, where it was one of this disk.
    pub folder: Option<String>,
    /// SHA-256 of its weights ([`checkpoints::Weights::fingerprint`]).
    pub weights: String,
    /// Its `config.json`, whose meaning is what counts.
    pub config: String,
}

impl Identity {
    /// That of the model in `files`, which was named `path`. Every weight is read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn of(files: &ModelFiles, path: &str) -> Result<Self, Fault> {
        Ok(Self { folder: local_folder(path), weights: files.weights()?.fingerprint()?, config: files.config_text()? })
    }

    /// How the model in `files` differs; `None` where it is the same one.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn difference(&self, files: &ModelFiles) -> Result<Option<String>, Fault> {
        let now = files.config()?;
        let then = Config::parse(&self.config, "config.json");
        if then.as_ref() != Ok(&now) {
            let name = then.map(|then| changed(&then, &now)).unwrap_or_default();
            return Ok(Some(format!("its `config.json` means something else now{name}")));
        }
        let same = files.weights()?.fingerprint()? == self.weights;
        Ok((!same).then(|| "its weights are other ones".to_owned()))
    }
}

/// The first settings that two configurations differ in.
fn changed(then: &Config, now: &Config) -> String {
    let lines = |config: &Config| format!("{config:#?}").lines().map(str::trim).map(str::to_owned).collect::<Vec<_>>();
    let (then, now) = (lines(then), lines(now));
    let pair = then.iter().zip(&now).find(|(then, now)| then != now);
    pair.map(|(then, now)| format!(": {} -> {}", then.trim_end_matches(','), now.trim_end_matches(',')))
        .unwrap_or_default()
}

/// The whole path of a model that is a folder of this disk; `None` for one of the hub or in this program.
pub fn local_folder(path: &str) -> Option<String> {
    let folder = Path::new(path);
    let whole = folder.is_dir().then(|| std::path::absolute(folder).ok()).flatten();
    whole.map(|folder| folder.display().to_string())
}
