//! A projection with an optional low-rank adapter beside it.

use burn::tensor::Tensor;
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::lora::Lora;
use super::ops::{self, Matrix, Projected, Projection};
use super::projections::ProjectionShape;
use super::source::Source;

/// `y = x W^T + b`, the matrix frozen or trained, with what an adapter adds.
pub struct Linear {
    name: String,
    /// `[out, in]`
    weight: Matrix,
    /// `[out]`
    bias: Option<Tensor<1>>,
    lora: Option<Lora>,
}

impl Linear {
    pub(super) fn load(source: &Source, name: &str, shape: [usize; 2], bias: bool) -> Result<Self, Fault> {
        let weight = source.projection(&format!("{name}.weight"), shape)?;
        let bias = if bias { Some(source.vector(&format!("{name}.bias"), shape[0], 0.0)?) } else { None };
        Ok(Self { name: name.into(), weight, bias, lora: None })
    }

    /// A projection of the block at path `block`.
    pub(super) fn load_in(source: &Source, block: &str, shape: &ProjectionShape) -> Result<Self, Fault> {
        Self::load(source, &format!("{block}.{}", shape.path), shape.sides, shape.has_bias)
    }

    /// A projection by a frozen matrix that another part of the model has, too.
    pub(super) fn sharing(name: &str, weight: Matrix) -> Self {
        Self { name: name.into(), weight, bias: None, lora: None }
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

    /// The adapter, if there is one.
    pub(super) fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Puts another matrix of the same shape in the place of a frozen one.
    pub(super) fn replace_weight(&mut self, weight: Matrix) {
        assert_eq!(weight.shape(), self.shape(), "a matrix of another shape");
        self.weight = weight;
    }

    /// Puts an adapter beside the matrix.
    pub(super) fn attach(&mut self, lora: Lora) {
        self.lora = Some(lora);
    }

    /// Matrix, bias and adapter as a pass uses them.
    fn in_pass(&self, context: &Context) -> Projection<'_> {
        let lora = match &self.lora {
            Some(lora) if context.without_adapter => lora.taken(),
            lora => lora.as_ref(),
        };
        let Self { name, weight, bias, .. } = self;
        Projection { name, weight, bias: bias.as_ref(), lora, dropout_seed: context.dropout_seed }
    }

    /// `residual + project(x)`, or the projection alone.
    ///
    /// # Shapes
    /// - `x`: `[tokens, in]`; `residual`: `[tokens, out]`; output `[tokens, out]`, of the type of `residual`. Tracked when `x` is.
    pub(super) fn forward(&self, x: Tensor<2>, residual: Option<Tensor<2>>, context: &Context) -> Tensor<2> {
        context.watch(&self.name, &x);
        match residual {
            Some(residual) => ops::project_onto(residual, self.in_pass(context), x),
            None => ops::project(self.in_pass(context), x),
        }
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        if let Some(weight) = self.weight.as_tensor_mut() {
            visit(&format!("{}.weight", self.name), Parameter::Matrix(weight));
        }
        if let Some(bias) = &mut self.bias {
            visit(&format!("{}.bias", self.name), Parameter::Vector(bias));
        }
        if let Some(lora) = &mut self.lora {
            lora.visit(&self.name, visit);
        }
    }
}

/// Projections of one input, as many as there are outputs or one for all.
pub(super) struct Linears(Vec<Linear>);

impl Linears {
    /// Loads projections of the block at path `block`.
    pub fn load_in(source: &Source, block: &str, shapes: &[ProjectionShape]) -> Result<Self, Fault> {
        shapes.iter().map(|shape| Linear::load_in(source, block, shape)).collect::<Result<_, _>>().map(Self)
    }

    pub fn as_mut_slice(&mut self) -> &mut [Linear] {
        &mut self.0
    }

    fn in_pass(&self, x: &Tensor<2>, context: &Context) -> Vec<Projection<'_>> {
        // All have the same input.
        if let [first, ..] = &self.0[..] {
            context.watch(&first.name, x);
        }
        self.0.iter().map(|linear| linear.in_pass(context)).collect()
    }

    /// [`ops::project_together`]
    pub fn together<const N: usize>(&self, widths: [usize; N], x: Tensor<2>, context: &Context) -> Projected<N> {
        ops::project_together(&self.in_pass(&x, context), widths, x)
    }

    /// [`ops::project_apart`]
    pub fn apart<const N: usize>(&self, widths: [usize; N], x: Tensor<2>, context: &Context) -> [Tensor<2>; N] {
        ops::project_apart(&self.in_pass(&x, context), widths, x)
    }
}

#[cfg(test)]
mod tests;
