//! `[adapter]`: what is trained.

use backbone::{AdapterSettings, Targets};
use faults::{FromToml, Section};

use super::{Backbone, Model};

/// `[adapter]`.
#[derive(Debug, Clone, PartialEq)]
pub enum Adapter {
    /// `kind = "none"`: every weight of the model is trained.
    None,
    /// `kind = "lora"` or `"dora"`: `W + scale * B A` in place of frozen weights.
    Lora(Lora),
}

impl Adapter {
    /// The learning rate of every `B` as a multiple of that of all else, if it differs (LoRA+).
    pub fn lora_plus_ratio(&self) -> Option<f64> {
        match self {
            Self::Lora(lora) => lora.lora_plus_ratio,
            Self::None => None,
        }
    }
}

/// A LoRA or DoRA adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Lora {
    /// `kind = "dora"`: the rows of the adapted matrices have trained lengths.
    pub dora: bool,
    /// Its shape, or the adapter it goes on from.
    pub start: Start,
    /// Probability that an input of `A` is dropped in training.
    pub dropout: f64,
    /// The learning rate of every `B` as a multiple of that of all else (LoRA+).
    pub lora_plus_ratio: Option<f64>,
}

/// Where an adapter starts.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    /// A new adapter.
    Fresh(AdapterSettings),
    /// `init_from`: the PEFT adapter in this directory, which brings its own rank, alpha, targets and scale.
    From(String),
}

/// Above the width of any model: what is more is a slip of the hand.
const LARGEST_RANK: usize = 1 << 16;

/// A product of the factors times this is far from any weight.
const LARGEST_ALPHA: f64 = 1e6;

/// What describes a new adapter, and so is void for one that exists.
const SHAPE: [&str; 9] =
    ["rank", "alpha", "targets", "exclude", "layers", "rslora", "init", "rank_pattern", "alpha_pattern"];

/// The values of `adapter.kind`.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lora,
    Dora,
    None,
}

pub(super) fn read(section: &mut Section, model: &Model) -> Adapter {
    let kind = section.choice("kind", &[("lora", Kind::Lora), ("dora", Kind::Dora), ("none", Kind::None)], "lora");
    if kind == Kind::None {
        let keys: Vec<&str> = SHAPE.into_iter().chain(["dropout", "init_from", "lora_plus_ratio"]).collect();
        void(section, &keys, "with `adapter.kind = \"none\"`", "or write `kind = \"lora\"`");
        let hint = "remove `model.quantize`, or train an adapter beside the frozen weights";
        let message = "`adapter.kind = \"none\"` trains every weight, and quantised ones cannot be trained";
        section.check("kind", model.quantise.is_none(), message, hint);
        return Adapter::None;
    }
    let saved = !matches!(model.backbone, Backbone::Init(_));
    let message = "an adapter on `[model.init]` is of no use after the run: its base is not saved";
    section.warn("kind", saved, message, "train a base with `adapter.kind = \"none\"` first, then adapt that");
    let mut start = match section.optional::<String>("init_from") {
        Some(directory) => {
            let why = "the adapter there brings its own";
            void(section, &SHAPE, "with `adapter.init_from`", why);
            Start::From(directory)
        }
        None => Start::Fresh(fresh(section)),
    };
    let dropout = section.value("dropout", 0.0);
    let possible = (0.0..1.0).contains(&dropout) && (dropout as f32) < 1.0;
    section.check(
        "dropout",
        possible,
        format!("`adapter.dropout` cannot be {dropout}"),
        "from 0 to below 1, as f32 has it; 0.05 to 0.1 is usual",
    );
    let lora_plus_ratio = section.optional("lora_plus_ratio");
    if let Some(ratio) = lora_plus_ratio {
        let usable = f64::is_finite(ratio) && ratio > 0.0 && ratio != 1.0;
        let hint = "above 0, 16 is the paper's; leave it out for the same rate everywhere";
        section.check("lora_plus_ratio", usable, format!("`adapter.lora_plus_ratio` cannot be {ratio}"), hint);
        section.check_single("lora_plus_ratio", ratio, hint);
    }
    let dora = kind == Kind::Dora;
    if let Start::Fresh(settings) = &mut start {
        (settings.dora, settings.dropout) = (dora, dropout);
    }
    Adapter::Lora(Lora { dora, start, dropout, lora_plus_ratio })
}

/// Without what an adapter that goes on can have, too.
fn fresh(section: &mut Section) -> AdapterSettings {
    let rank = section.value("rank", 16);
    check_rank(section, "rank", rank);
    let alpha = section.value("alpha", 32.0);
    check_alpha(section, "alpha", alpha);
    let targets = section.value("targets", Targets::AllLinear);
    if let Targets::Named(names) = &targets {
        let usable = !names.is_empty() && names.iter().all(|name| !name.is_empty());
        let hint = "write \"all-linear\", or names such as [\"q_proj\", \"v_proj\"]";
        section.check("targets", usable, "`adapter.targets` names no module", hint);
    }
    let exclude = section.value("exclude", Vec::<String>::new());
    let hint = "write the ends of paths, such as [\"down_proj\", \"layers.0.mlp.up_proj\"]";
    section.check("exclude", exclude.iter().all(|name| !name.is_empty()), "`adapter.exclude` has an empty name", hint);
    let layers = section.optional::<Vec<i64>>("layers");
    let none = layers.as_ref().is_some_and(Vec::is_empty);
    section.check("layers", !none, "`adapter.layers` names no block", "leave it out for all of them");
    let rslora = section.value("rslora", false);
    let rank_pattern = patterns(section, "rank_pattern", check_rank);
    let alpha_pattern = patterns(section, "alpha_pattern", check_alpha);
    let pissa = section.choice("init", &[("default", false), ("pissa", true)], "default");
    AdapterSettings {
        targets,
        exclude,
        layers,
        rslora,
        rank_pattern,
        alpha_pattern,
        pissa,
        ..AdapterSettings::new(rank, alpha)
    }
}

fn check_rank(section: &Section, key: &str, rank: usize) {
    let message = format!("`{}` cannot be {rank}", section.full(key));
    let usable = (1..=LARGEST_RANK).contains(&rank);
    section.check(key, usable, message, format!("from 1 to {LARGEST_RANK}; 8 to 64 is usual"));
}

fn check_alpha(section: &Section, key: &str, alpha: f64) {
    let usable = alpha > 0.0 && alpha <= LARGEST_ALPHA;
    let hint = "above 0, up to 1e6; twice the rank is usual";
    let shown = if alpha > LARGEST_ALPHA { format!("{alpha:e}") } else { alpha.to_string() };
    section.check(key, usable, format!("`{}` cannot be {shown}", section.full(key)), hint);
    if usable {
        section.check_single(key, alpha, hint);
    }
}

/// The table of `pattern = number` under `key`, in the order written.
fn patterns<T: FromToml + Copy>(section: &mut Section, key: &str, check: fn(&Section, &str, T)) -> Vec<(String, T)> {
    let mut table = section.section(key);
    table.any_name::<T>();
    let mut numbers = Vec::new();
    for pattern in table.keys() {
        if table.is_table(&pattern) {
            let message = format!("`{}` is a table, expected a number", table.full(&pattern));
            table.skip(&pattern);
            table.reject(&pattern, message, "a name with dots needs quotes: `\"layers.0.mlp.up_proj\" = 8`");
            continue;
        }
        if let Some(number) = table.optional::<T>(&pattern) {
            check(&table, &pattern, number);
            numbers.push((pattern, number));
        }
    }
    section.close(table);
    numbers
}

/// Files one fault for all of `keys` that are written: one setting has made them void.
fn void(section: &mut Section, keys: &[&str], when: &str, why: &str) {
    for key in keys {
        section.skip(key);
    }
    let written: Vec<&str> = keys.iter().copied().filter(|key| section.has(key)).collect();
    let Some((first, others)) = written.split_first() else { return };
    let names: Vec<String> = written.iter().map(|key| format!("`adapter.{key}`")).collect();
    let (has, remove) = if others.is_empty() { ("has", "remove it") } else { ("have", "remove them") };
    section.reject(first, format!("{} {has} no effect {when}", names.join(", ")), format!("{remove}, {why}"));
}
