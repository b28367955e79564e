//! A model as it lies on the disk, in the hub's cache, or in this program: configuration, weights, tokenizer.

use std::path::{Path, PathBuf};

use checkpoints::Weights;
use checkpoints::export::Base;
use checkpoints::hub;
use datasets::Tokenizer;
use faults::{Fault, Faults, Place, nearest};

use super::config::Config;

/// Configuration of the embedded model.
const TINY_CONFIG: &str = include_str!("tiny/config.json");
/// Weights of the embedded model; `recipes/tiny_base.toml` trains them.
const TINY_WEIGHTS: &[u8] = include_bytes!("tiny/model.safetensors");

/// Names of the models inside this program.
const EMBEDDED: [&str; 1] = ["builtin:tiny"];

/// Where a base model's files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelFiles {
    /// A folder with `config.json`, safetensors and a tokenizer.
    Folder(PathBuf),
    /// `builtin:tiny`.
    Embedded,
}

impl ModelFiles {
    /// Finds a folder, a repository of the hub (fetched into its cache), or a `builtin:` model.
    ///
    /// # Errors
    /// No such folder, repository or builtin model, the hub cannot be reached, or it has a model that cannot be read here,
    /// which is found before its weights are fetched.
    pub fn locate(path: &str, revision: Option<&str>) -> Result<Self, Fault> {
        Self::locate_for(path, revision, &|_, _, _| Ok(()))
    }

    /// [`ModelFiles::locate`] that calls `check` with the small files of a repository before any weights are fetched.
    ///
    /// # Errors
    /// As [`ModelFiles::locate`], and what `check` says.
    pub fn locate_for(
        path: &str,
        revision: Option<&str>,
        check: &dyn Fn(&Self, &Config, Tokenizer) -> Result<(), Fault>,
    ) -> Result<Self, Fault> {
        if EMBEDDED.contains(&path) {
            return Ok(Self::Embedded);
        }
        if let Some(name) = path.strip_prefix("builtin:") {
            let near = nearest(path, EMBEDDED).unwrap_or(EMBEDDED[0]);
            return Err(Fault::new(format!("there is no builtin model `{name}`")).hint(format!("there is `{near}`")));
        }
        let check = |folder: &Path| {
            let files = Self::Folder(folder.into());
            let config = files.written_config()?;
            let tokenizer = files.tokenizer().map_err(|faults| faults.into_list().swap_remove(0))?;
            check(&files, &config, tokenizer)
        };
        Ok(Self::Folder(hub::model_folder(path, revision, &hub::progress_on_stderr(), &check)?))
    }

    /// Reads and checks `config.json`. A head that it calls the embedding, and that the weights have another matrix for, is
    /// that matrix, as transformers 5 has it.
    ///
    /// # Errors
    /// No such file, or one that describes no model known here.
    pub fn config(&self) -> Result<Config, Fault> {
        let mut config = self.written_config()?;
        if config.tie_word_embeddings
            && let Self::Folder(folder) = self
            // Whoever needs the weights says what is wrong with them.
            && let Ok(weights) = Weights::open(folder)
        {
            config.tie_word_embeddings = !weights.has_two_ends();
        }
        Ok(config)
    }

    fn written_config(&self) -> Result<Config, Fault> {
        let name = match self {
            Self::Embedded => "builtin:tiny/config.json".into(),
            Self::Folder(folder) => folder.join("config.json").display().to_string(),
        };
        Config::parse(&self.config_text()?, &name)
    }

    /// The text of `config.json`.
    ///
    /// # Errors
    /// No such file.
    pub fn config_text(&self) -> Result<String, Fault> {
        match self {
            Self::Embedded => Ok(TINY_CONFIG.into()),
            Self::Folder(folder) => {
                let path = folder.join("config.json");
                faults::read_text(&path).map_err(|error| {
                    let fault = Fault::new(format!("cannot read the model's `config.json`: {error}"));
                    let inside = checkpoints::inside(folder, &["config.json", "adapter_config.json"]);
                    fault.at(Place::file(&path)).hint(match inside.filter(|_| !path.exists()) {
                        Some(inside) => format!("there is one in `{}`: give that folder", inside.display()),
                        None => "a model is the folder of a Hugging Face model".into(),
                    })
                })
            }
        }
    }

    /// Where the configuration stands.
    pub fn config_place(&self) -> Place {
        match self {
            Self::Embedded => Place::File("builtin:tiny/config.json".into()),
            Self::Folder(folder) => Place::file(folder.join("config.json")),
        }
    }

    /// Opens the weights; they are read when they are asked for.
    ///
    /// # Errors
    /// No safetensors, or files that are cut or hostile.
    pub fn weights(&self) -> Result<Weights, Fault> {
        match self {
            Self::Embedded => Weights::from_bytes("builtin:tiny/model.safetensors", TINY_WEIGHTS),
            Self::Folder(folder) => Weights::open(folder),
        }
    }

    /// The tokenizer with its chat template.
    ///
    /// # Errors
    /// No tokenizer, one that cannot be read, or that of another model.
    pub fn tokenizer(&self) -> Result<Tokenizer, Faults> {
        match self {
            Self::Embedded => embedded_tokenizer(),
            Self::Folder(folder) => Ok(Tokenizer::load(folder)?.bounded(self.config()?.vocab_size)?),
        }
    }

    /// The model as the base of a merge.
    ///
    /// # Errors
    /// As [`ModelFiles::weights`].
    pub fn base(&self) -> Result<Base, Fault> {
        match self {
            Self::Folder(folder) => Base::open(folder),
            Self::Embedded => {
                let tokenizer = datasets::builtin::tokenizer_files();
                let mut files: Vec<_> =
                    tokenizer.into_iter().map(|(name, text)| (name.to_owned(), text.into())).collect();
                files.push(("config.json".into(), TINY_CONFIG.into()));
                Ok(Base { weights: self.weights()?, files })
            }
        }
    }
}

/// The tokenizer of the embedded model.
///
/// # Errors
/// None that a user can cause.
pub fn embedded_tokenizer() -> Result<Tokenizer, Faults> {
    let files = datasets::builtin::tokenizer_files();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_ref())).collect();
    Tokenizer::from_texts(&files)
}
