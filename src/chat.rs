//! How a model on the command line is asked in chats: as its run was trained, unless other settings are given.

use std::path::{Path, PathBuf};

use checkpoints::{Checkpoint, find_checkpoint, while_it_moves};
use clap::Args;
use datasets::{ChatSettings, Moment};
use faults::{Fault, Faults, Place};
use serde_json::{Map, Value};

use crate::engine::state::RunState;
use crate::loading::is_run;
use crate::recipe::{self, Chat};

/// Flags that say how conversations are written.
#[derive(Debug, Args)]
pub struct ChatFlags {
    /// A chat template in place of the model's own, or of the run's.
    #[arg(long, value_name = "FILE")]
    chat_template: Option<PathBuf>,
    /// Switches of the chat template as a JSON object, such as `{"enable_thinking": false}`; they go before a run's own.
    #[arg(long, value_name = "JSON")]
    template_arguments: Option<String>,
}

impl ChatFlags {
    /// True where the command line says something of chats.
    pub fn are_given(&self) -> bool {
        self.chat_template.is_some() || self.template_arguments.is_some()
    }

    /// The settings for the model that `path` names: those of its run, then those of the flags.
    ///
    /// # Errors
    /// A run that cannot be read, a template's file that cannot, or arguments that are no JSON object.
    pub fn settings(&self, path: &str) -> Result<ChatSettings, Faults> {
        let mut chat = of_run(Path::new(path))?;
        if let Some(file) = &self.chat_template {
            chat.template = Some(file.display().to_string());
        }
        if let Some(text) = &self.template_arguments {
            chat.arguments.extend(arguments(text).map_err(|fault| {
                let fault = fault.at(Place::Named("--template-arguments".into()));
                fault.hint("write --template-arguments='{\"enable_thinking\": false}'")
            })?);
        }
        Ok(chat.settings().map_err(|fault| fault.hint("name the file with `--chat-template`"))?)
    }
}

/// Switches of a template as JSON, a number of them to the digit.
fn arguments(text: &str) -> Result<Map<String, Value>, Fault> {
    let mut value: Value =
        serde_json::from_str(text).map_err(|error| Fault::new(format!("expected a JSON object: {error}")))?;
    if let Some(long) = faults::json::keep_wholes(text, &mut value).first() {
        return Err(long.fault());
    }
    match value {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(Fault::new("expected a JSON object")),
    }
}

/// What the recipe of a run says of chats; nothing for what is no run.
///
/// # Errors
/// A run that cannot be read.
pub fn of_run(path: &Path) -> Result<Chat, Faults> {
    if !is_run(path) {
        return Ok(Chat::default());
    }
    let (checkpoint, state) = while_it_moves(path, || {
        let checkpoint = find_checkpoint(path)?;
        let state = RunState::read(&checkpoint)?;
        Ok::<_, Faults>((checkpoint, state))
    })?;
    let mut chat = recipe::chat("recipe.toml", &state.recipe)?;
    // What the run was trained with is at its side, wherever the file of its recipe is by now.
    if let (Some(file), Some(copy)) = (&mut chat.template, kept_template(&checkpoint)) {
        *file = copy.display().to_string();
    }
    if let (None, Some(moment)) = (chat.date, &state.moment) {
        let place = || Place::file(checkpoint.folder.join("state.json"));
        chat.date = Some(Moment::parse(moment).map_err(|fault| fault.at(place()))?);
    }
    Ok(chat)
}

/// The chat template in a checkpoint, of a run whose recipe names one.
pub fn kept_template(checkpoint: &Checkpoint) -> Option<PathBuf> {
    Some(checkpoint.folder.join("chat_template.jinja")).filter(|copy| copy.is_file())
}
