//! What is trained of a model: every weight, a new adapter, or one that goes on; resolved against the model's configuration
//! once, when the plan is made.

use std::collections::BTreeSet;
use std::path::Path;

use backbone::{AdapterSettings, Config, ModelFiles, fitting_modules, is_embedding, remarks};
use checkpoints::{Adapter, AdapterConfig, Checkpoint, TargetModules, Weights};
use faults::{Fault, Faults, Place};

use super::{Plan, wasted_rank};
use crate::loading::{self, Brought};
use crate::recipe::{self, Recipe, Start};

/// What is trained, and beside which matrices.
pub struct Adaptation {
    /// Where the trained values come from.
    pub start: Origin,
    /// The matrices that an adapter stands beside, with their shapes `[out, in]`; none where every weight is trained.
    pub modules: Vec<(String, [usize; 2])>,
    /// Values that are trained.
    pub parameters: u64,
    /// DoRA: the rows of the adapted matrices have trained magnitudes.
    pub dora: bool,
    /// Probability that an input of A is dropped in this run.
    pub dropout: f64,
    /// The adapter of the checkpoint that a run with a new adapter goes on from.
    pub saved: Option<Adapter>,
}

/// Where what is trained comes from.
pub enum Origin {
    /// Every weight of the model itself.
    Model,
    /// A new adapter.
    Fresh(AdapterSettings),
    /// An adapter that was trained before.
    Continued {
        /// The adapter that was trained before.
        adapter: Box<Adapter>,
        /// The recipe's name of it.
        name: String,
        /// Warnings about modules that are left out.
        remarks: Vec<String>,
    },
}

impl Adaptation {
    /// Resolves `[adapter]` against a model; gives the tokenizer too that lies beside the adapter of `init_from`. On resume the
    /// adapter is the checkpoint's. Without a `base`, what needs its weights and its tokenizer is not looked at.
    ///
    /// # Errors
    /// An adapter that is not there, or one that cannot be put on this model.
    pub(super) fn resolve(
        recipe: &Recipe,
        config: &Config,
        base: Option<(&ModelFiles, &Weights)>,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<(Self, Option<Brought>), Faults> {
        let lora = match &recipe.adapter {
            recipe::Adapter::None => return Ok((Self::of_model(config), None)),
            recipe::Adapter::Lora(lora) => lora,
        };
        let path = match &lora.start {
            Start::Fresh(settings) => {
                settings.check(config).map_err(|faults| faults.map(|fault| recipe.places.located(fault)))?;
                let saved = checkpoint.filter(|checkpoint| checkpoint.has_adapter()).map(Checkpoint::adapter);
                return Ok((Self { saved: saved.transpose()?, ..Self::fresh(settings.clone(), config) }, None));
            }
            Start::From(path) => path,
        };
        let (adapter, folder) = match checkpoint.filter(|checkpoint| checkpoint.has_adapter()) {
            Some(checkpoint) => (checkpoint.adapter()?, checkpoint.folder.clone()),
            None => loading::adapter(Path::new(path))?,
        };
        let found = adapter.config.use_dora;
        if found != lora.dora {
            let message = format!("`adapter.kind` is \"{}\", and this adapter is \"{}\"", kind(lora.dora), kind(found));
            return Err(Fault::new(message)
                .at(Place::file(path))
                .hint(format!("write `kind = \"{}\"`", kind(found)))
                .into());
        }
        let resolved = Self::continued(adapter, path, lora.dropout, config)?;
        let (Some((files, weights)), Origin::Continued { adapter, .. }) = (base, &resolved.start) else {
            return Ok((resolved, None));
        };
        adapter.check_base_copies(weights)?;
        let brought = loading::brought(&folder, files)?;
        Ok((resolved, brought))
    }

    fn of_model(config: &Config) -> Self {
        let parameters = config.parameters();
        Self { start: Origin::Model, modules: Vec::new(), parameters, dora: false, dropout: 0.0, saved: None }
    }

    /// A new adapter, which has been checked against the model.
    pub fn fresh(settings: AdapterSettings, config: &Config) -> Self {
        let (modules, shape) = (settings.adapted(config), settings.shape());
        let values = modules.iter().map(|(path, [outputs, inputs])| {
            let factors = (shape.rank(path) as u64).saturating_mul((outputs + inputs) as u64);
            // DoRA has a length for each row, of an embedding for each column.
            let lengths = if is_embedding(path) { inputs } else { outputs };
            factors.saturating_add(if settings.dora { *lengths as u64 } else { 0 })
        });
        Self {
            parameters: values.fold(0, u64::saturating_add),
            modules,
            dora: settings.dora,
            dropout: settings.dropout,
            start: Origin::Fresh(settings),
            saved: None,
        }
    }

    fn continued(adapter: Adapter, name: &str, dropout: f64, config: &Config) -> Result<Self, Faults> {
        let modules = fitting_modules(&adapter, config)?;
        let tensors = modules.iter().flat_map(|module| [Some(module.a), Some(module.b), module.magnitude]);
        let parameters = tensors.flatten().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
        let sides = modules.iter().map(|module| (module.path.to_owned(), [module.out_features, module.in_features]));
        let modules = sides.collect();
        let (dora, remarks) = (adapter.config.use_dora, remarks(&adapter, config)?);
        let start = Origin::Continued { adapter: Box::new(adapter), name: name.to_owned(), remarks };
        Ok(Self { start, modules, parameters, dora, dropout, saved: None })
    }

    /// True where every weight of the model is trained.
    pub fn is_full(&self) -> bool {
        matches!(self.start, Origin::Model)
    }

    /// True where A and B start from the largest singular values (PiSSA).
    pub fn is_pissa(&self) -> bool {
        matches!(&self.start, Origin::Fresh(settings) if settings.pissa)
    }

    /// True where the module at `path` has an adapter.
    pub fn adapts(&self, path: &str) -> bool {
        self.modules.iter().any(|(adapted, _)| adapted == path)
    }

    /// Ranks and scales of an adapter's modules.
    fn shape(&self) -> Option<AdapterConfig> {
        match &self.start {
            Origin::Model => None,
            Origin::Fresh(settings) => Some(settings.shape()),
            Origin::Continued { adapter, .. } => Some(adapter.config.clone()),
        }
    }

    /// `adapter_config.json` of an adapter on a base named `base`, whose trained modules are called `modules`.
    pub(super) fn config(&self, base: String, modules: Vec<String>) -> Option<AdapterConfig> {
        match &self.start {
            Origin::Model => None,
            Origin::Fresh(settings) => Some(settings.to_config(&base, modules)),
            Origin::Continued { adapter, .. } => Some(AdapterConfig {
                base_model_name_or_path: Some(base),
                lora_dropout: self.dropout,
                target_modules: TargetModules::Names(modules),
                ..adapter.config.clone()
            }),
        }
    }

    /// Settings that are allowed and may not be meant: a rank that no adapted matrix can have, which PEFT takes as well; no
    /// dropout on an adapter that was trained with some, which PEFT would go on with.
    pub(super) fn warnings(&self, recipe: &Recipe, config: &Config) -> Vec<String> {
        match &self.start {
            Origin::Model => Vec::new(),
            Origin::Fresh(settings) => {
                let wasted = wasted_rank(settings, config, "adapter.rank");
                wasted.into_iter().map(|fault| fault.at(recipe.places.of("adapter.rank")).line()).collect()
            }
            Origin::Continued { adapter, remarks, .. } => {
                let mut warnings = remarks.clone();
                let (before, now) = (adapter.config.lora_dropout, self.dropout);
                if before != now && !recipe.places.has("adapter.dropout") {
                    let message = format!("the adapter was trained with dropout {before}, and this run has {now}");
                    let hint = format!("write `adapter.dropout = {before}` to go on as it was");
                    let place = recipe.places.of("adapter.init_from");
                    warnings.push(Fault::new(message).at(place).hint(hint).line());
                }
                warnings
            }
        }
    }
}

fn kind(dora: bool) -> &'static str {
    if dora { "dora" } else { "lora" }
}

/// An adapter as the plan shows it.
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
        let adaptation = &self.adaptation;
        let shape = adaptation.shape()?;
        let paths = || adaptation.modules.iter().map(|(path, _)| path);
        let ranks: BTreeSet<usize> = paths().map(|path| shape.rank(path)).collect();
        let mut scales: Vec<f64> = paths().map(|path| shape.scale(path)).collect();
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        let names: BTreeSet<&str> = paths().filter_map(|path| path.rsplit('.').next()).collect();
        Some(Adapted {
            kind: kind(adaptation.dora),
            ranks: ranks.into_iter().collect(),
            scales,
            dropout: adaptation.dropout,
            matrices: adaptation.modules.len(),
            names: names.into_iter().map(str::to_owned).collect(),
            start: match &adaptation.start {
                Origin::Continued { name, .. } => Some(name.clone()),
                _ => adaptation.is_pissa().then(|| "pissa".to_owned()),
            },
        })
    }
}
