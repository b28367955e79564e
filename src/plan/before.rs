//! What can be said of a run before the weights of its base are fetched: a fault that is told after gigabytes is told too
//! late.

use std::cell::RefCell;
use std::path::Path;

use backbone::{Config, ModelFiles};
use burn::tensor::{DType, Device};
use checkpoints::Checkpoint;
use datasets::{ChatSettings, Dataset, Tokenizer};
use faults::{Fault, Faults};

use super::adaptation::{Adaptation, Origin};
use super::numbers::{Numbers, Of};
use super::rows::{refuse_unreadable, rows};
use crate::loading;
use crate::recipe::{Adapter, Recipe, Start};

/// Rows to train on and to evaluate by.
type Rows = (Dataset, Option<Dataset>);

/// A recipe whose base is to be found.
pub(super) struct Before<'a> {
    recipe: &'a Recipe,
    checkpoint: Option<&'a Checkpoint>,
    chat: &'a ChatSettings,
    device: (&'a Device, DType),
    /// The rows, where they were already read.
    rows: RefCell<Option<Rows>>,
}

impl<'a> Before<'a> {
    pub(super) fn new(
        recipe: &'a Recipe,
        checkpoint: Option<&'a Checkpoint>,
        chat: &'a ChatSettings,
        device: (&'a Device, DType),
    ) -> Self {
        Self { recipe, checkpoint, chat, device, rows: RefCell::new(None) }
    }

    /// Finds the base's files. Of a repository whose weights are not here yet, all that its other files are enough for is
    /// looked at before these are fetched.
    ///
    /// # Errors
    /// No such base, or all that is wrong with the run on it.
    pub(super) fn locate(&self, path: &str, revision: Option<&str>) -> Result<ModelFiles, Faults> {
        let told = RefCell::new(None);
        let check = |files: &ModelFiles, config: &Config, tokenizer: Tokenizer| {
            self.check(files, config, tokenizer).map_err(|faults| {
                let first = faults.list()[0].clone();
                told.replace(Some(faults));
                first
            })
        };
        let found = ModelFiles::locate_for(path, revision, &check);
        found.map_err(|fault| told.take().unwrap_or_else(|| fault.into()))
    }

    /// The rows, where looking at them was part of finding the base.
    pub(super) fn into_rows(self) -> Option<Rows> {
        self.rows.into_inner()
    }

    fn check(&self, files: &ModelFiles, config: &Config, tokenizer: Tokenizer) -> Result<(), Faults> {
        let recipe = self.recipe;
        config.check_training().map_err(|fault| fault.at(files.config_place()))?;
        let (adaptation, _) = Adaptation::resolve(recipe, config, None, self.checkpoint)?;
        if matches!(adaptation.start, Origin::Continued { .. }) {
            // It may bring a tokenizer, which is held against the whole base.
            return Ok(());
        }
        let tokenizer = tokenizer.with_chat(self.chat).map_err(|fault| fault.or_at(recipe.places.of("data")))?;
        let (train, eval) = rows(recipe, config, &tokenizer)?;
        let encoders: Vec<_> = recipe.auxiliaries.iter().map(super::encoder).collect::<Result<_, _>>()?;
        let of = Of { train: &train, eval: eval.as_ref(), adaptation: &adaptation, encoders: &encoders };
        Numbers::new(recipe, config, &of, self.device)?;
        self.rows.replace(Some((train, eval)));
        Ok(())
    }
}

/// Refuses what names files that are not there, before anything is asked of a hub; gives what is said of conversations.
///
/// # Errors
/// Rows, a template or an adapter that is not there, or is something else.
pub(super) fn files(recipe: &Recipe, checkpoint: Option<&Checkpoint>) -> Result<ChatSettings, Faults> {
    refuse_unreadable(recipe)?;
    if let (Adapter::Lora(lora), None) = (&recipe.adapter, checkpoint)
        && let Start::From(path) = &lora.start
        && !Path::new(path).exists()
    {
        // A checkpoint `RUN@STEP` is no path.
        loading::adapter(Path::new(path))?;
    }
    let placed = |fault: Fault| fault.or_at(recipe.places.of("data.chat_template"));
    Ok(recipe.data.chat.settings().map_err(placed)?)
}
