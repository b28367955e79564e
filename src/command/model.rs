//! The arguments by which a command is told its model, which `trainer sample` and `trainer chat` have alike.

use clap::Args;
use faults::Faults;

use super::load_named;
use crate::loading::{Loaded, named};

/// One model, whatever it lies in.
#[derive(Debug, Args)]
pub(super) struct ModelArguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), a run (its latest checkpoint, or `RUN@best`, `RUN@latest`, `RUN@STEP`), a
    /// checkpoint, or the folder of an adapter or an export.
    pub model: String,
    /// The base of the adapter, in place of the one that its files name: a folder, or `org/name`.
    #[arg(long, value_name = "DIR|NAME")]
    base: Option<String>,
}

impl ModelArguments {
    /// The model on the device of this name.
    ///
    /// # Errors
    /// A device that there is not, or a model that is not there or cannot be loaded.
    pub fn load(&self, device: &str) -> Result<Loaded, Faults> {
        super::open_device(device)?;
        load_named(&named(&self.model, self.base.as_deref())?, device)
    }
}
