//! Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467).

use burn::tensor::{DType, Tensor};
use faults::Fault;
use losses::Parameter;

use super::linear::beside;
use super::source::Source;

/// `x / sqrt(mean(x^2) + eps) * weight`, computed in f32 whatever the type of `x`.
pub struct RmsNorm {
    name: String,
    /// `[features]`
    weight: Tensor<1>,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn load(source: &Source, name: &str, size: usize, epsilon: f64) -> Result<Self, Fault> {
        Ok(Self { name: name.into(), weight: source.vector(&format!("{name}.weight"), size, 1.0)?, epsilon })
    }

    /// Normalises the last dimension.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        self.forward_as(x, dtype)
    }

    /// Normalises the last dimension and gives the result in the type `dtype`.
    pub fn forward_as<const D: usize>(&self, x: Tensor<D>, dtype: DType) -> Tensor<D> {
        if crate::device::is_cpu(&x.device().inner()) {
            let weight = beside(&self.weight, &x).cast(DType::F32);
            return crate::fused::rms_norm(x, weight, self.epsilon, dtype);
        }
        let x = x.cast(DType::F32);
        let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
        let weight = beside(&self.weight, &x).cast(DType::F32);
        (x / (mean_square + self.epsilon).sqrt() * weight.unsqueeze()).cast(dtype)
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        visit(&format!("{}.weight", self.name), Parameter::Vector(&mut self.weight));
    }
}
