//! One block of the decoder: attention and a gated MLP, each behind a norm and beside a residual.

use burn::tensor::activation::silu;
use burn::tensor::{DType, Tensor};
use faults::Fault;
use kernels::Precision;
use losses::Parameter;

use super::Context;
use super::attention::{Attention, LayerCache};
use super::config::Config;
use super::linear::{Linear, project_onto, project_together};
use super::matrix::Matrix;
use super::norm::RmsNorm;
use super::source::Source;
use crate::fused::swiglu;

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
pub struct Block {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

/// SwiGLU (Shazeer 2020, arXiv 2002.05202): `down(silu(gate(x)) * up(x))`.
struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Block {
    pub(super) fn load(source: &Source, config: &Config, layer: usize) -> Result<Self, Fault> {
        let name = format!("model.layers.{layer}");
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let norm = |part: &str| RmsNorm::load(source, &format!("{name}.{part}"), hidden, config.rms_norm_eps);
        let linear = |part: &str, shape| Linear::load(source, &format!("{name}.mlp.{part}"), shape, config.mlp_bias);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            self_attn: Attention::load(source, &format!("{name}.self_attn"), config, layer)?,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp: Mlp {
                gate_proj: linear("gate_proj", [inner, hidden])?,
                up_proj: linear("up_proj", [inner, hidden])?,
                down_proj: linear("down_proj", [hidden, inner])?,
            },
        })
    }

    /// # Shapes
    /// - `x` and output: `[batch, positions, hidden_size]`.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let normed = self.input_layernorm.forward_as(x.clone(), self.inner_type(&x));
        let x = self.self_attn.forward(normed, x, context, cache);
        let normed = self.post_attention_layernorm.forward_as(x.clone(), self.inner_type(&x));
        self.mlp.forward(normed, x, context)
    }

    /// The type of activations between products: that of packed bf16 matrices, else that of the residual stream.
    fn inner_type(&self, x: &Tensor<3>) -> DType {
        match self.mlp.gate_proj.weight() {
            Matrix::Packed(packed) if packed.precision() == Precision::Bf16 => DType::BF16,
            _ => x.dtype(),
        }
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        let Mlp { gate_proj, up_proj, down_proj } = &mut self.mlp;
        self.self_attn.linears().into_iter().chain([gate_proj, up_proj, down_proj])
    }

    /// Shows every weight, trained or not, by its name.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        self.input_layernorm.visit(visit);
        self.self_attn.visit(visit);
        self.post_attention_layernorm.visit(visit);
        let Mlp { gate_proj, up_proj, down_proj } = &mut self.mlp;
        for linear in [gate_proj, up_proj, down_proj] {
            linear.visit(visit);
        }
    }
}

impl Mlp {
    /// `residual + mlp(x)`
    fn forward(&self, x: Tensor<3>, residual: Tensor<3>, context: &Context) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let flat = x.reshape([batch * positions, hidden]);
        let gated = if matches!(self.gate_proj.weight(), Matrix::Packed(_)) {
            swiglu(project_together(&[&self.gate_proj, &self.up_proj], flat, context))
        } else {
            silu(self.gate_proj.forward(flat.clone(), context)) * self.up_proj.forward(flat, context)
        };
        let residual = residual.reshape([batch * positions, hidden]);
        project_onto(residual, &self.down_proj, gated, context).reshape([batch, positions, hidden])
    }
}
