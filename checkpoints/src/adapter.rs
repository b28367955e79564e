//! A LoRA adapter in the format PEFT writes: `adapter_model.safetensors` beside `adapter_config.json`.
//!
//! The danger is an adapter that loads and does nothing because its keys match nothing. So every key must be understood,
//! both halves of a module must be there, and their shapes must fit each other and the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use faults::{Fault, Faults, Place};
use regex::Regex;

use crate::adapter_config::{AdapterConfig, TargetModules};
use crate::files;
use crate::tensor::{StoredTensor, float_size};
use crate::weights::{Weights, read_all, write_tensors};

/// The file of an adapter's tensors.
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
/// The file of an adapter's configuration.
pub(crate) const CONFIG: &str = "adapter_config.json";

/// What PEFT puts before a module's path in the base model.
const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";
const MAGNITUDE: &str = ".lora_magnitude_vector";

/// An adapter: its configuration, and its tensors under PEFT's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// What `adapter_config.json` says.
    pub config: AdapterConfig,
    /// The tensors, such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub tensors: BTreeMap<String, StoredTensor>,
}

/// One adapted linear module: W becomes W + scale * B A.
#[derive(Debug, Clone)]
pub struct Module<'a> {
    /// The module's path in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    /// A, `[rank, in_features]`.
    pub a: &'a StoredTensor,
    /// B, `[out_features, rank]`.
    pub b: &'a StoredTensor,
    /// DoRA's row norms, `[out_features]`.
    pub magnitude: Option<&'a StoredTensor>,
    /// The rank of this module.
    pub rank: usize,
    /// The length of the module's input.
    pub in_features: usize,
    /// The length of the module's output.
    pub out_features: usize,
    /// alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    pub scale: f64,
}

/// What is known of a module while its tensors are gathered.
#[derive(Default)]
struct Parts<'a> {
    a: Option<&'a StoredTensor>,
    b: Option<&'a StoredTensor>,
    magnitude: Option<&'a StoredTensor>,
}

/// PEFT refuses such an adapter at a merge; nothing good comes of sampling from one either.
fn refuse_not_finite(tensors: &BTreeMap<String, StoredTensor>) -> Result<(), Fault> {
    let mut bad = Vec::new();
    for (name, tensor) in tensors {
        if float_size(tensor.dtype).is_some() && !tensor.to_f32()?.iter().all(|value| value.is_finite()) {
            bad.push(name);
        }
    }
    let Some(first) = bad.first() else { return Ok(()) };
    let message =
        format!("{} of the adapter's {} tensors hold NaN or infinity, the first `{first}`", bad.len(), tensors.len());
    Err(Fault::new(message)
        .hint("its training diverged: take an earlier checkpoint, or train with a lower learning rate"))
}

impl Adapter {
    /// PEFT's name for the matrix A of a module.
    pub fn key_a(module: &str) -> String {
        format!("{PREFIX}{module}{A}")
    }

    /// PEFT's name for the matrix B of a module.
    pub fn key_b(module: &str) -> String {
        format!("{PREFIX}{module}{B}")
    }

    /// PEFT's name for the magnitudes of a module (DoRA).
    pub fn key_magnitude(module: &str) -> String {
        format!("{PREFIX}{module}{MAGNITUDE}")
    }

    /// Reads an adapter's folder.
    ///
    /// # Errors
    /// Everything in its configuration that is not supported, or everything wrong with its tensors.
    pub fn read(folder: &Path) -> Result<Self, Faults> {
        let adapter = Self::read_unchecked(folder)?;
        refuse_not_finite(&adapter.tensors).map_err(|fault| fault.at(Place::file(folder.join(TENSORS))))?;
        Ok(adapter)
    }

    /// The same for one that is to be looked at and not used: values that are not finite are no fault.
    ///
    /// # Errors
    /// As [`Adapter::read`].
    pub fn read_unchecked(folder: &Path) -> Result<Self, Faults> {
        let config_path = folder.join(CONFIG);
        let tensors_path = folder.join(TENSORS);
        if !config_path.is_file() {
            let fault = Fault::new(format!("no adapter here: there is no `{CONFIG}`")).at(Place::file(folder));
            return Err(fault.hint("give the folder that PEFT or `trainer` wrote").into());
        }
        if !tensors_path.is_file() {
            let fault = Fault::new(format!("the adapter has no `{TENSORS}`")).at(Place::file(folder));
            return Err(if folder.join("adapter_model.bin").exists() {
                fault.hint("it is in PyTorch's own format; load and save it with PEFT to get safetensors").into()
            } else {
                fault.into()
            });
        }
        let mut config = AdapterConfig::from_json(&files::read(&config_path)?).map_err(|faults| {
            let placed = faults.into_iter().map(|fault| fault.at(Place::file(&config_path))).collect();
            Faults::check(placed).expect_err("a refused configuration has faults")
        })?;
        let weights = Weights::open_file(&tensors_path)?;
        let tensors = read_all(&weights)?;
        let narrowed = narrows(&files::read(&config_path)?);
        let paths: BTreeSet<&str> = tensors.keys().filter_map(|key| split(key)).map(|(path, _)| path).collect();
        if narrowed {
            // Other keys pick some of the target modules; whole paths say the same without them.
            config.target_modules = TargetModules::Names(paths.iter().map(|path| path.to_string()).collect());
        } else if config.target_modules == TargetModules::Names(Vec::new()) {
            let names: BTreeSet<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
            config.target_modules = TargetModules::Names(names.into_iter().map(str::to_owned).collect());
        }
        let adapter = Self { config, tensors };
        let at_file = |fault: Fault| if fault.place.is_none() { fault.at(Place::file(&tensors_path)) } else { fault };
        match adapter.modules() {
            Ok(_) => Ok(adapter),
            Err(faults) => Err(Faults::check(faults.into_list().into_iter().map(at_file).collect())
                .expect_err("a broken adapter has faults")),
        }
    }

    /// The adapted modules, sorted by path.
    ///
    /// # Errors
    /// No module at all, keys that are not understood, a module with one half missing, shapes that do not fit each other
    /// or the rank in the configuration, a pattern that is no regular expression.
    pub fn modules(&self) -> Result<Vec<Module<'_>>, Faults> {
        let mut faults = Vec::new();
        for pattern in self.config.rank_pattern.keys().chain(self.config.alpha_pattern.keys()) {
            if let Err(error) = expression(pattern) {
                faults.push(Fault::new(format!("cannot read the pattern {pattern:?}: {error}")));
            }
        }
        let mut parts: BTreeMap<&str, Parts<'_>> = BTreeMap::new();
        for (key, tensor) in &self.tensors {
            let Some((path, part)) = split(key) else {
                faults.push(unknown_key(key));
                continue;
            };
            let parts = parts.entry(path).or_default();
            match part {
                A => parts.a = Some(tensor),
                B => parts.b = Some(tensor),
                _ => parts.magnitude = Some(tensor),
            }
        }
        if parts.is_empty() && faults.is_empty() {
            faults.push(Fault::new("the adapter has no tensors"));
        }
        let mut modules = Vec::with_capacity(parts.len());
        for (path, parts) in parts {
            match self.module(path, &parts) {
                Ok(module) => modules.push(module),
                Err(fault) => faults.push(fault),
            }
        }
        Faults::check(faults)?;
        Ok(modules)
    }

    /// The factor of B A in a module: alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    ///
    /// The patterns are those that [`Adapter::modules`] has found to be readable; another matches nothing.
    pub fn scale(&self, module: &str) -> f64 {
        let alpha = matching(&self.config.alpha_pattern, module).unwrap_or(self.config.lora_alpha);
        let rank = self.rank(module) as f64;
        if self.config.use_rslora { alpha / rank.sqrt() } else { alpha / rank }
    }

    /// The rank of a module.
    pub fn rank(&self, module: &str) -> usize {
        matching(&self.config.rank_pattern, module).unwrap_or(self.config.r)
    }

    fn module<'a>(&self, path: &'a str, parts: &Parts<'a>) -> Result<Module<'a>, Fault> {
        let missing = |part: &str| Fault::new(format!("module `{path}` has no `{}`", part.trim_start_matches('.')));
        let a = parts.a.ok_or_else(|| missing(A))?;
        let b = parts.b.ok_or_else(|| missing(B))?;
        for (part, tensor) in [(A, Some(a)), (B, Some(b)), (MAGNITUDE, parts.magnitude)] {
            let part = part.trim_start_matches('.');
            if let Some(tensor) = tensor
                && float_size(tensor.dtype).is_none()
            {
                let dtype = tensor.dtype;
                return Err(Fault::new(format!(
                    "`{part}` of module `{path}` holds {dtype}, expected F32, BF16 or F16"
                )));
            }
        }
        let (&[rank_of_a, in_features], &[out_features, rank_of_b]) = (&a.shape[..], &b.shape[..]) else {
            let shapes = format!("{:?} and {:?}", a.shape, b.shape);
            return Err(Fault::new(format!("module `{path}` has A and B of shape {shapes}, expected two dimensions")));
        };
        let rank = self.rank(path);
        if (rank_of_a, rank_of_b) != (rank, rank) {
            return Err(Fault::new(format!(
                "module `{path}` has A {:?} and B {:?}, but `{CONFIG}` gives it rank {rank}",
                a.shape, b.shape
            ))
            .hint("A is [rank, in], B is [out, rank]; `rank_pattern` gives single modules another rank"));
        }
        match (self.config.use_dora, parts.magnitude) {
            (true, None) => return Err(missing(MAGNITUDE)),
            (false, Some(_)) => {
                return Err(Fault::new(format!("module `{path}` has magnitudes, but `use_dora` is false")));
            }
            (true, Some(magnitude)) if magnitude.shape.iter().product::<usize>() != out_features => {
                let found = &magnitude.shape;
                return Err(Fault::new(format!("module `{path}` has magnitudes {found:?}, expected [{out_features}]")));
            }
            _ => {}
        }
        let scale = self.scale(path);
        Ok(Module { path, a, b, magnitude: parts.magnitude, rank, in_features, out_features, scale })
    }

    /// Writes the two files into a folder that no reader looks at yet, and reads them back.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Fault> {
        write_tensors(&folder.join(TENSORS), &self.tensors)?;
        let config = serde_json::to_vec_pretty(&self.config.to_json()).expect("a JSON value can be written");
        files::write(&folder.join(CONFIG), |out| out.write_all(&config))?;
        let back = Self::read(folder).map_err(|faults| faults.list()[0].clone())?;
        if back.tensors.keys().eq(self.tensors.keys()) {
            Ok(())
        } else {
            Err(Fault::new("the adapter read back has other tensors than were written").at(Place::file(folder)))
        }
    }
}

/// A key as module path and part.
fn split(key: &str) -> Option<(&str, &'static str)> {
    let path = key.strip_prefix(PREFIX)?;
    [A, B, MAGNITUDE].into_iter().find_map(|part| Some((path.strip_suffix(part)?, part)))
}

fn unknown_key(key: &str) -> Fault {
    let fault = Fault::new(format!("unknown tensor `{key}` in the adapter"));
    if key.contains("lora_embedding_") {
        fault.hint("adapters on embeddings are not supported")
    } else if key.contains(".modules_to_save.") {
        fault.hint("modules trained in full beside the adapter are not supported")
    } else {
        fault.hint(format!("expected `{PREFIX}<module>` and one of `{A}`, `{B}`, `{MAGNITUDE}`"))
    }
}

/// True when the configuration picks some of its target modules by further keys.
fn narrows(config: &[u8]) -> bool {
    let keys: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    ["layers_to_transform", "exclude_modules"].iter().any(|key| !keys[*key].is_null())
}

/// A pattern as PEFT matches it: the whole path, or its end after a dot.
fn expression(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"))
}

fn matching<T: Copy>(patterns: &indexmap::IndexMap<String, T>, module: &str) -> Option<T> {
    let first = patterns.iter().find(|(pattern, _)| expression(pattern).is_ok_and(|found| found.is_match(module)));
    first.map(|(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(modules: &[(&str, usize)]) -> Adapter {
        let mut tensors = BTreeMap::new();
        for (module, rank) in modules {
            tensors.insert(Adapter::key_a(module), StoredTensor::from_f32([*rank, 3], &vec![1.0; 3 * rank]));
            tensors.insert(Adapter::key_b(module), StoredTensor::from_f32([5, *rank], &vec![2.0; 5 * rank]));
        }
        Adapter { config: AdapterConfig::new(4, 8.0, vec!["q_proj".into()]), tensors }
    }

    #[test]
    fn the_scale_follows_rslora_and_the_first_matching_pattern() {
        let mut adapter = adapter(&[]);
        assert_eq!(adapter.scale("model.layers.0.self_attn.q_proj"), 2.0);
        adapter.config.use_rslora = true;
        assert_eq!(adapter.scale("model.layers.0.self_attn.q_proj"), 4.0);
        adapter.config.use_rslora = false;
        adapter.config.rank_pattern =
            [(r"layers\.[01]\.self_attn\.q_proj".to_string(), 2), ("q_proj".to_string(), 8)].into_iter().collect();
        adapter.config.alpha_pattern = [("k_proj|v_proj".to_string(), 1.0)].into_iter().collect();
        assert_eq!(adapter.scale("model.layers.1.self_attn.q_proj"), 4.0);
        assert_eq!(adapter.scale("model.layers.2.self_attn.q_proj"), 1.0);
        assert_eq!(adapter.scale("model.layers.2.self_attn.v_proj"), 0.25);
        // PEFT asks for a dot before the match: `xq_proj` is another module.
        assert_eq!(adapter.rank("model.xq_proj"), 4);
        assert_eq!(adapter.rank("q_proj"), 8);
    }

    #[test]
    fn modules_have_their_paths_and_sizes() {
        let adapter = adapter(&[("model.layers.0.mlp.up_proj", 4), ("lm_head", 4)]);
        let modules = adapter.modules().unwrap();
        assert_eq!(
            modules.iter().map(|module| module.path).collect::<Vec<_>>(),
            ["lm_head", "model.layers.0.mlp.up_proj"]
        );
        assert_eq!((modules[0].rank, modules[0].in_features, modules[0].out_features), (4, 3, 5));
    }

    #[test]
    fn halves_shapes_and_names_that_do_not_fit_are_all_named() {
        let mut broken = adapter(&[("m.a", 4), ("m.b", 3), ("m.c", 4)]);
        broken.tensors.remove(&Adapter::key_b("m.a"));
        let stray = StoredTensor::from_f32([1], &[0.0]);
        broken.tensors.insert("base_model.model.m.c.lora_A.default.weight".into(), stray.clone());
        broken.tensors.insert(Adapter::key_magnitude("m.c"), stray);
        let faults = broken.modules().unwrap_err();
        let text: Vec<&str> = faults.list().iter().map(|fault| fault.message.as_str()).collect();
        assert_eq!(text.len(), 4, "{text:?}");
        assert!(text[0].contains("m.c.lora_A.default.weight"));
        assert!(text[1].contains("`m.a` has no `lora_B.weight`"));
        assert!(text[2].contains("`m.b`") && text[2].contains("rank 4"));
        assert!(text[3].contains("`use_dora` is false"));
        assert!(adapter(&[]).modules().is_err());
        let mut pattern = adapter(&[("m.a", 4)]);
        pattern.config.rank_pattern.insert("(?=x".into(), 4);
        assert!(pattern.modules().is_err());
    }
}
