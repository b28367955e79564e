//! Putting low-rank adapters beside the projections: fresh ones, or those of a PEFT folder.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use checkpoints::{Adapter, AdapterConfig, Dtype, StoredTensor, TargetModules};
use faults::{Fault, Faults, Place, nearest};
use losses::Parameter;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

use super::decoder::{Decoder, EMBEDDING, HEAD};
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
    /// Scale `alpha / sqrt(rank)` (Kalajdzievski 2023, arXiv 2312.03732) in place of `alpha / rank`.
    pub rslora: bool,
    /// Rows have trained lengths (DoRA).
    pub dora: bool,
    /// Ranks of the modules that a pattern matches.
    pub rank_pattern: Vec<(String, usize)>,
    /// The same of alpha.
    pub alpha_pattern: Vec<(String, f64)>,
    /// The factors start as what is largest in the matrices, which keep the rest (PiSSA).
    pub principal: bool,
}

impl AdapterSettings {
    /// Plain LoRA on every projection.
    pub fn new(rank: usize, alpha: f64) -> Self {
        Self {
            rank,
            alpha,
            dropout: 0.0,
            targets: Targets::AllLinear,
            rslora: false,
            dora: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            principal: false,
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
        if self.principal {
            let factor = if self.rslora { 2f64.sqrt() } else { 2.0 };
            config.r *= 2;
            config.rank_pattern.values_mut().for_each(|rank| *rank *= 2);
            config.lora_alpha *= factor;
            config.alpha_pattern.values_mut().for_each(|alpha| *alpha *= factor);
        }
        config
    }
}

impl Targets {
    /// True when the module at `path` gets an adapter.
    pub fn includes(&self, path: &str) -> bool {
        match self {
            Self::AllLinear => ![HEAD, EMBEDDING].contains(&path),
            Self::Named(names) => names.iter().any(|name| matches_module(path, name)),
        }
    }
}

/// As PEFT matches a list of target modules: the whole path, or its end after a dot.
pub fn matches_module(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

impl Decoder {
    /// Attaches fresh adapters: `A ~ U(-1/sqrt(in), 1/sqrt(in))`, `B = 0`, and beside an embedding `A = 0`, `B ~ N(0, 1)`,
    /// all f32 (PEFT's default). Each is drawn from a stream of its own, so that other targets leave it as it is.
    ///
    /// # Errors
    /// A target that no projection matches, a pattern that cannot be read or decides about nothing, DoRA where there is
    /// none.
    pub fn attach_fresh(&mut self, settings: &AdapterSettings, seed: u64) -> Result<(), Faults> {
        self.check(settings)?;
        let device = self.device().clone();
        let shape = settings.shape();
        for path in self.targeted(&settings.targets) {
            let (rank, scale) = (shape.rank(&path), shape.scale(&path));
            let key = crate::random::key(seed, &["adapter", &path]);
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(key);
            let tensor = |values, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(values, shape), &device);
            let Some(linear) = self.linear(&path) else {
                let [vocabulary, hidden] = self.embedding().shape();
                let b: Vec<f32> = (0..hidden * rank).map(|_| StandardNormal.sample(&mut random)).collect();
                let a = Tensor::zeros([rank, vocabulary], &device);
                self.attach_to_embedding(EmbeddingLora::new(a, tensor(b, [hidden, rank]), scale));
                continue;
            };
            let [outputs, inputs] = linear.shape();
            let bound = 1.0 / (inputs as f32).sqrt();
            let a: Vec<f32> = (0..rank * inputs).map(|_| random.random_range(-bound..bound)).collect();
            let b = Tensor::zeros([outputs, rank], &device);
            let lora = Lora::new(tensor(a, [rank, inputs]), b, scale, settings.dropout);
            linear.attach(if settings.dora { lora.with_magnitude(linear.weight(), None) } else { lora });
        }
        Ok(())
    }

    /// The paths that `targets` mean, embedding and head last.
    pub(super) fn targeted(&mut self, targets: &Targets) -> Vec<String> {
        self.adaptable().into_iter().filter(|path| targets.includes(path)).collect()
    }

    /// Looks whether such an adapter can be put on this model.
    pub(super) fn check(&mut self, settings: &AdapterSettings) -> Result<(), Faults> {
        self.check_targets(&settings.targets)?;
        let (shape, paths) = (settings.shape(), self.targeted(&settings.targets));
        let adapted: Vec<&str> = paths.iter().map(String::as_str).collect();
        let mut faults = shape.broken_patterns();
        if faults.is_empty() {
            faults.extend(shape.idle_patterns(&adapted).into_iter().map(|pattern| {
                Fault::new(format!("the pattern {pattern:?} has no effect: it decides about no adapted module"))
                    .hint("a pattern is a regular expression for the end of a path; the first that matches counts")
            }));
        }
        let keys = "adapter.rank_pattern and adapter.alpha_pattern";
        let mut faults: Vec<Fault> = faults.into_iter().map(|fault| fault.at(Place::Named(keys.into()))).collect();
        faults.extend(paths.iter().filter_map(|path| unscalable(path, settings.dora, settings.dropout)));
        Faults::check(faults)
    }

    fn check_targets(&mut self, targets: &Targets) -> Result<(), Faults> {
        let Targets::Named(names) = targets else { return Ok(()) };
        let paths = self.adaptable();
        let mut known: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
        known.sort_unstable();
        known.dedup();
        let unmatched = names.iter().filter(|name| !paths.iter().any(|path| matches_module(path, name)));
        let faults = unmatched.map(|name| {
            let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`? "));
            Fault::new(format!("`adapter.targets` names `{name}`, which no projection of this model matches"))
                .at(Place::Named("adapter.targets".into()))
                .hint(format!("{}known: {}", near.unwrap_or_default(), known.join(", ")))
        });
        Faults::check(faults.collect())
    }

    /// Attaches the adapter of a PEFT folder, to be used or trained further.
    ///
    /// # Errors
    /// A module that the model does not have, a factor that does not fit it, a value that is not finite, an adapter that
    /// brings weights of its own for an embedding or a head.
    pub fn attach(&mut self, adapter: &Adapter, dropout: f64) -> Result<(), Faults> {
        let device = self.device().clone();
        let known = self.adaptable();
        let mut faults = Vec::new();
        for module in adapter.modules()? {
            if !known.iter().any(|path| path == module.path) {
                let message = format!("the adapter has a module `{}` that this model does not have", module.path);
                let hint = "this adapter was made for another base model, or for modules that cannot be adapted here";
                faults.push(Fault::new(message).at(Place::Named(module.path.into())).hint(hint));
                continue;
            }
            let shape = match self.linear(module.path) {
                Some(linear) => linear.shape(),
                None => self.embedding().shape(),
            };
            if [module.out_features, module.in_features] != shape {
                let (a, b) = (&module.a.shape, &module.b.shape);
                let fault = Fault::new(format!("the adapter's factors {a:?} and {b:?} do not fit a matrix {shape:?}"));
                let hint = "this adapter was made for another base model";
                faults.push(fault.at(Place::Named(module.path.into())).hint(hint));
                continue;
            }
            faults.extend(unscalable(module.path, module.magnitude.is_some(), dropout));
            let tensor = |stored: &StoredTensor| -> Result<Tensor<2>, Fault> {
                let shape = [stored.shape[0], stored.shape[1]];
                Ok(Tensor::from_data(TensorData::new(stored.to_f32()?, shape), &device))
            };
            let (a, b) = (tensor(module.a)?, tensor(module.b)?);
            let Some(linear) = self.linear(module.path) else {
                self.attach_to_embedding(EmbeddingLora::new(a, b, module.scale));
                continue;
            };
            let lora = Lora::new(a, b, module.scale, dropout);
            linear.attach(match module.magnitude {
                Some(stored) => {
                    let lengths = Tensor::from_data(TensorData::new(stored.to_f32()?, [shape[0]]), &device);
                    lora.with_magnitude(linear.weight(), Some(lengths))
                }
                None => lora,
            });
        }
        for (path, copy) in adapter.base_copies() {
            let own = match path {
                EMBEDDING => Some(self.embedding()),
                HEAD => Some(self.head().matrix),
                _ => None,
            };
            if !own.is_some_and(|own| copy.to_f32().is_ok_and(|copy| own.is_near(&copy))) {
                let message = "the adapter brings weights of its own, which are not those of this base";
                faults.push(
                    Fault::new(message)
                        .at(Place::Named(path.into()))
                        .hint("merge it with PEFT and adapt the result, or save it with `save_embedding_layers=False`"),
                );
            }
        }
        Faults::check_first(faults)
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
            paths.iter().cloned().partition(|path| [HEAD, EMBEDDING].contains(&path.as_str()));
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

/// A fault where DoRA has no place.
fn unscalable(path: &str, dora: bool, dropout: f64) -> Option<Fault> {
    let message = match path {
        EMBEDDING if dora => "DoRA on an embedding is not supported",
        HEAD if dora && dropout > 0.0 => "DoRA on the head is not supported together with `adapter.dropout`",
        _ => return None,
    };
    let hint = "leave it out of `adapter.targets`, or use `kind = \"lora\"`";
    Some(Fault::new(message).at(Place::Named(path.into())).hint(hint))
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
mod tests {
    use super::matches_module;

    #[test]
    fn a_target_matches_a_whole_last_name_only() {
        assert!(matches_module("model.layers.0.mlp.up_proj", "up_proj"));
        assert!(matches_module("model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"));
        assert!(!matches_module("model.layers.10.mlp.up_proj", "0.mlp.up_proj"));
        assert!(!matches_module("model.layers.0.mlp.up_proj", "p_proj"));
    }
}
