//! `trainer export`: an adapter or a merged model for other programs.

mod card;

use std::path::{Path, PathBuf};

use backbone::{Config, HEAD, ModelFiles, config_json, fitting_modules, is_embedding, local_folder};
use burn::tensor::{DType, Device};
use checkpoints::export::{Base, Exported, Reader};
use checkpoints::{Adapter, Checkpoint, Dtype, files_beside, find_checkpoint, while_it_moves};
use clap::{Args, ValueEnum};
use faults::{Fault, Faults, Place};

use self::card::Card;
use super::{Outcome, argument, print};
use crate::engine::state::RunState;
use crate::loading::{Loaded, Named, Origin, from_adapter, from_checkpoint, is_adapter};
use crate::sampling::last_logits;

/// Write the adapter of a run, or the model with the adapter merged into it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A run (its latest checkpoint, or `RUN@best`, `RUN@latest`, `RUN@STEP`), a checkpoint, or the folder of an adapter as
    /// PEFT writes it.
    run: PathBuf,
    /// The base of the adapter, in place of the one that its files name: a folder, or `org/name`.
    #[arg(long, value_name = "DIR|NAME")]
    base: Option<String>,
    /// The folder to write; it must not exist.
    #[arg(long)]
    out: PathBuf,
    /// Merge the adapter into the base model's weights.
    #[arg(long)]
    merge: bool,
    /// Convert the adapter to what this program reads, without a change of what it computes.
    #[arg(long = "for", value_name = "PROGRAM")]
    reader: Option<Program>,
    /// Type of a whole model's weights; as they are unless given.
    #[arg(long)]
    dtype: Option<OutputType>,
}

/// Types of merged weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputType {
    F32,
    Bf16,
    F16,
}

/// Programs that do not read all that PEFT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Program {
    Vllm,
    #[value(name = "llama.cpp")]
    LlamaCpp,
}

/// What is run through both sides of a merge.
const PROMPT: &str = "Once upon a time there was a small lighthouse on a rocky coast, and its keeper";

/// A difference of logits that f32 arithmetic alone does not make.
const NOTICEABLE: f32 = 1e-3;

/// Runs the command.
///
/// # Errors
/// No complete checkpoint, an output that exists, a base that cannot be found, a full disk.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    let (mut exported, card) = while_it_moves(&arguments.run, || exported(arguments))?;
    card.write(&mut exported)?;
    for warning in &exported.warnings {
        tracing::warn!("{warning}");
    }
    let list = exported.files.join(", ");
    tracing::info!("{} holds {list} ({} adapted modules)", exported.folder.display(), exported.modules);
    print(&format!("{}\n", exported.folder.display()))?;
    Ok(Outcome::Done)
}

/// What is written, and the card that is still to be.
fn exported(arguments: &Arguments) -> Result<(Exported, Card), Faults> {
    let trained = Trained::find(&arguments.run)?;
    // All is read before anything is written: what a run removes meanwhile is read again, and what is written is there.
    let card = trained.card(arguments)?;
    Ok((written(arguments, &trained)?, card))
}

fn written(arguments: &Arguments, trained: &Trained) -> Result<Exported, Faults> {
    let given = arguments.base.as_deref();
    let switches = crate::chat::of_run(Path::new(&arguments.run))?.arguments;
    if !switches.is_empty() {
        let switches = serde_json::Value::Object(switches);
        tracing::warn!(
            "the run was asked with the template arguments {switches}, which no exported file holds: give them to the chat template yourself"
        );
    }
    let reader = match arguments.reader {
        None => Reader::Peft,
        Some(_) if arguments.merge || !trained.has_adapter() => {
            return Err(Fault::new("`--for` has no effect on a whole model: every program reads it")
                .at(argument("for"))
                .hint("leave it out")
                .into());
        }
        Some(Program::Vllm) => Reader::Vllm,
        Some(Program::LlamaCpp) => Reader::LlamaCpp,
    };
    let dtype = arguments.dtype.map(|dtype| match dtype {
        OutputType::F32 => Dtype::F32,
        OutputType::Bf16 => Dtype::BF16,
        OutputType::F16 => Dtype::F16,
    });
    if !trained.has_adapter() {
        full(trained.named(given)?, &arguments.out, dtype)
    } else if arguments.merge {
        let adapted = trained.named(given)?;
        adapted.tell_of_other_base()?;
        let exported = merged(&adapted, &arguments.out, dtype)?;
        compare(&adapted, &arguments.out, dtype)?;
        Ok(exported)
    } else {
        if dtype.is_some() {
            return Err(Fault::new("`--dtype` has no effect on an adapter, which stays in f32")
                .at(argument("dtype"))
                .hint("add `--merge`, or leave it out")
                .into());
        }
        let mut adapter = trained.adapter()?;
        let on_end = adapter.modules()?.iter().any(|module| module.path == HEAD || is_embedding(module.path));
        let config = match on_end || arguments.reader.is_some() || given.is_some() {
            true => trained.base_config(given)?,
            false => None,
        };
        if let (Some(_), Some(config)) = (arguments.reader, &config) {
            // Others read the part for text alone of an adapter.
            fitting_modules(&adapter, config)?;
            adapter.retain_modules(|path| !config.is_beside(path));
        }
        let tied = config.map(|config| config.tie_word_embeddings);
        if let Some(given) = given {
            adapter.config.base_model_name_or_path = Some(local_folder(given).unwrap_or_else(|| given.to_owned()));
            adapter.config.revision = None;
        }
        let beside = files_beside(trained.folder())?;
        let exported = checkpoints::export::adapter(&adapter, &beside, &arguments.out, reader, tied)?;
        let base = adapter.config.base_model_name_or_path.unwrap_or_default();
        if base.starts_with("builtin:") {
            tracing::warn!("only this program knows the base `{base}`: export with `--merge` for others");
        }
        Ok(exported)
    }
}

/// What is exported.
enum Trained {
    /// What a run has written.
    Checkpoint(Checkpoint),
    /// The folder of an adapter by itself.
    Adapter(PathBuf),
}

impl Trained {
    fn find(path: &Path) -> Result<Self, Faults> {
        if is_adapter(path) { Ok(Self::Adapter(path.into())) } else { Ok(Self::Checkpoint(find_checkpoint(path)?)) }
    }

    fn has_adapter(&self) -> bool {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.has_adapter(),
            Self::Adapter(_) => true,
        }
    }

    fn adapter(&self) -> Result<Adapter, Faults> {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.adapter(),
            Self::Adapter(folder) => Adapter::read(folder),
        }
    }

    /// What is known of it.
    fn card(&self, arguments: &Arguments) -> Result<Card, Faults> {
        let run = match self {
            Self::Checkpoint(checkpoint) => {
                // `RUN/checkpoints/step-000100`.
                let run = checkpoint.folder.ancestors().nth(2).unwrap_or(&checkpoint.folder).to_owned();
                Some((run, RunState::read(checkpoint)?))
            }
            Self::Adapter(_) => None,
        };
        let named = match (self, &run) {
            (Self::Checkpoint(_), Some((_, state))) => card::base_of(&state.recipe),
            _ => self.adapter()?.config.base_model_name_or_path,
        };
        let whole = arguments.merge || !self.has_adapter();
        Ok(Card { base: arguments.base.clone().or(named), whole, run })
    }

    fn folder(&self) -> &Path {
        match self {
            Self::Checkpoint(checkpoint) => &checkpoint.folder,
            Self::Adapter(folder) => folder,
        }
    }

    /// The configuration of its base, where that is still to be found; of the one that is given it must be.
    fn base_config(&self, given: Option<&str>) -> Result<Option<Config>, Faults> {
        match self.named(given) {
            Ok(Named::Adapted { base, .. }) => Ok(base.config().ok()),
            Err(faults) if given.is_some() => Err(faults),
            _ => Ok(None),
        }
    }

    /// It and the base that it names, or the one that is given.
    fn named(&self, base: Option<&str>) -> Result<Named, Faults> {
        match self {
            Self::Checkpoint(checkpoint) => from_checkpoint(checkpoint.clone(), base),
            Self::Adapter(folder) => from_adapter(folder, base),
        }
    }
}

/// A base with an adapter in its weights, and the adapter's tokenizer where it brings one.
fn merged(adapted: &Named, out: &Path, dtype: Option<Dtype>) -> Result<Exported, Faults> {
    let Named::Adapted { base, adapter, brought, .. } = adapted else { unreachable!("there is an adapter") };
    // What it does to parts that are not run here could not be compared.
    fitting_modules(adapter, &base.config()?)?;
    let mut whole = base.base()?;
    if let Some(brought) = brought {
        whole.files.clone_from(&brought.files);
    }
    checkpoints::export::merged(&whole, adapter, out, dtype)
}

/// Runs one prompt through base and adapter and through the merged files, and prints how far they are apart.
fn compare(adapted: &Named, merged: &Path, dtype: Option<Dtype>) -> Result<(), Faults> {
    let device = Device::flex();
    let before = adapted.load(&device, DType::F32)?;
    let after = Named::Base(ModelFiles::Folder(merged.into())).load(&device, DType::F32)?;
    let ids = before.tokenizer.encode(PROMPT, true)?;
    let difference = largest_difference(&before, &after, &ids);
    if !difference.is_finite() {
        // What is half good is not left to be found and used.
        let _ = fs_err::remove_dir_all(merged);
        return Err(Fault::new("the merged model's logits are not finite")
            .at(Place::file(merged))
            .hint("look at the adapter: was the run's last loss finite?")
            .into());
    }
    let rounded = match difference > NOTICEABLE && dtype != Some(Dtype::F32) {
        true => "; the merged weights are rounded once to their type, `--dtype f32` keeps them closer",
        false => "",
    };
    tracing::info!("largest difference of the logits, adapter against merged: {difference:.2e}{rounded}");
    Ok(())
}

fn largest_difference(before: &Loaded, after: &Loaded, ids: &[u32]) -> f32 {
    let pairs = last_logits(before, ids).into_iter().zip(last_logits(after, ids));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, |largest, d| if d.is_nan() { d } else { f32::max(largest, d) })
}

/// A model of which every weight was trained: its weights, beside the configuration and tokenizer it started with.
fn full(trained: Named, out: &Path, dtype: Option<Dtype>) -> Result<Exported, Faults> {
    let Named::Full { origin, checkpoint } = trained else { unreachable!("there is no adapter") };
    let trained = checkpoint.model()?;
    let mut base = match &origin {
        Origin::Files(files) => {
            let (base, config) = (files.base()?, files.config()?);
            Base { weights: base.weights.after(trained, |name| config.is_beside(name)), ..base }
        }
        Origin::Init(init) => {
            let (_, tokenizer) = origin.parts()?;
            let config = config_json(init, &tokenizer);
            let mut files = init.tokenizer_files()?;
            files.push(("config.json".into(), format!("{config:#}").into_bytes()));
            Base { weights: trained, files }
        }
    };
    for (name, bytes) in checkpoints::files_beside(&checkpoint.folder)? {
        base.files.retain(|(of_base, _)| *of_base != name);
        base.files.push((name, bytes));
    }
    checkpoints::export::model(&base, out, dtype)
}
