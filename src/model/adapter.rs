//! Putting low-rank adapters beside the projections: fresh ones, or those of a PEFT folder.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use checkpoints::{Adapter, AdapterConfig, Dtype, StoredTensor};
use faults::{Fault, Faults, Place, nearest};
use losses::Parameter;
use rand::{Rng, SeedableRng};

use super::decoder::Decoder;

/// The key of PEFT files before the module's own path.
const PREFIX: &str = "base_model.model.";

/// Which projections get an adapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// Every projection of every block.
    AllLinear,
    /// Those whose path ends in one of these names, for example `q_proj` or `layers.3.mlp.up_proj`.
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
}

impl AdapterSettings {
    /// The factor of the low-rank path.
    pub fn scale(&self) -> f64 {
        if self.rslora { self.alpha / (self.rank as f64).sqrt() } else { self.alpha / self.rank as f64 }
    }

    /// `adapter_config.json` of such an adapter, on a base named `base`.
    pub fn to_config(&self, base: &str, modules: Vec<String>) -> AdapterConfig {
        AdapterConfig {
            base_model_name_or_path: Some(base.into()),
            lora_dropout: self.dropout,
            use_rslora: self.rslora,
            ..AdapterConfig::new(self.rank, self.alpha, modules)
        }
    }
}

impl Targets {
    fn includes(&self, path: &str) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Named(names) => names.iter().any(|name| matches_module(path, name)),
        }
    }
}

/// As PEFT matches a list of target modules: the whole path, or its end after a dot.
pub fn matches_module(path: &str, name: &str) -> bool {
    path == name || path.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

impl Decoder {
    /// Attaches fresh adapters: `A ~ U(-1/sqrt(in), 1/sqrt(in))`, `B = 0`, both f32 (PEFT's default). Each is drawn from
    /// a stream of its own, so that other targets leave it as it is.
    ///
    /// # Errors
    /// A target that no projection matches, a rank larger than a projection.
    pub fn attach_fresh(&mut self, settings: &AdapterSettings, seed: u64) -> Result<(), Faults> {
        self.check_targets(&settings.targets)?;
        let device = self.device().clone();
        for linear in self.linears().filter(|linear| settings.targets.includes(linear.name())) {
            let [outputs, inputs] = linear.shape();
            let (rank, bound) = (settings.rank, 1.0 / (inputs as f32).sqrt());
            let key = crate::random::key(seed, &["adapter", linear.name()]);
            let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(key);
            let a: Vec<f32> = (0..rank * inputs).map(|_| random.random_range(-bound..bound)).collect();
            let a = Tensor::from_data(TensorData::new(a, [rank, inputs]), &device);
            linear.attach(a, Tensor::zeros([outputs, rank], &device), settings.scale(), settings.dropout);
        }
        Ok(())
    }

    fn check_targets(&mut self, targets: &Targets) -> Result<(), Faults> {
        let Targets::Named(names) = targets else { return Ok(()) };
        let paths: Vec<String> = self.linears().map(|linear| linear.name().to_owned()).collect();
        let mut known: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
        known.sort_unstable();
        known.dedup();
        let unmatched = names.iter().filter(|name| !paths.iter().any(|path| matches_module(path, name)));
        let faults = unmatched.map(|name| {
            let near = nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`? "));
            Fault::new(format!("`adapter.targets` names `{name}`, which no projection of this model matches"))
                .hint(format!("{}known: {}", near.unwrap_or_default(), known.join(", ")))
        });
        Faults::check(faults.collect())
    }

    /// Attaches the adapter of a PEFT folder, to be used or trained further.
    ///
    /// # Errors
    /// A module that the model does not have, a factor that does not fit it, a value that is not finite.
    pub fn attach(&mut self, adapter: &Adapter, dropout: f64) -> Result<(), Faults> {
        let device = self.device().clone();
        let mut modules: BTreeMap<String, _> =
            adapter.modules()?.into_iter().map(|module| (module.path.to_owned(), module)).collect();
        let mut faults = Vec::new();
        for linear in self.linears() {
            let Some(module) = modules.remove(linear.name()) else { continue };
            let [outputs, inputs] = linear.shape();
            if module.in_features != inputs || module.out_features != outputs {
                let (a, b) = (&module.a.shape, &module.b.shape);
                faults.push(
                    Fault::new(format!(
                        "the adapter's factors {a:?} and {b:?} do not fit a projection [{outputs}, {inputs}]"
                    ))
                    .at(Place::Named(linear.name().into()))
                    .hint("this adapter was made for another base model"),
                );
                continue;
            }
            let tensor = |stored: &StoredTensor| -> Result<Tensor<2>, Fault> {
                let shape = [stored.shape[0], stored.shape[1]];
                Ok(Tensor::from_data(TensorData::new(stored.to_f32()?, shape), &device))
            };
            linear.attach(tensor(module.a)?, tensor(module.b)?, module.scale, dropout);
        }
        faults.extend(modules.keys().take(8).map(|name| {
            Fault::new(format!("the adapter has a module `{name}` that this model does not have"))
                .at(Place::Named(name.clone()))
                .hint("this adapter was made for another base model, or for modules that cannot be adapted here")
        }));
        Faults::check(faults)
    }

    /// The adapter's tensors under PEFT's keys.
    pub fn adapter_tensors(&mut self) -> BTreeMap<String, StoredTensor> {
        self.collect(|name| name.contains(".lora_"), |name| format!("{PREFIX}{name}"))
    }

    /// Every weight of the backbone under its own name.
    pub fn base_tensors(&mut self) -> BTreeMap<String, StoredTensor> {
        self.collect(|name| !name.contains(".lora_"), str::to_owned)
    }

    /// Names of the projections that carry an adapter, such as `q_proj`, for `target_modules`.
    pub fn adapted_modules(&mut self) -> Vec<String> {
        let mut paths = Vec::new();
        self.visit(&mut |name, _| paths.extend(name.strip_suffix(".lora_A.weight").map(str::to_owned)));
        let last = |path: &String| path.rsplit('.').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = paths.iter().map(last).collect();
        names.sort_unstable();
        names.dedup();
        // Short names say it all only when every layer has them.
        if paths.len() == names.len() * self.layers.len() { names } else { paths }
    }

    fn collect(&mut self, wanted: fn(&str) -> bool, rename: fn(&str) -> String) -> BTreeMap<String, StoredTensor> {
        let mut tensors = BTreeMap::new();
        self.visit(&mut |name, parameter| {
            if wanted(name) {
                let (shape, values) = match parameter {
                    Parameter::Vector(tensor) => (tensor.dims().to_vec(), tensor.clone().inner().into_data()),
                    Parameter::Matrix(tensor) => (tensor.dims().to_vec(), tensor.clone().inner().into_data()),
                };
                let stored = StoredTensor { dtype: dtype_of(&values), shape, bytes: values.bytes().to_vec() };
                tensors.insert(rename(name), stored);
            }
        });
        tensors
    }
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
