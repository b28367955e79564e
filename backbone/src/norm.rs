//! A norm with its weights.

use burn::tensor::{DType, Tensor};
use faults::Fault;
use losses::Parameter;

use super::config::{Config, NormKind};
use super::ops::on_side_of;
use super::source::Source;

/// `x / sqrt(mean(x^2) + eps) * weight`, computed in f32 whatever the type of `x`; without weights, of `x - mean(x)`.
pub struct Norm {
    name: String,
    width: usize,
    /// `[features]`
    weight: Option<Tensor<1>>,
    /// Added to the weights.
    offset: f64,
    epsilon: f64,
}

impl Norm {
    pub(super) fn load(source: &Source, name: &str, size: usize, config: &Config) -> Result<Self, Fault> {
        let offset = if config.norm == NormKind::RmsPlusOne { 1.0 } else { 0.0 };
        let weight = match config.norm {
            NormKind::LayerWithoutWeights => None,
            _ => Some(source.vector(&format!("{name}.weight"), size, 1.0 - offset as f32)?),
        };
        Ok(Self { name: name.into(), width: size, weight, offset, epsilon: config.norm_epsilon })
    }

    /// How many values are normalised together.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        self.forward_as(x, dtype)
    }

    /// Normalises the last dimension and gives the result in the type `dtype`.
    pub fn forward_as<const D: usize>(&self, x: Tensor<D>, dtype: DType) -> Tensor<D> {
        let weight = self.weight.as_ref().map(|weight| {
            let weight = on_side_of(&x, weight).cast(DType::F32);
            if self.offset == 0.0 { weight } else { weight.add_scalar(self.offset) }
        });
        crate::ops::norm(x, weight, self.epsilon, dtype)
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        if let Some(weight) = &mut self.weight {
            visit(&format!("{}.weight", self.name), Parameter::Vector(weight));
        }
    }
}
