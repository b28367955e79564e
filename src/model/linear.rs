//! A projection with an optional low-rank adapter beside it.

use std::sync::Arc;

use burn::tensor::{DType, Distribution, Tensor};
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::matrix::Matrix;
use super::source::Source;
use crate::fused;

/// `y = x W^T + b + s * dropout(x) A^T B^T`: the frozen (or trained) matrix and the low-rank path (Hu et al. 2021,
/// arXiv 2106.09685). The product `B A` is never formed.
pub struct Linear {
    name: String,
    /// `[out, in]`
    weight: Matrix,
    /// `[out]`
    bias: Option<Tensor<1>>,
    lora: Option<Lora>,
}

struct Lora {
    /// `[rank, in]`
    a: Tensor<2>,
    /// `[out, rank]`
    b: Tensor<2>,
    scale: f64,
    dropout: f64,
}

impl Linear {
    pub(super) fn load(source: &Source, name: &str, shape: [usize; 2], bias: bool) -> Result<Self, Fault> {
        let weight = source.projection(&format!("{name}.weight"), shape)?;
        let bias = if bias { Some(source.vector(&format!("{name}.bias"), shape[0], 0.0)?) } else { None };
        Ok(Self { name: name.into(), weight, bias, lora: None })
    }

    /// The dotted path, for example `model.layers.0.self_attn.q_proj`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `[out, in]`
    pub fn shape(&self) -> [usize; 2] {
        self.weight.shape()
    }

    /// The matrix itself, without the adapter.
    pub(super) fn weight(&self) -> &Matrix {
        &self.weight
    }

    /// Puts an adapter beside the matrix: leaves that require a gradient.
    ///
    /// # Shapes
    /// - `a`: `[rank, in]`, `b`: `[out, rank]`, f32.
    pub fn attach(&mut self, a: Tensor<2>, b: Tensor<2>, scale: f64, dropout: f64) {
        let leaf = |tensor: Tensor<2>| tensor.autodiff().require_grad();
        self.lora = Some(Lora { a: leaf(a), b: leaf(b), scale, dropout });
    }

    /// # Shapes
    /// - `x`: `[tokens, in]`; output `[tokens, out]`. Tracked when `x` is.
    pub fn forward(&self, x: Tensor<2>, context: &Context) -> Tensor<2> {
        if let Some(part) = self.packed_part(&x, context) {
            return fused::project(x, vec![part], None, DType::F32);
        }
        let y = match &self.weight {
            Matrix::Tensor(weight) => x.clone().matmul(beside(weight, &x).transpose()),
            Matrix::Packed(weight) => {
                let frozen = fused::Projection { weight: weight.clone(), bias: None };
                fused::project(x.clone(), vec![(frozen, None)], None, DType::F32)
            }
            Matrix::Codes(weight) => weight.product(x.clone()),
        };
        let y = match &self.bias {
            Some(bias) => y + beside(bias, &x).unsqueeze(),
            None => y,
        };
        let Some(lora) = &self.lora else { return y };
        let dtype = y.dtype();
        let (a, b) = (beside(&lora.a, &x).cast(dtype), beside(&lora.b, &x).cast(dtype));
        let x = x.cast(dtype);
        let dropped = match context.dropout_seed {
            Some(seed) if lora.dropout > 0.0 => self.drop(x, lora.dropout, seed),
            _ => x,
        };
        y + dropped.matmul(a.transpose()).matmul(b.transpose()).mul_scalar(lora.scale)
    }

    /// This projection as a part of a fused one; `None` where it has to be composed: the matrix is not packed, or inputs
    /// of the adapter are dropped.
    fn packed_part(&self, x: &Tensor<2>, context: &Context) -> Option<(fused::Projection, Option<fused::Adapter>)> {
        let Matrix::Packed(weight) = &self.weight else { return None };
        let drops = |lora: &Lora| context.dropout_seed.is_some() && lora.dropout > 0.0;
        if self.lora.as_ref().is_some_and(drops) {
            return None;
        }
        let host = |bias: &Tensor<1>| crate::engine::trainee::values(bias.clone().inner());
        let bias = self.bias.as_ref().map(|bias| Arc::new(host(bias)));
        let adapter = self.lora.as_ref().map(|lora| fused::Adapter {
            a: beside(&lora.a, x),
            b: beside(&lora.b, x),
            scale: lora.scale,
        });
        Some((fused::Projection { weight: weight.clone(), bias }, adapter))
    }

    /// The same places are dropped whenever the same micro-batch passes again, so that recomputed blocks and resumed
    /// runs see what the first pass saw.
    fn drop(&self, x: Tensor<2>, probability: f64, seed: u64) -> Tensor<2> {
        let device = x.device().inner();
        device.seed(crate::random::key(seed, &["dropout", &self.name]));
        let keep = 1.0 - probability;
        let mask = Tensor::<2>::random(x.dims(), Distribution::Bernoulli(keep), (&device, x.dtype()));
        x * mask.div_scalar(keep)
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        if let Matrix::Tensor(weight) = &mut self.weight {
            visit(&format!("{}.weight", self.name), Parameter::Matrix(weight));
        }
        if let Some(bias) = &mut self.bias {
            visit(&format!("{}.bias", self.name), Parameter::Vector(bias));
        }
        if let Some(lora) = &mut self.lora {
            visit(&format!("{}.lora_A.weight", self.name), Parameter::Matrix(&mut lora.a));
            visit(&format!("{}.lora_B.weight", self.name), Parameter::Matrix(&mut lora.b));
        }
    }
}

/// Projections of one input, side by side.
///
/// # Shapes
/// - `x`: `[tokens, in]`; output `[tokens, sum of out]`, of the type of `x`.
pub(super) fn project_together(linears: &[Linear], x: Tensor<2>, context: &Context) -> Tensor<2> {
    let dtype = x.dtype();
    if let Some(parts) = linears.iter().map(|linear| linear.packed_part(&x, context)).collect() {
        return fused::project(x, parts, None, dtype);
    }
    Tensor::cat(linears.iter().map(|linear| linear.forward(x.clone(), context).cast(dtype)).collect(), 1)
}

/// Parts of these `widths`, each of a projection of its own, or all of one.
///
/// # Shapes
/// - `x`: `[tokens, in]`; outputs `[tokens, width]`.
pub(super) fn project_apart<const N: usize>(
    linears: &[Linear],
    widths: [usize; N],
    x: Tensor<2>,
    context: &Context,
) -> [Tensor<2>; N] {
    if let [linear] = linears {
        let (y, mut start) = (linear.forward(x, context), 0);
        return widths.map(|width| {
            start += width;
            y.clone().narrow(1, start - width, width)
        });
    }
    let mut linears = linears.iter();
    widths.map(|_| linears.next().expect("a projection for each width").forward(x.clone(), context))
}

/// `residual + linear(x)`, or the projection alone.
///
/// # Shapes
/// - `x`: `[tokens, in]`; `residual` and output: `[tokens, out]`, of the type of `residual`.
pub(super) fn project_onto(residual: Option<Tensor<2>>, linear: &Linear, x: Tensor<2>, context: &Context) -> Tensor<2> {
    let Some(residual) = residual else { return linear.forward(x, context) };
    match linear.packed_part(&x, context) {
        Some(part) if linear.bias.is_none() && residual.dtype() == DType::F32 => {
            fused::project(x, vec![part], Some(residual), DType::F32)
        }
        _ => residual + linear.forward(x, context),
    }
}

/// A weight on the side of `x`: a tracked leaf in a tracked computation, its plain values in any other.
pub(super) fn beside<const D: usize, const E: usize>(weight: &Tensor<D>, x: &Tensor<E>) -> Tensor<D> {
    if x.is_autodiff() { weight.clone() } else { weight.clone().inner() }
}
