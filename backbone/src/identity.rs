//! Whether a base is the one that it was: by its content, apart from where it lies.

use std::path::Path;

use datasets::TokenizerIdentity;
use faults::{Fault, Faults};
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::files::ModelFiles;

/// The content of a base model, wherever it lies: resuming compares by it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its folder when it was taken, where it was one of this disk.
    pub folder: Option<String>,
    /// SHA-256 of its weights ([`checkpoints::Weights::fingerprint`]).
    pub weights: String,
    /// Its `config.json`, whose meaning is what counts.
    pub config: String,
    /// What its tokenizer does; `None` where it has none that can be read, and in states of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<TokenizerIdentity>,
}

/// Parts of a tokenizer, chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenizerParts {
    /// The vocabulary.
    pub tokens: bool,
    /// The chat template.
    pub template: bool,
    /// Where the model stops.
    pub stops: bool,
}

impl Identity {
    /// The identity of the model in `files`, which was named `path`. Every weight is read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn of(files: &ModelFiles, path: &str) -> Result<Self, Fault> {
        Ok(Self {
            folder: local_folder(path),
            weights: files.weights()?.fingerprint()?,
            config: files.config_text()?,
            tokenizer: files.tokenizer().ok().map(|tokenizer| tokenizer.identity()),
        })
    }

    /// How the tokenizer of the model in `files` differs, where it counts: an adapter may have brought parts of its `own`.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn other_tokenizer(&self, files: &ModelFiles, own: TokenizerParts) -> Result<Option<String>, Faults> {
        let Some(then) = &self.tokenizer else { return Ok(None) };
        let [tokens, template, stops] = then.differences(&files.tokenizer()?.identity());
        let differs = [
            (tokens && !own.tokens, "it makes other tokens of texts"),
            (template && !own.template, "its chat template is another one"),
            (stops && !own.stops, "the model stops at other tokens"),
        ];
        let words: Vec<&str> = differs.into_iter().filter(|(differs, _)| *differs).map(|(_, words)| words).collect();
        Ok((!words.is_empty()).then(|| words.join(", ")))
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
