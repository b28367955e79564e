//! A model as the command line names it: a base model, a run, a checkpoint, or an exported adapter.

use std::path::Path;

use burn::tensor::{DType, Device};
use checkpoints::{Adapter, Checkpoint, find_checkpoint};
use datasets::Tokenizer;
use faults::{Fault, Faults, Place};

use crate::engine::train::read_state;
use crate::model::{Config, Decoder, ModelFiles, Source, left_out};
use crate::recipe::{self, Backbone};

/// A model that is ready to run, with its tokenizer.
pub struct Loaded {
    /// The backbone, with the adapter if there is one.
    pub decoder: Decoder,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// What a path on the command line stands for.
pub enum Named {
    /// A base model.
    Base(ModelFiles),
    /// An adapter and the base it belongs to.
    Adapted {
        /// The base.
        base: ModelFiles,
        /// The adapter.
        adapter: Box<Adapter>,
    },
    /// A checkpoint of a run that trained every weight, with the tokenizer's and the configuration's origin.
    Full {
        /// Where configuration and tokenizer come from.
        origin: Origin,
        /// The weights.
        checkpoint: Checkpoint,
    },
}

/// Where configuration and tokenizer of a fully trained model come from.
pub enum Origin {
    /// The base model it started from.
    Files(ModelFiles),
    /// It was built from scratch.
    Init(recipe::Init),
}

/// Finds out what `path` is.
///
/// # Errors
/// Nothing that can be loaded, or an adapter whose base cannot be found.
pub fn named(path: &str) -> Result<Named, Faults> {
    let folder = Path::new(path);
    if is_run(folder) {
        return from_checkpoint(find_checkpoint(folder)?);
    }
    if is_adapter(folder) {
        return from_adapter(folder);
    }
    Ok(Named::Base(ModelFiles::locate(path, None).map_err(|fault| fault.or_at(Place::file(path)))?))
}

/// True for the folder of an adapter as PEFT or an export writes it.
pub fn is_adapter(folder: &Path) -> bool {
    !is_run(folder) && folder.join("adapter_config.json").is_file()
}

/// Such an adapter with the base model that it names.
///
/// # Errors
/// An adapter that cannot be read, or a base that cannot be found.
pub fn from_adapter(folder: &Path) -> Result<Named, Faults> {
    let adapter = Adapter::read(folder)?;
    let base = adapter.config.base_model_name_or_path.clone().ok_or_else(|| {
        Fault::new("`adapter_config.json` does not name a base model")
            .at(Place::file(folder))
            .hint("write its path or name under `base_model_name_or_path`")
    })?;
    let base = ModelFiles::locate(&base, adapter.config.revision.as_deref())
        .map_err(|fault| fault.or_at(Place::file(folder.join("adapter_config.json"))))?;
    Ok(Named::Adapted { base, adapter: Box::new(adapter) })
}

/// True for a run, a checkpoint, or the file that names one.
pub fn is_run(path: &Path) -> bool {
    path.join("checkpoints").is_dir() || path.join("MANIFEST.json").is_file() || path.is_file()
}

/// The adapter that `path` stands for: a PEFT folder, a checkpoint, or a run, of which it is the latest.
///
/// # Errors
/// None of these, or an adapter that cannot be read.
pub fn adapter(path: &Path) -> Result<Adapter, Faults> {
    if is_run(path) { find_checkpoint(path)?.adapter() } else { Adapter::read(path) }
}

/// A checkpoint with the base model that its run's recipe names.
///
/// # Errors
/// A checkpoint that is not one of this program, or a base model that cannot be found.
pub fn from_checkpoint(checkpoint: Checkpoint) -> Result<Named, Faults> {
    let state = read_state(&checkpoint)?;
    let origin = match recipe::backbone("recipe.toml", &state.recipe)? {
        Backbone::Pretrained { path, revision } => Origin::Files(
            ModelFiles::locate(&path, revision.as_deref())
                .map_err(|fault| fault.or_at(Place::file(&checkpoint.folder)))?,
        ),
        Backbone::Init(init) => Origin::Init(init),
    };
    match (origin, checkpoint.has_adapter()) {
        (Origin::Files(base), true) => Ok(Named::Adapted { base, adapter: Box::new(checkpoint.adapter()?) }),
        (Origin::Init(_), true) => Err(Fault::new("the adapter's base was built from scratch and was not saved")
            .at(Place::file(&checkpoint.folder))
            .hint("train a base with `adapter.kind = \"none\"` first, then adapt it")
            .into()),
        (origin, false) => Ok(Named::Full { origin, checkpoint }),
    }
}

impl Named {
    /// Loads it onto `device`.
    ///
    /// # Errors
    /// Files that are missing, cut or of another model.
    pub fn load(&self, device: &Device, dtype: DType) -> Result<Loaded, Faults> {
        let load = |config: Config, weights: &checkpoints::Weights| {
            let source = Source::frozen(weights, dtype, device);
            Decoder::load(config, &source)
        };
        match self {
            Self::Base(files) => {
                Ok(Loaded { decoder: load(files.config()?, &files.weights()?)?, tokenizer: files.tokenizer()? })
            }
            Self::Adapted { base, adapter } => {
                let weights = base.weights()?;
                adapter.check_base_copies(&weights)?;
                let mut decoder = load(base.config()?, &weights)?;
                decoder.attach(adapter, 0.0)?;
                if let Some(warning) = left_out(adapter, &decoder.config)? {
                    tracing::warn!("{warning}");
                }
                Ok(Loaded { decoder, tokenizer: base.tokenizer()? })
            }
            Self::Full { origin, checkpoint } => {
                let (config, tokenizer) = origin.parts()?;
                Ok(Loaded { decoder: load(config, &checkpoint.model()?)?, tokenizer })
            }
        }
    }
}

impl Origin {
    /// Configuration and tokenizer.
    ///
    /// # Errors
    /// Files that are missing or cannot be read.
    pub fn parts(&self) -> Result<(Config, Tokenizer), Faults> {
        match self {
            Self::Files(files) => Ok((files.config()?, files.tokenizer()?)),
            Self::Init(init) => {
                let tokenizer = crate::plan::init_tokenizer(init)?;
                Ok((Config::from_init(init, &tokenizer)?, tokenizer))
            }
        }
    }
}
