//! A model as the command line names it: a base model, a run, a checkpoint, or an exported adapter.

mod base;
mod brought;
pub mod rows;

use std::path::Path;

use backbone::{Config, Decoder, Identity, ModelFiles, Source, remarks};
use burn::tensor::{DType, Device};
use checkpoints::{Adapter, Checkpoint, find_checkpoint, of_run, while_it_moves};
use datasets::Tokenizer;
use faults::{Fault, Faults, Place};

use crate::engine::state::RunState;
use crate::recipe::{self, Backbone};

pub use brought::Brought;

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
        /// The tokenizer that came with it, where that is not the base's.
        brought: Option<Box<Brought>>,
        /// What the base was when the adapter was trained, if that is known.
        trained_on: Option<Identity>,
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
    Init(backbone::Init),
}

/// Finds out what `path` is; `base` takes the place of the base that it names.
///
/// # Errors
/// Nothing that can be loaded, or an adapter whose base cannot be found.
pub fn named(path: &str, base: Option<&str>) -> Result<Named, Faults> {
    let folder = Path::new(path);
    if is_run(folder) {
        return while_it_moves(folder, || {
            let checkpoint = find_checkpoint(folder)?;
            tell_of_unfinished(folder, &checkpoint)?;
            from_checkpoint(checkpoint, base)
        });
    }
    if is_adapter(folder) {
        return from_adapter(folder, base);
    }
    base::refuse_given(base, "a whole model")?;
    Ok(Named::Base(ModelFiles::locate(path, None).map_err(|fault| fault.or_at(Place::file(path)))?))
}

/// Says so where a run is named as a whole and has not come to its end: what there is of it is its latest checkpoint.
fn tell_of_unfinished(folder: &Path, checkpoint: &Checkpoint) -> Result<(), Fault> {
    if !folder.join("checkpoints").is_dir() {
        return Ok(());
    }
    let state = RunState::read(checkpoint)?;
    let recipe: toml::Table = state.recipe.parse().unwrap_or_default();
    let number = |table: &str, key: &str| usize::try_from(recipe.get(table)?.get(key)?.as_integer()?).ok();
    let has_ended_early = state.stopped_early
        || number("checkpoint", "patience").is_some_and(|most| state.evaluations_since_best >= most);
    if let Some(steps) = number("train", "steps").filter(|steps| state.step < *steps && !has_ended_early) {
        let (name, step) = (folder.display(), state.step);
        tracing::warn!("{name}: the run has not come to its end, and its latest checkpoint is step {step} of {steps}");
    }
    Ok(())
}

/// True for the folder of an adapter as PEFT or an export writes it.
pub fn is_adapter(folder: &Path) -> bool {
    !is_run(folder) && folder.join("adapter_config.json").is_file()
}

/// Such an adapter with the base model that it names, or `base` in place of that.
///
/// # Errors
/// An adapter that cannot be read, or a base that cannot be found.
pub fn from_adapter(folder: &Path, base: Option<&str>) -> Result<Named, Faults> {
    let adapter = Adapter::read(folder)?;
    let place = Place::file(folder.join("adapter_config.json"));
    let named = adapter.config.base_model_name_or_path.as_deref().filter(|name| !name.is_empty());
    let Some(path) = named.or(base) else {
        let fault = Fault::new("`adapter_config.json` does not name a base model").at(place);
        let hint = "`--base DIR|NAME` says which it is, or its path or name under `base_model_name_or_path`";
        return Err(fault.hint(hint).into());
    };
    let revision = adapter.config.revision.as_deref();
    let name = base::Name { path, revision, folder: None, place, key: "`base_model_name_or_path`" };
    let files = name.locate(base)?;
    adapted(files, adapter, folder, None)
}

/// An adapter on its base, with what its folder brings.
fn adapted(base: ModelFiles, adapter: Adapter, folder: &Path, trained_on: Option<Identity>) -> Result<Named, Faults> {
    let brought = brought(folder, &base)?.map(Box::new);
    Ok(Named::Adapted { base, adapter: Box::new(adapter), brought, trained_on })
}

/// The tokenizer that an adapter's folder brings; what there is to say of it is said.
///
/// # Errors
/// As [`Brought::find`].
pub fn brought(folder: &Path, base: &ModelFiles) -> Result<Option<Brought>, Faults> {
    let brought = Brought::find(folder, base)?;
    if let Some(brought) = &brought {
        brought.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let line = brought.line();
        if !line.is_empty() {
            tracing::info!("of the adapter's own: {line} (`{}`)", folder.display());
        }
    }
    Ok(brought)
}

/// True for a run, a checkpoint, the file that names one, or `RUN@WHICH`.
pub fn is_run(path: &Path) -> bool {
    let is_one = path.join("checkpoints").is_dir() || path.join("MANIFEST.json").is_file() || path.is_file();
    is_one || of_run(path).is_some()
}

/// Refuses what stands on a base, or has to be exported first, where a whole model is asked for.
///
/// # Errors
/// An adapter, a run or a checkpoint.
pub fn refuse_as_model(path: &str) -> Result<(), Faults> {
    let folder = Path::new(path);
    if folder.is_file() || folder.join("config.json").is_file() || !(is_run(folder) || is_adapter(folder)) {
        return Ok(());
    }
    let (base, what) = if is_adapter(folder) {
        (Adapter::read(folder)?.config.base_model_name_or_path, "an adapter")
    } else {
        let checkpoint = find_checkpoint(folder)?;
        if !checkpoint.has_adapter() {
            let fault = Fault::new(format!("`{path}` is a run of this program, expected a model's folder"));
            let hint = format!("`trainer export {path} --out DIR` writes its model: give that folder");
            return Err(fault.hint(hint).into());
        }
        (checkpoint.adapter()?.config.base_model_name_or_path, "a run of this program, which has an adapter")
    };
    let base = base.filter(|base| !base.is_empty()).map_or(String::new(), |base| format!(" (`{base}`)"));
    let fault = Fault::new(format!("`{path}` is {what}, expected a whole model"));
    let hint = format!(
        "`model.path` is its base{base}, and `adapter.init_from = \"{path}\"` goes on from it; \
         `trainer export {path} --merge --out DIR` makes one model of both"
    );
    Err(fault.hint(hint).into())
}

/// The adapter that `path` stands for with the folder it lies in: one of PEFT's, a checkpoint, or a run, of which it is the
/// latest.
///
/// # Errors
/// None of these, or an adapter that cannot be read.
pub fn adapter(path: &Path) -> Result<(Adapter, std::path::PathBuf), Faults> {
    if !is_run(path) {
        return Ok((Adapter::read(path)?, path.to_owned()));
    }
    while_it_moves(path, || {
        let checkpoint = find_checkpoint(path)?;
        Ok((checkpoint.adapter()?, checkpoint.folder))
    })
}

/// A checkpoint with the base model that its run's recipe names, or `base` in place of that.
///
/// # Errors
/// A checkpoint that is not one of this program, or a base model that cannot be found.
pub fn from_checkpoint(checkpoint: Checkpoint, base: Option<&str>) -> Result<Named, Faults> {
    let state = RunState::read(&checkpoint)?;
    let backbone = recipe::backbone("recipe.toml", &state.recipe)?;
    let origin = match &backbone {
        Backbone::Pretrained { path, revision } => {
            let folder = state.base.as_ref().and_then(|base| base.folder.as_deref());
            let place = Place::file(checkpoint.folder.join("state.json"));
            let key = "`model.path` of the recipe";
            let name = base::Name { path, revision: revision.as_deref(), folder, place, key };
            Origin::Files(name.locate(base)?)
        }
        Backbone::Init(init) => {
            base::refuse_given(base, "a model that was built from scratch")?;
            Origin::Init(init.clone())
        }
    };
    match (origin, checkpoint.has_adapter()) {
        (Origin::Files(base), true) => adapted(base, checkpoint.adapter()?, &checkpoint.folder, state.base),
        (Origin::Init(_), true) => Err(Fault::new("the adapter's base was built from scratch and was not saved")
            .at(Place::file(&checkpoint.folder))
            .hint("train a base with `adapter.kind = \"none\"` first, then adapt it")
            .into()),
        (origin, false) => Ok(Named::Full { origin, checkpoint }),
    }
}

impl Named {
    /// Warns where the base is not the one that the adapter was trained on, or has another tokenizer. Every weight is read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn tell_of_other_base(&self) -> Result<(), Faults> {
        let Self::Adapted { base, trained_on: Some(trained_on), brought, .. } = self else { return Ok(()) };
        let name = base.config_place();
        if let Some(difference) = trained_on.difference(base)? {
            tracing::warn!("the adapter was trained on another base than this: {difference} ({name})");
        }
        let own = brought.as_deref().map(Brought::own_parts).unwrap_or_default();
        if let Some(difference) = trained_on.other_tokenizer(base, own)? {
            tracing::warn!(
                "the adapter was trained with another tokenizer than the base has here: {difference} ({name})"
            );
        }
        Ok(())
    }

    /// Loads it onto `device`.
    ///
    /// # Errors
    /// Files that are missing, cut or of another model.
    pub fn load(&self, device: &Device, dtype: DType) -> Result<Loaded, Faults> {
        let load = |config: Config, weights: &checkpoints::Weights| {
            let source = Source::frozen(weights, dtype, device);
            Decoder::load(config, &source)
        };
        let loaded = match self {
            Self::Base(files) => {
                let decoder = load(files.config()?, &files.weights()?)?;
                Loaded { decoder, tokenizer: files.tokenizer()? }
            }
            Self::Adapted { base, adapter, brought, .. } => {
                let weights = base.weights()?;
                adapter.check_base_copies(&weights)?;
                let mut decoder = load(base.config()?, &weights)?;
                decoder.attach(adapter, 0.0)?;
                for warning in remarks(adapter, &decoder.config)? {
                    tracing::warn!("{warning}");
                }
                let tokenizer = match brought {
                    Some(brought) => brought.tokenizer()?,
                    None => base.tokenizer()?,
                };
                Loaded { decoder, tokenizer }
            }
            Self::Full { origin, checkpoint } => {
                let (config, tokenizer) = origin.parts()?;
                Loaded { decoder: load(config, &checkpoint.model()?)?, tokenizer }
            }
        };
        loaded.tokenizer.remarks().iter().for_each(|remark| tracing::warn!("{remark}"));
        Ok(loaded)
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
                let tokenizer = init.tokenizer()?;
                Ok((Config::from_init(init, &tokenizer)?, tokenizer))
            }
        }
    }
}
