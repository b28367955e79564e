//! The base that an adapter or a run names: where it is looked for, and whether it is the same one.

use std::path::Path;

use datasets::TokenizerIdentity;
use faults::{Fault, Faults, Place};
use serde::{Deserialize, Serialize};

use super::Brought;
use crate::model::{Config, ModelFiles};

/// The option that says where a base is.
pub const OPTION: &str = "--base";

/// What a base is, apart from where it lies.
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

impl Identity {
    /// That of the model in `files`, which was named `path`. Every weight is read.
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

    /// How the tokenizer of the model in `files` differs, where it counts: an adapter may have brought its own.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn other_tokenizer(&self, files: &ModelFiles, brought: Option<&Brought>) -> Result<Option<String>, Faults> {
        let Some(then) = &self.tokenizer else { return Ok(None) };
        let [tokens, template, stops] = then.differences(&files.tokenizer()?.identity());
        let own = brought.map(Brought::own_parts).unwrap_or_default();
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

/// A base as something names it.
pub struct Name<'a> {
    /// A folder, a name on the hub, or one of this program's.
    pub path: &'a str,
    /// Branch, tag or commit on the hub.
    pub revision: Option<&'a str>,
    /// The whole path it had then, if that is known.
    pub folder: Option<&'a str>,
    /// The file that names it.
    pub place: Place,
    /// Where in that file.
    pub key: &'a str,
}

impl Name<'_> {
    /// The base: what `--base` gave, else the folder it was in, else what the name means from here.
    ///
    /// # Errors
    /// It is not there; the fault says who names it.
    pub fn locate(&self, given: Option<&str>) -> Result<ModelFiles, Fault> {
        if let Some(given) = given {
            let revision = self.revision.filter(|_| given == self.path);
            return ModelFiles::locate(given, revision).map_err(|fault| fault.or_at(Place::Named(OPTION.into())));
        }
        if let Some(folder) = self.folder.filter(|folder| Path::new(folder).is_dir()) {
            return Ok(ModelFiles::Folder(folder.into()));
        }
        ModelFiles::locate(self.path, self.revision).map_err(|fault| self.missing(&fault))
    }

    fn missing(&self, fault: &Fault) -> Fault {
        let here = format!("{} here names `{}`; `{OPTION} DIR|NAME` says where it is now", self.key, self.path);
        // That it is no name on the hub either says nothing of a folder that was there.
        let message = match self.folder {
            Some(folder) => format!("there is no folder `{folder}` any more"),
            None => fault.message.clone(),
        };
        // A hint about folders and names is this one; others are about the hub, and stay.
        let hint = match &fault.hint {
            Some(hint) if !message.starts_with("there is no folder") => format!("{hint}; {here}"),
            _ => here,
        };
        Fault::new(format!("the base model cannot be had: {message}")).at(self.place.clone()).hint(hint)
    }
}

/// The fault of a base given for something that has none of its own.
pub fn refuse_given(given: Option<&str>, what: &str) -> Result<(), Faults> {
    match given {
        None => Ok(()),
        Some(_) => Err(Fault::new(format!("`{OPTION}` has no effect on {what}"))
            .at(Place::Named(OPTION.into()))
            .hint("leave it out")
            .into()),
    }
}
