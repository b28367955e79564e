//! The gated MLP of a block.

use burn::tensor::{DType, Tensor};
use faults::Fault;

use super::Context;
use super::config::Config;
use super::linear::{Linear, Linears};
use super::ops::{Activation, Keeping, gated, gated_bytes, project_bytes};
use super::projections::ProjectionShape;
use super::source::Source;

/// A gated linear unit (Shazeer 2020, arXiv 2002.05202): `down(activation(gate(x)) * up(x))`.
pub struct Mlp {
    /// Gate and up: a projection each, or one for both.
    gate_up: Linears,
    down: Linear,
    activation: Activation,
}

impl Mlp {
    /// Gate and up, of the hidden states, and down, of the gated values.
    fn shapes(config: &Config) -> (Vec<ProjectionShape>, ProjectionShape) {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let shape = |path, sides| ProjectionShape { path, sides, has_bias: config.mlp_bias };
        let gate_up = match config.fused_projections {
            true => vec![shape("mlp.gate_up_proj", [2 * inner, hidden])],
            false => vec![shape("mlp.gate_proj", [inner, hidden]), shape("mlp.up_proj", [inner, hidden])],
        };
        (gate_up, shape("mlp.down_proj", [hidden, inner]))
    }

    /// Its projections, those of one input together, in the order in which they are met.
    pub(super) fn projections(config: &Config) -> Vec<Vec<ProjectionShape>> {
        let (gate_up, down) = Self::shapes(config);
        vec![gate_up, vec![down]]
    }

    pub(super) fn load(source: &Source, block: &str, config: &Config) -> Result<Self, Fault> {
        let (gate_up, down) = Self::shapes(config);
        Ok(Self {
            gate_up: Linears::load_in(source, block, &gate_up)?,
            down: Linear::load_in(source, block, &down)?,
            activation: config.activation,
        })
    }

    /// Bytes of each token that its operations keep for the way back.
    pub(super) fn bytes(config: &Config, keeping: &Keeping) -> u64 {
        let (gate_up, down) = Self::shapes(config);
        let (hidden, inner) = (config.hidden_size as u64, down.sides[1] as u64);
        project_bytes(keeping, hidden, gate_up.len() as u64)
            + gated_bytes(keeping, inner)
            + project_bytes(keeping, inner, 1)
    }

    /// `residual + mlp(x)`, or the MLP alone.
    ///
    /// # Shapes
    /// - `x`, `residual` and output: `[batch, positions, hidden_size]`.
    pub(super) fn forward(&self, x: Tensor<3>, residual: Option<Tensor<3>>, context: &Context) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let rows = |x: Tensor<3>| x.reshape([batch * positions, hidden]);
        let inner = self.down.shape()[1];
        let gated = gated(self.gate_up.together([inner; 2], rows(x), context), self.activation);
        self.down.forward(gated, residual.map(rows), context).reshape([batch, positions, hidden])
    }

    /// The type of activations between products, where the residual stream has the type `stream`.
    pub(super) fn inner_type(&self, stream: DType) -> DType {
        self.down.weight().inner_type(stream)
    }

    /// Its projections as [`Mlp::projections`] lists them.
    pub(super) fn linears_by_input(&mut self) -> Vec<&mut [Linear]> {
        vec![self.gate_up.as_mut_slice(), std::slice::from_mut(&mut self.down)]
    }
}
