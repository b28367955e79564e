//! One block of the decoder: attention and a gated MLP, each behind a norm and beside a residual.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::attention::{Attention, LayerCache};
use super::config::Config;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::source::Source;

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
        let attended = self.self_attn.forward(self.input_layernorm.forward(x.clone()), context, cache);
        let x = x + attended;
        let transformed = self.mlp.forward(self.post_attention_layernorm.forward(x.clone()), context);
        x + transformed
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
    fn forward(&self, x: Tensor<3>, context: &Context) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let flat = x.reshape([batch * positions, hidden]);
        let gate = silu(self.gate_proj.forward(flat.clone(), context));
        let up = self.up_proj.forward(flat, context);
        self.down_proj.forward(gate * up, context).reshape([batch, positions, hidden])
    }
}
