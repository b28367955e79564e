//! `trainer inspect`: what a model, an adapter or a checkpoint holds, from its files alone; no model is built.
//!
//! What is found is a structure for each kind of thing: serde makes JSON of it, and its `show` the text.

mod adapter;
mod architecture;
mod checkpoint;
mod difference;
mod model;
mod page;

use std::path::Path;

use backbone::ModelFiles;
use checkpoints::{Adapter, Checkpoint, Weights, find_checkpoint};
use clap::Args;
use faults::{Fault, Faults, Place};
use serde::Serialize;
use serde_json::json;

use super::{Outcome, argument, print};
use crate::engine::state::RunState;
use crate::loading::is_run;

use adapter::AdapterReport;
use checkpoint::CheckpointReport;
use difference::DifferenceReport;
use model::ModelReport;
use page::Page;

/// Show what a model, an adapter or a checkpoint holds: shapes, types, scaling, norms.
///
/// Norms are Frobenius norms; `|s B A|` is that of the update an adapter makes to a matrix. With `--diff`, how far the
/// updates of two adapters are apart: `|U - V| / |U|` and the cosine between them, module by module.
#[derive(Debug, Args)]
pub struct Arguments {
    /// A base model (folder, `org/name`, `builtin:tiny`), an adapter's folder, a run (its latest checkpoint, or
    /// `RUN@best`, `RUN@latest`, `RUN@STEP`), a checkpoint or a safetensors file.
    path: String,
    /// Compare the adapter with another.
    #[arg(long, value_name = "OTHER")]
    diff: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A path that is nothing of these, files that are broken, or two sides that cannot be compared.
pub fn run(arguments: &Arguments) -> Result<Outcome, Faults> {
    let path = &arguments.path;
    let found = Found::at(path).map_err(|faults| faults.map(|fault| fault.or_at(Place::file(path))))?;
    let report = match &arguments.diff {
        None => found.report(path)?,
        Some(other) => {
            let second = Found::at(other).map_err(|faults| faults.map(|fault| fault.or_at(argument("diff"))))?;
            let sides = (found.adapter(path)?, second.adapter(other)?);
            Report::Difference(DifferenceReport::new((path, &sides.0), (other, &sides.1))?)
        }
    };
    let text = if arguments.json { faults::json::shown(format!("{:#}\n", json!(report))) } else { report.text() };
    print(&text)?;
    Ok(Outcome::Done)
}

/// What a path stands for.
enum Found {
    Model { files: Option<ModelFiles>, weights: Weights },
    Adapter(Box<Adapter>),
    Checkpoint(Checkpoint),
}

impl Found {
    fn at(path: &str) -> Result<Self, Faults> {
        let folder = Path::new(path);
        if folder.extension().is_some_and(|extension| extension == "safetensors") && folder.is_file() {
            return Ok(Self::Model { files: None, weights: Weights::open_file(folder)? });
        }
        if is_run(folder) {
            return Ok(Self::Checkpoint(find_checkpoint(folder)?));
        }
        if folder.join("adapter_config.json").is_file() {
            return Ok(Self::Adapter(Box::new(Adapter::read_unchecked(folder)?)));
        }
        let files = ModelFiles::locate(path, None)?;
        let weights = files.weights()?;
        Ok(Self::Model { files: Some(files), weights })
    }

    fn adapter(self, path: &str) -> Result<Adapter, Faults> {
        match self {
            Self::Adapter(adapter) => Ok(*adapter),
            Self::Checkpoint(checkpoint) if checkpoint.has_adapter() => Adapter::read_unchecked(&checkpoint.folder),
            _ => Err(Fault::new("`--diff` compares two adapters, and this is a whole model")
                .at(Place::file(path))
                .hint("give the folder of an adapter, a checkpoint or a run on both sides")
                .into()),
        }
    }

    fn report(self, path: &str) -> Result<Report, Faults> {
        let path = path.to_owned();
        Ok(match self {
            Self::Model { files, weights } => {
                Report::Model { path, model: ModelReport::new(files.as_ref(), &weights)? }
            }
            Self::Adapter(adapter) => Report::Adapter { path, adapter: AdapterReport::new(*adapter)? },
            Self::Checkpoint(checkpoint) => {
                Report::Checkpoint(Box::new(CheckpointReport::new(&checkpoint, RunState::read(&checkpoint)?)?))
            }
        })
    }
}

/// All that is printed.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Report {
    Model {
        path: String,
        #[serde(flatten)]
        model: ModelReport,
    },
    Adapter {
        path: String,
        #[serde(flatten)]
        adapter: AdapterReport,
    },
    Checkpoint(Box<CheckpointReport>),
    #[serde(untagged)]
    Difference(DifferenceReport),
}

impl Report {
    fn text(&self) -> String {
        let mut page = Page::default();
        match self {
            Self::Model { model, .. } => model.show(&mut page),
            Self::Adapter { path, adapter } => {
                page.line("adapter", path);
                adapter.show(&mut page);
            }
            Self::Checkpoint(checkpoint) => checkpoint.show(&mut page),
            Self::Difference(difference) => difference.show(&mut page),
        }
        page.text()
    }
}
