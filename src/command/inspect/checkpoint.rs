//! Where a run stands, and what it has trained.

use std::collections::BTreeMap;

use checkpoints::{Adapter, Checkpoint};
use faults::{Fault, Faults};
use serde::Serialize;

use super::adapter::AdapterReport;
use super::model::ModelReport;
use super::page::Page;
use crate::engine::state::RunState;
use crate::plan::print::{bytes, count};

#[derive(Serialize)]
pub(super) struct CheckpointReport {
    path: String,
    step: usize,
    skipped: usize,
    best: Option<Best>,
    /// The recipe's table.
    objective: toml::Value,
    train_fingerprint: String,
    eval_fingerprint: Option<String>,
    base: Option<Base>,
    /// Version of the program that wrote it.
    version: String,
    /// Tensors of the optimizer, the objective and the auxiliary losses, by what they are.
    training_state: BTreeMap<String, Size>,
    #[serde(flatten)]
    trained: Trained,
}

#[derive(Serialize)]
struct Best {
    step: usize,
    loss: f64,
}

#[derive(Serialize)]
struct Base {
    weights: String,
    folder: Option<String>,
}

#[derive(Serialize, Default)]
struct Size {
    values: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Trained {
    Adapter(AdapterReport),
    Model(ModelReport),
}

impl CheckpointReport {
    pub(super) fn new(checkpoint: &Checkpoint, state: RunState) -> Result<Self, Faults> {
        let recipe: toml::Table = toml::from_str(&state.recipe).unwrap_or_default();
        let trained = match checkpoint.has_adapter() {
            true => Trained::Adapter(AdapterReport::new(Adapter::read_unchecked(&checkpoint.folder)?)?),
            false => Trained::Model(ModelReport::new(None, &checkpoint.model()?)?),
        };
        Ok(Self {
            path: checkpoint.folder.display().to_string(),
            step: state.step,
            skipped: state.skipped,
            best: state.best.map(|(step, loss)| Best { step, loss }),
            objective: recipe.get("objective").cloned().unwrap_or(toml::Value::Table(toml::Table::new())),
            train_fingerprint: state.train_fingerprint,
            eval_fingerprint: state.eval_fingerprint,
            base: state.base.map(|base| Base { weights: base.weights, folder: base.folder }),
            version: state.version,
            training_state: training_state(checkpoint)?,
            trained,
        })
    }

    pub(super) fn show(&self, page: &mut Page) {
        page.line("checkpoint", &self.path);
        page.line("step", format!("{}, {} skipped", self.step, self.skipped));
        let best = self.best.as_ref().map(|best| format!("step {} with {:.4}", best.step, best.loss));
        page.line("best", best.as_deref().unwrap_or("none"));
        let settings = self.objective.as_table().into_iter().flatten().map(|(key, value)| match key.as_str() {
            "kind" => value.as_str().unwrap_or("?").to_owned(),
            _ => format!("{key} {value}"),
        });
        page.line("objective", settings.collect::<Vec<_>>().join(" "));
        page.line("train rows", &self.train_fingerprint);
        page.line("eval rows", self.eval_fingerprint.as_deref().unwrap_or("none"));
        if let Some(base) = &self.base {
            let place = base.folder.as_ref().map(|folder| format!(" in {folder}")).unwrap_or_default();
            page.line("base", format!("weights {}{place}", base.weights));
        }
        page.line("written by", format!("trainer {}", self.version));
        let sizes = self.training_state.iter();
        let sizes = sizes.map(|(part, size)| format!("{part}: {} values, {}", count(size.values), bytes(size.bytes)));
        page.lines("state", sizes);
        page.blank();
        match &self.trained {
            Trained::Adapter(adapter) => adapter.show(page),
            Trained::Model(model) => model.show(page),
        }
    }
}

fn training_state(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Size>, Fault> {
    let mut parts: BTreeMap<String, Size> = BTreeMap::new();
    for (name, tensor) in checkpoint.training_state()? {
        let mut words = name.split('.');
        let first = words.next().unwrap_or_default();
        // `value.` is a copy of the trained weights; the others say after their dot which of several they are.
        let part = match (first, words.next()) {
            ("value", _) | (_, None) => first.to_owned(),
            (_, Some(second)) => format!("{first}.{second}"),
        };
        let size = parts.entry(part).or_default();
        size.values += tensor.shape.iter().product::<usize>() as u64;
        size.bytes += tensor.bytes.len() as u64;
    }
    Ok(parts)
}
