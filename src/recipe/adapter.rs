//! `[adapter]`: what is trained.

use faults::{FromToml, Section};

use super::{Model, positive};

/// `[adapter]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Adapter {
    /// `kind = "none"`: every weight of the model is trained.
    None,
    /// `kind = "lora"`: `W + scale * B A` beside frozen weights.
    Lora(Lora),
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// Its shape, or the adapter it goes on from.
    pub start: Start,
    /// Probability that an input of `A` is dropped in training.
    pub dropout: f64,
}

/// Where an adapter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// A new adapter: `A` random, `B` zero.
    Fresh {
        rank: usize,
        /// `scale = alpha / rank`, or `alpha / sqrt(rank)` with `rslora`.
        alpha: f64,
        targets: Targets,
        rslora: bool,
    },
    /// `init_from`: the PEFT adapter in this directory, which brings its own rank, alpha, targets and scale.
    From(String),
}

/// The linear layers that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// `"all-linear"`: every linear layer of every block, not the head.
    AllLinear,
    /// The layers whose name ends in one of these, such as `q_proj`.
    Names(Vec<String>),
}

impl FromToml for Targets {
    const EXPECTED: &'static str = "\"all-linear\" or a list of module names";

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value.as_str() {
            Some("all-linear") => Some(Targets::AllLinear),
            Some(_) => None,
            None => Vec::from_toml(value).map(Targets::Names),
        }
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Targets::AllLinear => toml::Value::String("all-linear".into()),
            Targets::Names(names) => names.to_toml(),
        }
    }
}

/// What describes a new adapter, and so is void for one that exists.
const SHAPE: [&str; 5] = ["rank", "alpha", "targets", "rslora", "init"];

pub(super) fn read(section: &mut Section, model: &Model) -> Adapter {
    if !section.choice("kind", &[("lora", true), ("none", false)], "lora") {
        let hint = "remove it, or write `kind = \"lora\"`";
        void(section, &SHAPE, "with `adapter.kind = \"none\"`", hint);
        void(section, &["dropout", "init_from"], "with `adapter.kind = \"none\"`", hint);
        let hint = "remove `model.quantize`, or train an adapter beside the frozen weights";
        let message = "`adapter.kind = \"none\"` trains every weight, and quantised ones cannot be trained";
        section.check("kind", model.quantise.is_none(), message, hint);
        return Adapter::None;
    }
    let start = match section.optional::<String>("init_from") {
        Some(directory) => {
            void(section, &SHAPE, "with `adapter.init_from`", "remove it: the adapter there brings its own");
            Start::From(directory)
        }
        None => fresh(section),
    };
    let dropout = section.value("dropout", 0.0);
    let possible = (0.0..1.0).contains(&dropout);
    section.check("dropout", possible, format!("`adapter.dropout` cannot be {dropout}"), "from 0 to below 1");
    Adapter::Lora(Lora { start, dropout })
}

fn fresh(section: &mut Section) -> Start {
    let rank = positive(section, "rank", 16);
    let alpha = section.value("alpha", 32.0);
    let usable = alpha.is_finite() && alpha > 0.0;
    section.check("alpha", usable, format!("`adapter.alpha` cannot be {alpha}"), "above 0; twice the rank is usual");
    let targets = section.value("targets", Targets::AllLinear);
    if let Targets::Names(names) = &targets {
        let usable = !names.is_empty() && names.iter().all(|name| !name.is_empty());
        let hint = "write \"all-linear\", or names such as [\"q_proj\", \"v_proj\"]";
        section.check("targets", usable, "`adapter.targets` names no module", hint);
    }
    let rslora = section.value("rslora", false);
    section.choice("init", &[("default", ())], "default");
    Start::Fresh { rank, alpha, targets, rslora }
}

fn void(section: &mut Section, keys: &[&str], when: &str, hint: &str) {
    for key in keys {
        section.skip(key);
        section.check(key, !section.has(key), format!("`adapter.{key}` has no effect {when}"), hint);
    }
}
