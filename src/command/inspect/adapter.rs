//! An adapter: its settings, and the norms of the updates that it makes.

use std::collections::BTreeSet;

use checkpoints::{Adapter, AdapterConfig, TargetModules};
use faults::{Fault, Faults};
use rayon::prelude::*;
use serde::{Serialize, Serializer};

use super::page::{Page, named, number};
use crate::inspection::{Norms, Update, in_order};
use crate::plan::print::count;

#[derive(Serialize)]
pub(super) struct AdapterReport {
    #[serde(serialize_with = "as_peft_writes_it")]
    config: AdapterConfig,
    /// Numbers in all tensors.
    values: u64,
    dtypes: BTreeSet<String>,
    /// Norm of all modules' updates together.
    norm_update: f64,
    /// Modules that do nothing yet.
    untrained: Vec<String>,
    /// Modules with values that are NaN or infinite.
    not_finite: Vec<String>,
    modules: Vec<ModuleReport>,
}

#[derive(Serialize)]
struct ModuleReport {
    path: String,
    #[serde(rename = "in")]
    inputs: usize,
    #[serde(rename = "out")]
    outputs: usize,
    rank: usize,
    scale: f64,
    #[serde(flatten)]
    norms: Norms,
}

fn as_peft_writes_it<S: Serializer>(config: &AdapterConfig, to: S) -> Result<S::Ok, S::Error> {
    config.to_json().serialize(to)
}

/// An adapter's factors as numbers, layer after layer.
pub(super) fn updates(adapter: &Adapter) -> Result<Vec<Update>, Faults> {
    let mut updates = adapter.modules()?.iter().map(Update::new).collect::<Result<Vec<_>, Fault>>()?;
    in_order(&mut updates);
    Ok(updates)
}

impl AdapterReport {
    pub(super) fn new(adapter: Adapter) -> Result<Self, Faults> {
        let updates = updates(&adapter)?;
        let module = |update: &Update| {
            let ([inputs, outputs], path) = (update.sides, update.path.clone());
            ModuleReport { path, inputs, outputs, rank: update.rank, scale: update.scale, norms: update.norms() }
        };
        let modules: Vec<ModuleReport> = updates.par_iter().map(module).collect();
        let chosen = |wanted: fn(&Update) -> bool| {
            updates.iter().filter(|update| wanted(update)).map(|update| update.path.clone()).collect()
        };
        Ok(Self {
            values: adapter.tensors.values().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum(),
            dtypes: adapter.tensors.values().map(|tensor| tensor.dtype.to_string()).collect(),
            norm_update: modules.iter().map(|module| module.norms.update.powi(2)).sum::<f64>().sqrt(),
            untrained: chosen(Update::is_untrained),
            not_finite: chosen(|update| !update.is_finite()),
            config: adapter.config,
            modules,
        })
    }

    pub(super) fn show(&self, page: &mut Page) {
        let config = &self.config;
        let base = config.base_model_name_or_path.as_deref().filter(|base| !base.is_empty()).unwrap_or("not named");
        let revision = config.revision.as_ref().map(|revision| format!(" at {revision}")).unwrap_or_default();
        page.line("base", format!("{base}{revision}"));
        let rule = if config.use_rslora { "alpha / sqrt(rank)" } else { "alpha / rank" };
        let dora = if config.use_dora { ", with magnitudes (DoRA)" } else { "" };
        let (rank, alpha, dropout) = (config.r, config.lora_alpha, config.lora_dropout);
        page.line("shape", format!("rank {rank}, alpha {alpha}, scale {rule}, dropout {dropout}{dora}"));
        page.line("targets", targets(&config.target_modules));
        if let Some(excluded) = &config.exclude_modules {
            page.line("but not", targets(excluded));
        }
        let ranks = config.rank_pattern.iter().map(|(pattern, rank)| format!("{pattern} = {rank}"));
        page.list("ranks", &ranks.collect::<Vec<_>>());
        let alphas = config.alpha_pattern.iter().map(|(pattern, alpha)| format!("{pattern} = {alpha}"));
        page.list("alphas", &alphas.collect::<Vec<_>>());
        let types = self.dtypes.iter().cloned().collect::<Vec<_>>().join(" and ");
        page.line("modules", format!("{}, {} values in {types}", self.modules.len(), count(self.values)));
        page.line("update", format!("norm {} of all modules together", number(self.norm_update)));
        page.line("untrained", named(&self.untrained));
        page.line("not finite", named(&self.not_finite));
        let mut heads = vec!["module", "in", "out", "rank", "scale", "|A|", "|B|", "|s B A|"];
        heads.extend(config.use_dora.then_some("|m|"));
        page.table(&heads, self.modules.iter().map(ModuleReport::row));
    }
}

impl ModuleReport {
    fn row(&self) -> Vec<String> {
        let norms = &self.norms;
        let mut row = vec![self.path.clone()];
        row.extend([self.inputs, self.outputs, self.rank].map(|size| size.to_string()));
        row.extend([self.scale, norms.a, norms.b, norms.update].into_iter().chain(norms.magnitude).map(number));
        row
    }
}

fn targets(modules: &TargetModules) -> String {
    match modules {
        TargetModules::Names(names) => named(names),
        TargetModules::Pattern(pattern) => format!("the pattern {pattern}"),
    }
}
