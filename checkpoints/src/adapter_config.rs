//! `adapter_config.json`, as PEFT reads and writes it.
//!
//! PEFT has some sixty keys. Those that decide what the adapter computes and that we do not implement are refused by
//! name when they are set: an adapter read as something else than it is would be worse than none.

use faults::{Fault, json as python, shortened};
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::pattern::{first, of_end};

/// Which modules an adapter is on, in either of PEFT's forms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// Names: a module is meant when its path is one of them or ends with a dot and one of them.
    Names(Vec<String>),
    /// A regular expression for whole module paths, or the word `all-linear`.
    Pattern(String),
}

/// As PEFT matches a list of target modules: the whole path, or its end after a dot.
pub fn matches_module(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

/// What `adapter_config.json` says about an adapter.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct AdapterConfig {
    /// The model the adapter was trained on: a name on the hub or a path.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// The revision of that model.
    #[serde(default)]
    pub revision: Option<String>,
    /// The rank of every module that `rank_pattern` does not name.
    pub r: usize,
    /// The numerator of the scale of every module that `alpha_pattern` does not name.
    pub lora_alpha: f64,
    /// The dropout on the adapter's input while training.
    #[serde(default)]
    pub lora_dropout: f64,
    /// The adapted modules; [`crate::Adapter::read`] fills it in when the file leaves it open.
    #[serde(default = "no_targets", deserialize_with = "targets")]
    pub target_modules: TargetModules,
    /// Modules that are left as they are although they are among those.
    #[serde(default)]
    pub exclude_modules: Option<TargetModules>,
    /// True when the scale is alpha / sqrt(rank) in place of alpha / rank.
    #[serde(default)]
    pub use_rslora: bool,
    /// True when each module has a magnitude vector (DoRA).
    #[serde(default)]
    pub use_dora: bool,
    /// Ranks of single modules by a regular expression for the end of their paths; the first match counts.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub rank_pattern: IndexMap<String, usize>,
    /// Alphas of single modules by a regular expression for the end of their paths; the first match counts.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub alpha_pattern: IndexMap<String, f64>,
}

fn no_targets() -> TargetModules {
    TargetModules::Names(Vec::new())
}

fn targets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TargetModules, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(no_targets))
}

fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<IndexMap<String, T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Keys that change what the adapter computes, with the hint for each.
const REFUSED: &[(&str, &str)] = &[
    ("modules_to_save", "these modules are trained in full beside the adapter; merge with PEFT instead"),
    ("trainable_token_indices", "merge with PEFT instead"),
    ("target_parameters", "only linear modules can be adapted"),
    ("layer_replication", "the adapter belongs to a model whose layers are repeated"),
    ("lora_bias", "only factors without a bias can be read; PEFT cannot merge it onto a layer without one either"),
    ("fan_in_fan_out", "the weights of this adapter's base are transposed, as in GPT-2"),
    ("use_qalora", "merge with PEFT instead"),
    ("alora_invocation_tokens", "an adapter that is active for some tokens only cannot be read"),
    ("use_bdlora", "merge with PEFT instead"),
    ("arrow_config", "merge with PEFT instead"),
    ("kasa_config", "merge with PEFT instead"),
    ("monteclora_config", "merge with PEFT instead"),
    ("megatron_config", "merge with PEFT instead"),
];

/// Ways to start an adapter that leave the base as it was.
const HARMLESS_STARTS: &[&str] = &["gaussian", "eva", "orthogonal"];

/// Ways that change the base's weights too, and that PEFT can turn into plain LoRA (`subtract_mutated_init`).
const CONVERTIBLE_STARTS: &[&str] = &["pissa", "corda", "olora", "lora_ga"];

/// Tasks whose models have a head that is trained and is not that of a language model.
const OTHER_TASKS: &[&str] = &["SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS"];

/// Keys of PEFT that say how the adapter was trained or where it sits, not what it computes.
const NO_EFFECT: &[&str] = &[
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "task_type",
    "velora_config",
];

/// Keys that decide here what an adapter is, beside those that are refused.
const DECISIVE: &[&str] = &[
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(values) => !values.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        _ => true,
    }
}

impl AdapterConfig {
    /// A configuration with PEFT's defaults for all that is not named here.
    pub fn new(r: usize, lora_alpha: f64, target_modules: Vec<String>) -> Self {
        Self {
            base_model_name_or_path: None,
            revision: None,
            r,
            lora_alpha,
            lora_dropout: 0.0,
            target_modules: TargetModules::Names(target_modules),
            exclude_modules: None,
            use_rslora: false,
            use_dora: false,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
        }
    }

    /// Reads the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// Every key that is refused, a key of the wrong type, a rank of zero, an alpha that scales by nothing, by
    /// infinity or turns the sign. The faults have no place yet.
    pub fn from_json(text: &[u8]) -> Result<Self, Vec<Fault>> {
        Self::with_keys(text).map(|(config, _)| config)
    }

    /// The same, and every key of the file.
    pub(crate) fn with_keys(text: &[u8]) -> Result<(Self, Map<String, Value>), Vec<Fault>> {
        let read =
            python::read_object_of(text).map_err(|error| vec![Fault::new(format!("not a JSON object: {error}"))])?;
        read.refuse_odd(|key| DECISIVE.contains(&key) || REFUSED.iter().any(|(name, _)| *name == key))
            .map_err(|fault| vec![fault.hint("write what the adapter was trained with")])?;
        let keys = read.value;
        let mut faults = Vec::new();
        match keys.get("peft_type") {
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(kind) => {
                faults.push(Fault::new(format!("`peft_type` is {kind}, expected \"LORA\"")).hint(
                    "adapters of other kinds are not supported: merge it with PEFT and take the result as a model",
                ))
            }
            None => faults.push(Fault::new("`peft_type` is missing").hint("is this a PEFT adapter?")),
        }
        match keys.get("bias") {
            None | Some(Value::Null) => {}
            Some(Value::String(bias)) if bias == "none" => {}
            Some(bias) => {
                faults.push(Fault::new(format!("`bias` is {bias}, expected \"none\"")).hint("merge with PEFT instead"));
            }
        }
        if let Some(task) = keys.get("task_type").and_then(Value::as_str).filter(|task| OTHER_TASKS.contains(task)) {
            let message = format!("`task_type` is \"{task}\", expected \"CAUSAL_LM\"");
            let hint = "only adapters of language models can be read: this one's model has another head";
            faults.push(Fault::new(message).hint(hint));
            return Err(faults);
        }
        for (key, hint) in REFUSED {
            if let Some(value) = keys.get(*key).filter(|value| is_set(value)) {
                let value = shortened(&value.to_string());
                faults.push(Fault::new(format!("`{key}` is set to {value}, which is not supported")).hint(*hint));
            }
        }
        faults.extend(keys.get("init_lora_weights").and_then(Value::as_str).and_then(other_base));
        let written = Self::new(1, 1.0, Vec::new()).to_json();
        for (key, value) in &keys {
            let known = written.get(key).is_some()
                || NO_EFFECT.contains(&key.as_str())
                || REFUSED.iter().any(|(name, _)| name == key);
            if !known && is_set(value) {
                tracing::warn!("`adapter_config.json` has an unknown key, which is ignored: `{key}` = {value}");
            }
        }
        let wrong = wrong_numbers(&keys);
        if !wrong.is_empty() {
            faults.extend(wrong);
            return Err(faults);
        }
        let config = match serde_json::from_value::<Self>(Value::Object(keys.clone())) {
            Ok(config) => config,
            Err(error) => {
                let hint =
                    "`r` is a whole number, `lora_alpha` a number; the patterns are objects of module and number";
                faults.push(Fault::new(format!("cannot read the configuration: {error}")).hint(hint));
                return Err(faults);
            }
        };
        if config.r == 0 || config.rank_pattern.values().any(|rank| *rank == 0) {
            let key = if config.r == 0 { "r" } else { "rank_pattern" };
            let hint = "write the rank that the tensors have: the rows of `lora_A`";
            faults.push(Fault::new(format!("a rank of `{key}` is 0, expected at least 1")).hint(hint));
        }
        // What it scales is computed with as f32.
        let usable = |alpha: f64| alpha > 0.0 && (alpha as f32).is_normal();
        let of_pattern =
            config.alpha_pattern.iter().map(|(pattern, alpha)| (format!("`alpha_pattern` of {pattern:?}"), *alpha));
        for (name, alpha) in [("`lora_alpha`".to_owned(), config.lora_alpha)].into_iter().chain(of_pattern) {
            if !usable(alpha) {
                let hint = "write the alpha that the adapter was trained with";
                let message = format!("{name} is {alpha:e}, expected a number above 0 that f32 can hold");
                faults.push(Fault::new(message).hint(hint));
            }
        }
        if faults.is_empty() { Ok((config, keys)) } else { Err(faults) }
    }

    /// The factor of B A in a module: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    ///
    /// A pattern that cannot be read matches nothing.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = matching(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        let rank = self.rank(module) as f64;
        if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }

    /// The rank of a module.
    pub fn rank(&self, module: &str) -> usize {
        matching(&self.rank_pattern, module).unwrap_or(self.r)
    }

    /// The same for modules that have other paths now: each of `paths` with its present one.
    pub(crate) fn renamed(&self, paths: &[(String, String)]) -> Self {
        fn decided<T: Copy>(patterns: &IndexMap<String, T>, paths: &[(String, String)]) -> IndexMap<String, T> {
            let one = |(path, present): &(String, String)| Some((regex::escape(present), matching(patterns, path)?));
            paths.iter().filter_map(one).collect()
        }
        Self {
            target_modules: TargetModules::Names(paths.iter().map(|(_, present)| present.clone()).collect()),
            exclude_modules: None,
            rank_pattern: decided(&self.rank_pattern, paths),
            alpha_pattern: decided(&self.alpha_pattern, paths),
            ..self.clone()
        }
    }

    /// A fault for each pattern that is no regular expression, with its table and the pattern.
    pub fn broken_patterns(&self) -> Vec<(&'static str, &str, Fault)> {
        let ranks = self.rank_pattern.keys().map(|pattern| ("rank_pattern", pattern.as_str()));
        let alphas = self.alpha_pattern.keys().map(|pattern| ("alpha_pattern", pattern.as_str()));
        let broken = ranks.chain(alphas).filter_map(|(table, pattern)| Some((table, pattern, of_end(pattern).err()?)));
        broken
            .map(|(table, pattern, reason)| {
                let message = format!("cannot read the pattern {pattern:?}: {reason}");
                let hint =
                    "a pattern is a regular expression for the end of a module's path, such as `layers.0.mlp.up_proj`; in \
                     place of look-around and `\\Z`, write the modules that are meant";
                (table, pattern, Fault::new(message).hint(hint))
            })
            .collect()
    }

    /// The patterns that decide about none of `modules`, each with its table: nothing matches them, or an earlier one always
    /// matches first.
    pub fn idle_patterns<'a>(&'a self, modules: &[&str]) -> Vec<(&'static str, &'a str)> {
        fn idle<'a, T>(patterns: &'a IndexMap<String, T>, modules: &[&str]) -> impl Iterator<Item = &'a str> {
            let deciding: Vec<_> = modules.iter().filter_map(|module| first(patterns, module)).collect();
            let names = patterns.keys().enumerate().filter(move |(index, _)| !deciding.contains(index));
            names.map(|(_, name)| name.as_str())
        }
        let ranks = idle(&self.rank_pattern, modules).map(|pattern| ("rank_pattern", pattern));
        ranks.chain(idle(&self.alpha_pattern, modules).map(|pattern| ("alpha_pattern", pattern))).collect()
    }

    /// The content of `adapter_config.json`: every key PEFT, vLLM and llama.cpp look for.
    pub fn to_json(&self) -> Value {
        let alphas: Map<String, Value> =
            self.alpha_pattern.iter().map(|(pattern, alpha)| (pattern.clone(), number(*alpha))).collect();
        let mut keys = json!({
            "alpha_pattern": alphas,
            "auto_mapping": null,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": null,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "modules_to_save": null,
            "peft_type": "LORA",
            "r": self.r,
            "rank_pattern": self.rank_pattern,
            "revision": self.revision,
            "target_modules": self.target_modules,
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        });
        // Only where it says something: older versions of PEFT refuse keys that they do not know.
        if let Some(modules) = &self.exclude_modules {
            keys["exclude_modules"] = json!(modules);
        }
        keys
    }
}

/// A fault for an adapter that began in a way that changed its base.
fn other_base(start: &str) -> Option<Fault> {
    let start = start.to_lowercase();
    if HARMLESS_STARTS.contains(&start.as_str()) {
        return None;
    }
    let hint = if CONVERTIBLE_STARTS.iter().any(|name| start.starts_with(name)) {
        "save it with PEFT's `path_initial_model_for_weight_conversion`, which makes it plain LoRA and needs the adapter \
         as it was before training"
    } else if start == "loftq" {
        "it belongs to the base that LoftQ has written beside it: merge it onto that one with PEFT"
    } else {
        "if it has left the base's weights as they were, write `true` there"
    };
    Some(Fault::new(format!("`init_lora_weights` is \"{start}\": the adapter may fit a changed base only")).hint(hint))
}

/// Ranks and alphas that are none, each by its key.
fn wrong_numbers(keys: &Map<String, Value>) -> Vec<Fault> {
    type Numbers = (&'static str, &'static str, &'static str, fn(&Value) -> bool);
    let kinds: [Numbers; 2] = [
        ("r", "rank_pattern", "a whole number", |value| {
            value.as_u64().is_some_and(|rank| usize::try_from(rank).is_ok())
        }),
        ("lora_alpha", "alpha_pattern", "a number", Value::is_number),
    ];
    let mut faults = Vec::new();
    let mut wrong = |name: String, value: &Value, expected: &str| {
        let hint = "write the number that the adapter was trained with";
        let value = shortened(&value.to_string());
        faults.push(Fault::new(format!("{name} is {value}, expected {expected}")).hint(hint));
    };
    for (single, pattern, expected, fits) in kinds {
        if let Some(value) = keys.get(single).filter(|value| !fits(value)) {
            wrong(format!("`{single}`"), value, expected);
        }
        match keys.get(pattern) {
            None | Some(Value::Null) => {}
            Some(Value::Object(entries)) => {
                for (module, value) in entries.iter().filter(|(_, value)| !fits(value)) {
                    wrong(format!("`{pattern}` of {module:?}"), value, expected);
                }
            }
            Some(other) => wrong(format!("`{pattern}`"), other, "an object of modules and their numbers"),
        }
    }
    faults
}

fn matching<T: Copy>(patterns: &IndexMap<String, T>, module: &str) -> Option<T> {
    first(patterns, module).map(|index| patterns[index])
}

/// A whole number without a fraction: readers of PEFT's files expect an integer alpha.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 2f64.powi(53) { json!(value as i64) } else { json!(value) }
}

#[cfg(test)]
mod tests;
