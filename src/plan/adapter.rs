//! The adapter of a run: a new one's shape, or the one that it goes on from.

use std::collections::BTreeSet;
use std::path::Path;

use backbone::{AdapterSettings, Config, ModelFiles, Targets, fitting_modules, left_out};
use checkpoints::{Adapter, AdapterConfig, Checkpoint, Weights};
use faults::{Fault, Faults, Place};

use super::{Plan, wasted_rank};
use crate::loading::{self, Brought};
use crate::recipe::{self, Recipe, Start};

/// The shape of a new adapter; `None` for one that goes on from another.
pub(super) fn fresh(lora: &recipe::Lora) -> Option<AdapterSettings> {
    let Start::Fresh(fresh) = &lora.start else { return None };
    Some(AdapterSettings {
        rank: fresh.rank,
        alpha: fresh.alpha,
        dropout: lora.dropout,
        targets: match &fresh.targets {
            recipe::Targets::AllLinear => Targets::AllLinear,
            recipe::Targets::Names(names) => Targets::Named(names.clone()),
        },
        rslora: fresh.rslora,
        dora: lora.dora,
        rank_pattern: fresh.rank_pattern.clone(),
        alpha_pattern: fresh.alpha_pattern.clone(),
        principal: fresh.pissa,
    })
}

/// The adapter to go on from, if there is one, with the tokenizer that it brings; whether it or a new one can be put on this
/// model. A run that goes on from a checkpoint has it there.
pub(super) fn init_from(
    recipe: &Recipe,
    config: &Config,
    base: Option<(&ModelFiles, &Weights)>,
    checkpoint: Option<&Checkpoint>,
) -> Result<(Option<Adapter>, Option<Brought>), Faults> {
    let recipe::Adapter::Lora(lora) = &recipe.adapter else { return Ok((None, None)) };
    let Start::From(path) = &lora.start else {
        let settings = fresh(lora).expect("it is new or goes on from another");
        return match settings.check(config) {
            Ok(()) => Ok((None, None)),
            Err(faults) => Err(faults.map(|fault| recipe.places.located(fault))),
        };
    };
    let (adapter, folder) = match checkpoint.filter(|checkpoint| checkpoint.has_adapter()) {
        Some(checkpoint) => (checkpoint.adapter()?, checkpoint.folder.clone()),
        None => loading::adapter(Path::new(path))?,
    };
    let found = adapter.config.use_dora;
    if found != lora.dora {
        return Err(Fault::new(format!("`adapter.kind` is \"{}\", and this is another adapter", kind(lora.dora)))
            .at(Place::file(path))
            .hint(format!("write `kind = \"{}\"`", kind(found)))
            .into());
    }
    fitting_modules(&adapter, config)?;
    let Some((files, weights)) = base else { return Ok((Some(adapter), None)) };
    adapter.check_base_copies(weights)?;
    let brought = loading::brought(&folder, files)?;
    Ok((Some(adapter), brought))
}

fn kind(dora: bool) -> &'static str {
    if dora { "dora" } else { "lora" }
}

/// What may not be meant: a rank that no adapted matrix can have, which PEFT takes as well; no dropout on an adapter that
/// was trained with some, which PEFT would go on with.
pub(super) fn warnings(recipe: &Recipe, config: &Config, init_from: Option<&Adapter>) -> Vec<String> {
    let recipe::Adapter::Lora(lora) = &recipe.adapter else { return Vec::new() };
    let wasted = fresh(lora).and_then(|settings| wasted_rank(&settings, config, "adapter.rank"));
    let mut warnings: Vec<String> =
        wasted.into_iter().map(|fault| fault.at(recipe.places.of("adapter.rank")).line()).collect();
    // It was looked at when it was read.
    warnings.extend(init_from.and_then(|adapter| left_out(adapter, config).ok().flatten()));
    let before = init_from.map_or(lora.dropout, |adapter| adapter.config.lora_dropout);
    if before != lora.dropout && !recipe.places.has("adapter.dropout") {
        let message = format!("the adapter was trained with dropout {before}, and this run has {}", lora.dropout);
        let hint = format!("write `adapter.dropout = {before}` to go on as it was");
        warnings.push(Fault::new(message).at(recipe.places.of("adapter.init_from")).hint(hint).line());
    }
    warnings
}

/// What an adapter is and where.
pub struct Adapted {
    /// `lora` or `dora`.
    pub kind: &'static str,
    /// The ranks of its modules, each once, rising.
    pub ranks: Vec<usize>,
    /// The factors of B A, each once, rising.
    pub scales: Vec<f64>,
    /// Probability that an input of A is dropped.
    pub dropout: f64,
    /// The number of adapted matrices.
    pub matrices: usize,
    /// What these are called in their blocks, each once, sorted.
    pub names: Vec<String>,
    /// How it starts, where that is not at random and zero: `pissa`, or the adapter that it goes on from.
    pub start: Option<String>,
}

impl Plan {
    /// What the adapter is; `None` where every weight is trained.
    pub fn adapted(&self) -> Option<Adapted> {
        let recipe::Adapter::Lora(lora) = &self.recipe.adapter else { return None };
        let (shape, paths): (AdapterConfig, Vec<String>) = match (&self.init_from, fresh(lora)) {
            (_, Some(settings)) => {
                (settings.shape(), settings.adapted(&self.config).into_iter().map(|(path, _)| path).collect())
            }
            (Some(adapter), None) => {
                let modules = fitting_modules(adapter, &self.config).expect("it was looked at when it was read");
                (adapter.config.clone(), modules.iter().map(|module| module.path.to_owned()).collect())
            }
            (None, None) => unreachable!("an adapter is new or goes on from another"),
        };
        let ranks: BTreeSet<usize> = paths.iter().map(|path| shape.rank(path)).collect();
        let mut scales: Vec<f64> = paths.iter().map(|path| shape.scale(path)).collect();
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        let names: BTreeSet<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
        Some(Adapted {
            kind: kind(lora.dora),
            ranks: ranks.into_iter().collect(),
            scales,
            dropout: lora.dropout,
            matrices: paths.len(),
            names: names.into_iter().map(str::to_owned).collect(),
            start: match &lora.start {
                Start::From(path) => Some(path.clone()),
                Start::Fresh(fresh) => fresh.pissa.then(|| "pissa".to_owned()),
            },
        })
    }
}
