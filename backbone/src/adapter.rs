//! Putting low-rank adapters beside the projections: fresh ones, or those of a PEFT folder.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use checkpoints::{Adapter, AdapterConfig, Dtype, Module, StoredTensor, TargetModules, matches_module};
use faults::{Fault, Faults, FromToml, Place, Shape, nearest};
use losses::Parameter;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::config::Config;
use super::decoder::{Decoder, HEAD, is_embedding};
use super::lora::{EmbeddingLora, Lora};

/// The key of PEFT files before the module's own path.
const PREFIX: &str = "base_model.model.";

/// Which projections get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every projection of every block.
    AllLinear,
    /// Those whose path ends in one of these names, for example `q_proj`, `layers.3.mlp.up_proj` or `lm_head`.
    Named(Vec<String>),
}

impl FromToml for Targets {
    const EXPECTED: &'static str = "\"all-linear\" or a list of module names";

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Words(vec!["all-linear".into()]), Vec::<String>::shape()])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value.as_str() {
            Some("all-linear") => Some(Self::AllLinear),
            Some(_) => None,
            None => Vec::from_toml(value).map(Self::Named),
        }
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Self::AllLinear => toml::Value::String("all-linear".into()),
            Self::Named(names) => names.to_toml(),
        }
    }
}

/// A fresh adapter's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSettings {
    /// Rank of the two factors.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f64,
    /// Probability of dropping an input of `A`.
    pub dropout: f64,
    /// Where adapters go.
    pub targets: Targets,
    /// Modules that get no adapter although they are targets: their path ends in one of these names.
    pub exclude: Vec<String>,
    /// The blocks that get adapters, the first is 0 and the last -1; `None` for all. Embedding and head are in none.
    pub layers: Option<Vec<i64>>,
    /// Scale `alpha / sqrt(rank)` (Kalajdzievski 2023, arXiv 2312.03732) in place of `alpha / rank`.
    pub rslora: bool,
    /// Rows have trained lengths (DoRA).
    pub dora: bool,
    /// Ranks of the modules that a pattern matches.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas of the modules that a pattern matches.
    pub alpha_pattern: Vec<(String, f64)>,
    /// The factors start as what is largest in the matrices, which keep the rest (PiSSA).
    pub pissa: bool,
}

impl AdapterSettings {
    /// Plain LoRA on every projection.
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self {
            rank,
            alpha,
            dropout: 0.0,
            targets: Targets::AllLinear,
            exclude: Vec::new(),
            layers: None,
            rslora: false,
            dora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            pissa: false,
        }
    }

    /// Ranks and scales as they are in training.
    pub fn shape(&self) -> AdapterConfig {
        AdapterConfig {
            lora_dropout: self.dropout,
            use_rslora: self.rslora,
            use_dora: self.dora,
            rank_pattern: self.rank_pattern.iter().cloned().collect(),
            alpha_pattern: self.alpha_pattern.iter().cloned().collect(),
            ..AdapterConfig::new(self.rank, self.alpha, Vec::new())
        }
    }

    /// `adapter_config.json` of such an adapter, on a base named `base`: with what was taken out of the base at its side,
    /// it has twice the rank, and the alpha that leaves the scale what it is.
    pub fn to_config(&self, base: &str, modules: Vec<String>) -> AdapterConfig {
        let mut config = self.shape();
        config.base_model_name_or_path = Some(base.into());
        config.target_modules = TargetModules::Names(modules);
        if self.pissa {
            let factor = if self.rslora { 2f64.sqrt() } else { 2.0 };
            config.r *= 2;
            config.rank_pattern.values_mut().for_each(|rank| *rank *= 2);
            config.lora_alpha *= factor;
            config.alpha_pattern.values_mut().for_each(|alpha| *alpha *= factor);
        }
        config
    }

    /// The matrices of a model that get an adapter: path and shape `[out, in]`, embedding and head last.
    pub fn adapted(&self, config: &Config) -> Vec<(String, [usize; 2])> {
        config.adaptable().into_iter().filter(|(path, _)| self.includes(path, config.num_hidden_layers)).collect()
    }

    /// True when the module at `path` gets an adapter, of a model of so many blocks.
    fn includes(&self, path: &str, blocks: usize) -> bool {
        let is_chosen = |layer: usize| {
            let is_same = |wanted: &i64| *wanted == layer as i64 || *wanted == layer as i64 - blocks as i64;
            self.layers.as_ref().is_none_or(|layers| layers.iter().any(is_same))
        };
        self.targets.includes(path)
            && !self.exclude.iter().any(|name| matches_module(path, name))
            && block_of(path).is_none_or(is_chosen)
    }

    /// Looks whether such an adapter can be put on a model, from its configuration alone.
    ///
    /// # Errors
    /// A target that no matrix matches, a pattern that cannot be read or decides about nothing, singular values of a matrix
    /// that has too few or of an embedding.
    pub fn check(&self, config: &Config) -> Result<(), Faults> {
        self.check_targets(config)?;
        self.check_left_out(config)?;
        let (shape, adapted) = (self.shape(), self.adapted(config));
        let paths: Vec<&str> = adapted.iter().map(|(path, _)| path.as_str()).collect();
        let mut faults = shape.broken_patterns();
        if faults.is_empty() {
            faults.extend(shape.idle_patterns(&paths).into_iter().map(|(table, pattern)| {
                let message = format!("the pattern {pattern:?} has no effect: it decides about no adapted module");
                let names = paths.iter().filter_map(|path| path.rsplit('.').next());
                let hint = match nearest(pattern, names).filter(|near| *near != pattern) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        "a pattern is a regular expression for the end of a path; the first that matches counts".into()
                    }
                };
                (table, pattern, Fault::new(message).hint(hint))
            }));
        }
        let place = |table, pattern| Place::Named(format!("adapter.{table}.{pattern}"));
        let mut faults: Vec<Fault> =
            faults.into_iter().map(|(table, pattern, fault)| fault.at(place(table, pattern))).collect();
        if self.pissa {
            let of = |(path, sides): &(String, [usize; 2])| {
                let rank = shape.rank(path);
                let key = if rank == self.rank { "adapter.rank" } else { "adapter.rank_pattern" };
                without_pissa(path, *sides, rank, key)
            };
            faults.extend(adapted.iter().filter_map(of));
        }
        Faults::check_first(faults)
    }

    /// Blocks that the model does not have, names that leave out nothing, and all of them left out.
    fn check_left_out(&self, config: &Config) -> Result<(), Faults> {
        let blocks = config.num_hidden_layers;
        let range = -(blocks as i64)..blocks as i64;
        let absent = self.layers.iter().flatten().filter(|layer| !range.contains(layer));
        let mut faults: Vec<Fault> = absent
            .map(|layer| {
                Fault::new(format!("`adapter.layers` names block {layer}, which this model does not have"))
                    .at(Place::Named("adapter.layers".into()))
                    .hint(format!("from 0 to {}, or from -1, the last, to -{blocks}", blocks.saturating_sub(1)))
            })
            .collect();
        let targeted: Vec<String> =
            config.adaptable().into_iter().map(|(path, _)| path).filter(|path| self.targets.includes(path)).collect();
        let idle = self.exclude.iter().filter(|name| !targeted.iter().any(|path| matches_module(path, name)));
        faults.extend(idle.map(|name| {
            let known = targeted.iter().filter_map(|path| path.rsplit('.').next());
            let hint = match nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "remove it, or write the end of a path, such as `layers.0.mlp.up_proj`".into(),
            };
            Fault::new(format!("`adapter.exclude` names `{name}`, which none of the targets matches"))
                .at(Place::Named("adapter.exclude".into()))
                .hint(hint)
        }));
        if faults.is_empty() && self.adapted(config).is_empty() {
            let fault = Fault::new("`adapter.exclude` and `adapter.layers` leave no module to adapt");
            faults.push(fault.at(Place::Named("adapter".into())).hint("leave out fewer of them"));
        }
        Faults::check(faults)
    }

    fn check_targets(&self, config: &Config) -> Result<(), Faults> {
        let Targets::Named(names) = &self.targets else { return Ok(()) };
        let paths: Vec<String> = config.adaptable().into_iter().map(|(path, _)| path).collect();
        let mut known: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
        known.sort_unstable();
        known.dedup();
        let unmatched = names.iter().filter(|name| !paths.iter().any(|path| matches_module(path, name)));
        let faults = unmatched.map(|name| {
            let near = match name.as_str() {
                "all-linear" => {
                    Some("it stands alone, `targets = \"all-linear\"`, or give names in its place; ".into())
                }
                name => nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`? ")),
            };
            Fault::new(format!("`adapter.targets` names `{name}`, which no projection of this model matches"))
                .at(Place::Named("adapter.targets".into()))
                .hint(format!("{}known: {}", near.unwrap_or_default(), known.join(", ")))
        });
        Faults::check(faults.collect())
    }
}

/// The number of the block that a module is in.
fn block_of(path: &str) -> Option<usize> {
    path.split('.').find_map(|part| part.parse().ok())
}

/// A fault where a matrix has no `rank` singular values to start from, which `key` asks for.
fn without_pissa(path: &str, [outputs, inputs]: [usize; 2], rank: usize, key: &str) -> Option<Fault> {
    let fault = if is_embedding(path) {
        Fault::new("`adapter.init = \"pissa\"` cannot start an adapter on an embedding")
            .hint("leave it out of `adapter.targets`, or use `init = \"default\"`")
    } else if rank > outputs.min(inputs) {
        let message = format!("rank {rank} is more than a matrix [{outputs}, {inputs}] has");
        Fault::new(message).hint(format!("lower `{key}`"))
    } else {
        return None;
    };
    Some(fault.at(Place::Named(path.into())))
}

/// The modules of an adapter that is there already, if it fits a model, told from its configuration alone. Those of parts
/// beside the decoder are left out where they change nothing, as PEFT's are that were trained on text.
///
/// # Errors
/// A module that the model does not have, a factor that does not fit it.
pub fn fitting_modules<'a>(adapter: &'a Adapter, config: &Config) -> Result<Vec<Module<'a>>, Faults> {
    let sides: BTreeMap<String, [usize; 2]> = config.adaptable().into_iter().collect();
    let (mut faults, mut fitting) = (Vec::new(), Vec::new());
    for module in adapter.modules()? {
        let fault = match sides.get(module.path) {
            None if config.is_beside(module.path) && module.is_idle() => continue,
            None if config.is_beside(module.path) => Fault::new(format!(
                "the adapter changes `{}`, which is not a part for text",
                module.path
            ))
            .hint("the parts of a model that text does not pass through are left as they are here: merge it with PEFT"),
            None => Fault::new(format!("the adapter has a module `{}` that this model does not have", module.path))
                .hint(match module.path.contains("_orig_mod.") {
                    true => "the names are those of a compiled model (`torch.compile`): take `_orig_mod.` out of them",
                    false => "this adapter was made for another base model, or for modules that cannot be adapted here",
                }),
            Some(sides) if *sides != [module.out_features, module.in_features] => {
                let (a, b) = (&module.a.shape, &module.b.shape);
                Fault::new(format!("the adapter's factors {a:?} and {b:?} do not fit a matrix {sides:?}"))
                    .hint("this adapter was made for another base model")
            }
            Some(_) => {
                fitting.push(module);
                continue;
            }
        };
        faults.push(fault.at(Place::Named(module.path.into())));
    }
    Faults::check_alike(faults)?;
    Ok(fitting)
}

/// What to say of an adapter's modules: of those that [`fitting_modules`] leaves out, and of those that its configuration
/// names and its file does not have, a sentence each.
///
/// # Errors
/// Modules that do not fit each other.
pub fn remarks(adapter: &Adapter, config: &Config) -> Result<Vec<String>, Faults> {
    let modules = adapter.modules()?;
    let beside: Vec<&str> = modules.iter().map(|module| module.path).filter(|path| config.is_beside(path)).collect();
    let left_out = beside.first().map(|first| {
        format!(
            "left out of the adapter, because they change nothing and are not of the part for text: {} modules, the \
             first `{first}`",
            beside.len()
        )
    });
    let absent = absent(adapter, &modules, config);
    let missing = absent.first().map(|first| {
        format!(
            "the adapter's file has nothing for {} of the modules that its `target_modules` names, the first `{first}`: they stay \
             as the base has them",
            absent.len()
        )
    });
    Ok(left_out.into_iter().chain(missing).collect())
}

/// The modules that the names of `target_modules` fit and the adapter has no factors for. A pattern may mean others.
fn absent(adapter: &Adapter, modules: &[Module<'_>], config: &Config) -> Vec<String> {
    let TargetModules::Names(names) = &adapter.config.target_modules else { return Vec::new() };
    if adapter.config.exclude_modules.is_some() {
        return Vec::new();
    }
    let is_named = |path: &str| names.iter().any(|name| matches_module(path, name));
    let is_there = |path: &str| modules.iter().any(|module| module.path == path);
    let adaptable = config.adaptable().into_iter().map(|(path, _)| path);
    adaptable.filter(|path| is_named(path) && !is_there(path)).collect()
}

impl Targets {
    /// True when the module at `path` gets an adapter.
    pub fn includes(&self, path: &str) -> bool {
        match self {
            Self::AllLinear => path != HEAD && !is_embedding(path),
            Self::Named(names) => names.iter().any(|name| matches_module(path, name)),
        }
    }
}

impl Decoder {
    /// Attaches fresh adapters: `A ~ U(-1/sqrt(in), 1/sqrt(in))`, `B = 0`, and beside an embedding `A = 0`, `B ~ N(0, 1)`,
    /// all f32 (PEFT's default). Each is drawn from a stream of its own, so that other targets leave it as it is.
    ///
    /// # Errors
    /// As [`AdapterSettings::check`].
    pub fn attach_fresh(&mut self, settings: &AdapterSettings, seed: u64) -> Result<(), Faults> {
        settings.check(&self.config)?;
        let device = self.device().clone();
        let shape = settings.shape();
        for (path, [outputs, inputs]) in settings.adapted(&self.config) {
            let (rank, scale) = (shape.rank(&path), shape.scale(&path));
            let key = crate::random::key(seed, &["adapter", &path]);
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(key);
            let tensor = |values, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
            let Some(linear) = self.linear(&path) else {
                // The input of an embedding is a token: its `A` has a column for each row of the matrix.
                let b: Vec<f32> = (0..inputs * rank).map(|_| StandardNormal.sample(&mut random)).collect();
                let a = Tensor::zeros([rank, outputs], &device);
                let lora = EmbeddingLora::new(a, tensor(b, [inputs, rank]), scale);
                let lora = if settings.dora { lora.with_magnitude(self.embedding(), None) } else { lora };
                self.attach_to_embedding(lora);
                continue;
            };
            let bound = 1.0 / (inputs as f32).sqrt();
            let a: Vec<f32> = (0..rank * inputs).map(|_| random.random_range(-bound..bound)).collect();
            let b = Tensor::zeros([outputs, rank], &device);
            let lora = Lora::new(tensor(a, [rank, inputs]), b, scale, settings.dropout);
            linear.attach(if settings.dora { lora.with_magnitude(linear.weight(), None) } else { lora });
        }
        Ok(())
    }

    /// Attaches the adapter of a PEFT folder, to be used or trained further.
    ///
    /// # Errors
    /// As [`fitting_modules`].
    pub fn attach(&mut self, adapter: &Adapter, dropout: f64) -> Result<(), Faults> {
        let modules = fitting_modules(adapter, &self.config)?;
        let device = self.device().clone();
        for module in modules {
            let tensor = |stored: &StoredTensor| -> Result<Tensor<2>, Fault> {
                let shape = [stored.shape[0], stored.shape[1]];
                Ok(Tensor::from_data(TensorData::new(stored.to_f32()?, shape), &device))
            };
            let (a, b) = (tensor(module.a)?, tensor(module.b)?);
            let lengths = module.magnitude.map(StoredTensor::to_f32).transpose()?.map(|values| {
                let length = values.len();
                Tensor::from_data(TensorData::new(values, [length]), &device)
            });
            let Some(linear) = self.linear(module.path) else {
                let lora = EmbeddingLora::new(a, b, module.scale);
                let dora = lengths.is_some();
                let lora = if dora { lora.with_magnitude(self.embedding(), lengths) } else { lora };
                self.attach_to_embedding(lora);
                continue;
            };
            let lora = Lora::new(a, b, module.scale, dropout);
            let dora = lengths.is_some();
            linear.attach(if dora { lora.with_magnitude(linear.weight(), lengths) } else { lora });
        }
        Ok(())
    }

    /// The adapter's tensors under PEFT's keys, as they are beside the original base.
    pub fn adapter_tensors(&mut self) -> BTreeMap<String, StoredTensor> {
        let mut tensors = self.collect(|name| name.contains(".lora_"), |name| format!("{PREFIX}{name}"));
        for path in self.adapted_paths() {
            let beside = self.linear(&path).and_then(|linear| linear.lora()?.beside_original());
            if let Some((a, b)) = beside {
                tensors.insert(Adapter::key_a(&path), stored(a.dims().to_vec(), &a.into_data()));
                tensors.insert(Adapter::key_b(&path), stored(b.dims().to_vec(), &b.into_data()));
            }
        }
        tensors
    }

    /// Every weight of the backbone under its own name.
    pub fn base_tensors(&mut self) -> BTreeMap<String, StoredTensor> {
        self.collect(|name| !name.contains(".lora_"), str::to_owned)
    }

    /// Names of the modules that carry an adapter, such as `q_proj`, for `target_modules`.
    pub fn adapted_modules(&mut self) -> Vec<String> {
        let paths = self.adapted_paths();
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let (ends, in_blocks): (Vec<String>, Vec<String>) =
            paths.iter().cloned().partition(|path| path == HEAD || is_embedding(path));
        let mut names: Vec<String> = in_blocks.iter().map(last).collect();
        names.sort_unstable();
        names.dedup();
        // Short names say it all only when every layer has them.
        if in_blocks.len() == names.len() * self.layers.len() {
            names.extend(ends.iter().map(last));
            names
        } else {
            paths
        }
    }

    /// Paths of the modules that carry an adapter.
    fn adapted_paths(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        self.visit(&mut |name, _| {
            let own = [".lora_A.weight", ".lora_embedding_A"].into_iter().find_map(|part| name.strip_suffix(part));
            paths.extend(own.map(str::to_owned));
        });
        paths
    }

    fn collect(&mut self, wanted: fn(&str) -> bool, rename: fn(&str) -> String) -> BTreeMap<String, StoredTensor> {
        let mut tensors = BTreeMap::new();
        self.visit(&mut |name, parameter| {
            if wanted(name) {
                let (shape, values) = match parameter {
                    Parameter::Vector(tensor) => (tensor.dims().to_vec(), tensor.clone().inner().into_data()),
                    Parameter::Matrix(tensor) => (tensor.dims().to_vec(), tensor.clone().inner().into_data()),
                };
                tensors.insert(rename(name), stored(shape, &values));
            }
        });
        tensors
    }
}

fn stored(shape: Vec<usize>, values: &TensorData) -> StoredTensor {
    StoredTensor { dtype: dtype_of(values), shape, bytes: values.bytes().to_vec() }
}

fn dtype_of(data: &TensorData) -> Dtype {
    match data.dtype() {
        burn::tensor::DType::BF16 => Dtype::BF16,
        burn::tensor::DType::F16 => Dtype::F16,
        _ => Dtype::F32,
    }
}

#[cfg(test)]
mod tests;
