//! A LoRA adapter in the format PEFT writes: `adapter_model.safetensors` beside `adapter_config.json`.
//!
//! The danger is an adapter that loads and does nothing because its keys match nothing. So every key must be understood,
//! both halves of a module must be there, and their shapes must fit each other and the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use faults::{Fault, Faults, Place, refuse_pointer};
use rayon::prelude::*;
use serde_json::Value;

use crate::adapter_config::{AdapterConfig, TargetModules, matches_module};
use crate::targets::passed_over;
use crate::tensor::{StoredTensor, all_finite, decode_into, float_size};
use crate::weights::{DISK, Weights, read_all, write_tensors};
use crate::{elsewhere, files};

/// The file of an adapter's tensors.
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
/// The file of an adapter's configuration.
pub(crate) const CONFIG: &str = "adapter_config.json";

/// Numbers that are compared at a time.
const STRETCH: usize = 1 << 16;

/// PEFT's prefix of a module's path in the base model.
pub(crate) const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";
const MAGNITUDE: &str = ".lora_magnitude_vector";
const EMBEDDING_A: &str = ".lora_embedding_A";
const EMBEDDING_B: &str = ".lora_embedding_B";
/// What PEFT saves beside an adapter on an embedding or a head: the matrix it was made for.
const COPY: &str = ".base_layer.weight";

/// An adapter: its configuration, and its tensors under PEFT's names.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapter {
    /// `adapter_config.json`
    pub config: AdapterConfig,
    /// The tensors, such as `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
    pub tensors: BTreeMap<String, StoredTensor>,
}

/// One adapted module with a matrix W `[out_features, in_features]`: it becomes W + scale * B A, of an embedding
/// W + scale * (B A)^T.
#[derive(Debug, Clone)]
pub struct Module<'a> {
    /// The module's path in the base model, such as `model.layers.0.self_attn.q_proj`.
    pub path: &'a str,
    /// A, `[rank, in_features]`; of an embedding `[rank, out_features]`.
    pub a: &'a StoredTensor,
    /// B, `[out_features, rank]`; of an embedding `[in_features, rank]`.
    pub b: &'a StoredTensor,
    /// DoRA's row norms, `[out_features]`; of an embedding its column norms, `[in_features]`.
    pub magnitude: Option<&'a StoredTensor>,
    /// True for an embedding: a token for each row of W.
    pub embedding: bool,
    /// The rank of this module.
    pub rank: usize,
    /// The width of W.
    pub in_features: usize,
    /// The height of W.
    pub out_features: usize,
    /// alpha / rank, or alpha / sqrt(rank) with rsLoRA.
    pub scale: f64,
}

impl Module<'_> {
    /// True when it changes nothing: a factor is zero, as one is before the first step, and there are no lengths of rows.
    pub fn is_idle(&self) -> bool {
        let is_zero = |tensor: &StoredTensor| tensor.bytes.iter().all(|byte| *byte == 0);
        self.magnitude.is_none() && (is_zero(self.a) || is_zero(self.b))
    }
}

/// The tensors of a module that have been found so far.
#[derive(Default)]
struct Parts<'a> {
    a: Option<&'a StoredTensor>,
    b: Option<&'a StoredTensor>,
    magnitude: Option<&'a StoredTensor>,
    embedding_a: Option<&'a StoredTensor>,
    embedding_b: Option<&'a StoredTensor>,
}

/// What to do about an adapter's folder that holds no adapter, where nothing better is known.
const BROKEN: &str = "the folder is not as PEFT or `trainer` writes it: take it from where it comes from again";

/// PEFT refuses such an adapter at a merge; nothing good comes of sampling from one either.
fn refuse_not_finite(tensors: &BTreeMap<String, StoredTensor>) -> Result<(), Fault> {
    let bad = tensors.iter().filter(|(_, tensor)| !all_finite(tensor.dtype, &tensor.bytes));
    let bad: Vec<&String> = bad.map(|(name, _)| name).collect();
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

    /// PEFT's names for A and B of an embedding.
    pub fn keys_of_embedding(module: &str) -> [String; 2] {
        [EMBEDDING_A, EMBEDDING_B].map(|part| format!("{PREFIX}{module}{part}"))
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
            return Err(fault.hint(elsewhere::hint_inside(folder, &[CONFIG])).into());
        }
        if !tensors_path.is_file() {
            return Err(elsewhere::without_tensors(folder).into());
        }
        let written = files::read(&config_path)?;
        refuse_pointer(&config_path, &written)?;
        let (mut config, keys) = AdapterConfig::with_keys(&written).map_err(|faults| {
            let placed = faults.into_iter().map(|fault| fault.at(Place::file(&config_path)).or_hint(BROKEN)).collect();
            Faults::check(placed).expect_err("a refused configuration has faults")
        })?;
        // Before the tensors are looked at: what a broken pattern says of their ranks is nothing.
        let broken = config.broken_patterns().into_iter().map(|(.., fault)| fault.at(Place::file(&config_path)));
        Faults::check(broken.collect())?;
        let weights = Weights::open_file(&tensors_path)?;
        let tensors = read_all(&weights)?;
        let keys = Value::Object(keys);
        let narrowed = !keys["layers_to_transform"].is_null();
        let factors = tensors.keys().filter_map(|key| split(key)).filter(|(_, part)| *part != COPY);
        let paths: BTreeSet<&str> = factors.map(|(path, _)| path).collect();
        if keys["ensure_weight_tying"] == true && paths.iter().any(|path| is_end(path)) {
            let message = "`ensure_weight_tying` ties the adapters of embedding and head, which is not supported";
            let hint = "train one without it: here, the two of a tied base have an adapter each";
            return Err(Fault::new(message).at(Place::file(&config_path)).hint(hint).into());
        }
        let foreign = paths.iter().filter_map(|path| Some((path, passed_over(path, &keys)?)));
        let foreign = foreign.map(|(path, key)| {
            Fault::new(format!("`{key}` leaves out `{path}`, which the adapter has tensors for"))
                .at(Place::file(&config_path))
                .hint("PEFT would not load them: write the key as it was when the adapter was trained")
        });
        Faults::check_first(foreign.collect())?;
        if narrowed {
            // Other keys pick some of the target modules; whole paths say the same without them.
            config.target_modules = TargetModules::Names(paths.iter().map(|path| path.to_string()).collect());
        } else if config.target_modules == TargetModules::Names(Vec::new()) {
            let names: BTreeSet<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
            config.target_modules = TargetModules::Names(names.into_iter().map(str::to_owned).collect());
        }
        let adapter = Self { config, tensors }.by_present_names();
        match adapter.modules() {
            Ok(_) => Ok(adapter),
            Err(faults) => Err(faults.map(|fault| fault.or_at(Place::file(&tensors_path)).or_hint(BROKEN))),
        }
    }

    /// The adapted modules, sorted by path.
    ///
    /// # Errors
    /// No module at all, keys that are not understood, a module with one half missing, shapes that do not fit each other
    /// or the rank in the configuration, a pattern that is no regular expression.
    pub fn modules(&self) -> Result<Vec<Module<'_>>, Faults> {
        let mut faults: Vec<Fault> = self.config.broken_patterns().into_iter().map(|(.., fault)| fault).collect();
        let mut parts: BTreeMap<&str, Parts<'_>> = BTreeMap::new();
        let mut unknown: Vec<&str> = Vec::new();
        for (key, tensor) in &self.tensors {
            let Some((path, part)) = split(key) else {
                unknown.push(key);
                continue;
            };
            if part == COPY {
                continue;
            }
            let parts = parts.entry(path).or_default();
            match part {
                A => parts.a = Some(tensor),
                B => parts.b = Some(tensor),
                EMBEDDING_A => parts.embedding_a = Some(tensor),
                EMBEDDING_B => parts.embedding_b = Some(tensor),
                _ => parts.magnitude = Some(tensor),
            }
        }
        faults.extend(unknown.first().map(|first| unknown_key(first, unknown.len() - 1)));
        if parts.is_empty() && faults.is_empty() {
            faults.push(Fault::new("the adapter has no tensors").hint("save it again with PEFT's `save_pretrained`"));
        }
        let mut modules = Vec::with_capacity(parts.len());
        for (path, parts) in parts {
            match self.module(path, &parts) {
                Ok(module) => modules.push(module),
                Err(fault) => faults.push(fault),
            }
        }
        Faults::check_first(faults)?;
        Ok(modules)
    }

    /// Keeps the modules whose paths are wanted.
    pub fn retain_modules(&mut self, wanted: impl Fn(&str) -> bool) {
        self.tensors.retain(|key, _| split(key).is_none_or(|(path, _)| wanted(path)));
    }

    /// The matrices that PEFT saved beside its adapters, with the paths of their modules: what the adapter is for.
    pub fn base_copies(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        let copies = self.tensors.iter().filter(|(key, _)| Self::is_base_copy(key));
        copies.filter_map(|(key, tensor)| Some((split(key)?.0, tensor)))
    }

    /// Compares those matrices with the weights of a base, as far as 16 bits tell, which files that copy them may be rounded
    /// to.
    ///
    /// # Errors
    /// A copy that is not of this base: it was trained too, or there are more tokens now.
    pub fn check_base_copies(&self, weights: &Weights) -> Result<(), Faults> {
        let foreign = self.base_copies().filter(|(path, copy)| !is_copy(weights, path, copy));
        let fault = |(path, copy): (&str, &StoredTensor)| {
            let own = format!("{path}.weight");
            let rows = weights.shape(weights.holder(&own)).and_then(|shape| shape.first().copied());
            let fault = match (rows, copy.shape.first()) {
                (Some(rows), Some(more)) if *more != rows => Fault::new(format!(
                    "the adapter brings an embedding of its own with {more} tokens, and this base has {rows}: tokens were \
                     added for its training"
                ))
                .hint(
                    "merge it with PEFT, whose base is resized first (`resize_token_embeddings`), and take the result; or \
                     name that resized base",
                ),
                _ => Fault::new("the adapter brings weights of its own, which are not those of this base")
                    .hint("merge it with PEFT and adapt the result, or save it with `save_embedding_layers=False`"),
            };
            fault.at(Place::Named(path.into()))
        };
        Faults::check(foreign.map(fault).collect())
    }

    /// True for the key of such a matrix.
    pub(crate) fn is_base_copy(key: &str) -> bool {
        split(key).is_some_and(|(_, part)| part == COPY)
    }

    fn module<'a>(&self, path: &'a str, parts: &Parts<'a>) -> Result<Module<'a>, Fault> {
        let embedding = parts.embedding_a.is_some() || parts.embedding_b.is_some();
        let missing = |part: &str| Fault::new(format!("module `{path}` has no `{}`", part.trim_start_matches('.')));
        let (a, b) = match embedding {
            false => (parts.a.ok_or_else(|| missing(A))?, parts.b.ok_or_else(|| missing(B))?),
            true if parts.a.is_some() || parts.b.is_some() => {
                return Err(Fault::new(format!("module `{path}` is adapted as an embedding and as a projection")));
            }
            true => (
                parts.embedding_a.ok_or_else(|| missing(EMBEDDING_A))?,
                parts.embedding_b.ok_or_else(|| missing(EMBEDDING_B))?,
            ),
        };
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
        let rank = self.config.rank(path);
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
                return Err(Fault::new(format!("module `{path}` has magnitudes, but `use_dora` is false")).hint(
                    format!("write `\"use_dora\": true` into `{CONFIG}` if it is DoRA, else remove these tensors"),
                ));
            }
            (true, Some(magnitude)) if magnitude.shape.iter().product::<usize>() != out_features => {
                let found = &magnitude.shape;
                return Err(Fault::new(format!("module `{path}` has magnitudes {found:?}, expected [{out_features}]")));
            }
            _ => {}
        }
        let scale = self.config.scale(path);
        // One token in, one row of W out.
        let [out_features, in_features] =
            if embedding { [in_features, out_features] } else { [out_features, in_features] };
        Ok(Module { path, a, b, magnitude: parts.magnitude, embedding, rank, in_features, out_features, scale })
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
            let fault = Fault::new("the adapter read back has other tensors than were written");
            Err(fault.at(Place::file(folder)).hint(DISK))
        }
    }
}

/// True when `copy` is the matrix of the module at `path`, rounded to 16 bits or not; a head without a matrix of its own has
/// the embedding's.
fn is_copy(weights: &Weights, path: &str, copy: &StoredTensor) -> bool {
    let own = format!("{path}.weight");
    let own = weights.holder(&own);
    let (Some(dtype), Ok(bytes)) = (weights.dtype(own), weights.bytes(own)) else { return false };
    let (Some(size), Some(size_of_copy)) = (float_size(dtype), float_size(copy.dtype)) else { return false };
    if weights.shape(own).as_ref() != Some(&copy.shape) {
        return false;
    }
    let stretches = bytes.par_chunks(STRETCH * size).zip(copy.bytes.par_chunks(STRETCH * size_of_copy));
    stretches.all(|(own, copied)| {
        let (mut values, mut copies) = (vec![0.0f32; own.len() / size], vec![0.0f32; copied.len() / size_of_copy]);
        decode_into(dtype, own, &mut values);
        decode_into(copy.dtype, copied, &mut copies);
        values.iter().zip(&copies).all(|(own, copied)| (own - copied).abs() <= own.abs() * 2f32.powi(-7))
    })
}

/// A key as module path and part.
pub(crate) fn split(key: &str) -> Option<(&str, &'static str)> {
    let path = key.strip_prefix(PREFIX)?;
    [A, B, MAGNITUDE, EMBEDDING_A, EMBEDDING_B, COPY]
        .into_iter()
        .find_map(|part| Some((path.strip_suffix(part)?, part)))
        .or_else(|| Some((path.strip_suffix(".weight").filter(|path| is_end(path))?, COPY)))
}

/// True for the embedding and the head, of which PEFT saves copies (`save_embedding_layers`), adapted or not.
fn is_end(path: &str) -> bool {
    ["embed_tokens", "lm_head"].iter().any(|name| matches_module(path, name))
}

/// The first tensor that no adapter has, with as many `more`.
fn unknown_key(key: &str, more: usize) -> Fault {
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let fault = Fault::new(format!("unknown tensor `{key}` in the adapter{more}"));
    if key.contains(".lora_") && key.contains(".default") {
        fault.hint(
            "the names are those of a model in memory: take `.default` out of them, as PEFT's `save_pretrained` does",
        )
    } else if key.contains(".modules_to_save.") {
        fault.hint("modules trained in full beside the adapter are not supported")
    } else {
        fault.hint(format!("expected `{PREFIX}<module>` and one of `{A}`, `{B}`, `{MAGNITUDE}`"))
    }
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
    fn modules_have_their_paths_and_sizes() {
        let adapter = adapter(&[("model.layers.0.mlp.up_proj", 4), ("lm_head", 4)]);
        let modules = adapter.modules().unwrap();
        assert_eq!(
            modules.iter().map(|module| module.path).collect::<Vec<_>>(),
            ["lm_head", "model.layers.0.mlp.up_proj"]
        );
        assert_eq!((modules[0].rank, modules[0].in_features, modules[0].out_features), (4, 3, 5));
    }

    /// `torch.save(model.state_dict())` and the like, in place of `save_pretrained`.
    #[test]
    fn names_of_a_model_in_memory_are_one_fault_with_the_way_out() {
        let mut named = adapter(&[("model.layers.0.self_attn.q_proj", 4), ("model.layers.1.self_attn.q_proj", 4)]);
        let tensors = std::mem::take(&mut named.tensors);
        let inside = |key: String| key.replace(".weight", ".default.weight");
        named.tensors = tensors.into_iter().map(|(key, tensor)| (inside(key), tensor)).collect();
        let faults = named.modules().expect_err("names of another kind");
        let [fault] = faults.list() else { panic!("{faults}") };
        assert!(fault.message.ends_with("lora_A.default.weight` in the adapter, and 3 more"), "{fault}");
        assert!(fault.to_string().contains("take `.default` out of them"), "{fault}");
    }

    /// PEFT saves both ends under their own names with `save_embedding_layers=True`, or when there are more tokens.
    #[test]
    fn copies_of_the_ends_under_their_own_names_are_copies() {
        let mut with_copies = adapter(&[("model.layers.0.self_attn.q_proj", 4)]);
        for path in ["lm_head", "model.embed_tokens"] {
            let copy = StoredTensor::from_f32([2, 3], &[1.0; 6]);
            with_copies.tensors.insert(format!("{PREFIX}{path}.weight"), copy);
        }
        let folder = tempfile::tempdir().unwrap();
        with_copies.write(folder.path()).unwrap();
        let read = Adapter::read(folder.path()).unwrap();
        let copies: Vec<&str> = read.base_copies().map(|(path, _)| path).collect();
        assert_eq!((copies, read.modules().unwrap().len()), (vec!["lm_head", "model.embed_tokens"], 1));
        let key = format!("{PREFIX}model.norm.weight");
        with_copies.tensors.insert(key.clone(), StoredTensor::from_f32([3], &[1.0; 3]));
        assert!(with_copies.write(folder.path()).unwrap_err().to_string().contains(&key));
    }

    #[test]
    fn tied_adapters_of_both_ends_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let tied = |module: &str| {
            let mut tied = adapter(&[(module, 4)]);
            tied.config.target_modules = TargetModules::Names(vec!["q_proj".into(), "lm_head".into()]);
            tied.write(folder.path()).unwrap();
            let path = folder.path().join(CONFIG);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replacen('{', "{\"ensure_weight_tying\": true,", 1)).unwrap();
            Adapter::read(folder.path())
        };
        assert!(tied("lm_head").unwrap_err().to_string().contains("`ensure_weight_tying`"));
        tied("model.layers.0.self_attn.q_proj").unwrap();
    }

    #[test]
    fn halves_shapes_and_names_that_do_not_fit_are_all_named() {
        let mut broken = adapter(&[("m.a", 4), ("m.b", 3), ("m.c", 4)]);
        broken.tensors.remove(&Adapter::key_b("m.a"));
        let stray = StoredTensor::from_f32([1], &[0.0]);
        broken.tensors.insert("base_model.model.m.c.lora_A.default.weight".into(), stray.clone());
        broken.tensors.insert(format!("{PREFIX}m.c{MAGNITUDE}"), stray);
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
