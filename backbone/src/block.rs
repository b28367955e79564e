//! One block of the decoder: attention and a gated MLP, each with its norms and beside a residual.

use burn::tensor::{DType, Tensor};
use faults::Fault;
use kernels::Precision;
use losses::Parameter;

use super::Context;
use super::attention::{Attention, LayerCache};
use super::config::{Config, NormPlaces, QueryKeyNorm};
use super::linear::{Linear, project_apart, project_onto, project_together};
use super::norm::Norm;
use super::ops::Matrix;
use super::source::Source;
use crate::ops::{Activation, attention_bytes, gated, gated_bytes, gated_together, norm_bytes, project_bytes};

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`; or with norms on what the two give.
pub struct Block {
    around_attention: Around,
    self_attn: Attention,
    around_mlp: Around,
    mlp: Mlp,
}

/// What stands between the residual stream and a part of the block.
struct Around {
    before: Option<Norm>,
    after: Option<Norm>,
    /// Factor of what is added to the stream.
    scale: f64,
}

/// A gated linear unit (Shazeer 2020, arXiv 2002.05202): `down(activation(gate(x)) * up(x))`.
struct Mlp {
    /// Gate and up: a projection each, or one for both.
    gate_up: Vec<Linear>,
    down_proj: Linear,
    inner: usize,
    activation: Activation,
}

/// Bytes of each token that a block keeps on the CPU for the way back, beside frozen matrices of this type and adapters of so
/// many ranks together: what its operations keep.
pub fn block_bytes(config: &Config, dtype: DType, ranks: u64) -> u64 {
    let size = dtype.size() as u64;
    let (hidden, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let (queries, keys) = (config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim);
    // Norms keep the residual stream, and those on what attention and MLP give keep that beside it.
    let norms = if config.norm_places == NormPlaces::Before { 2 } else { 4 };
    let normed = match config.query_key_norm {
        QueryKeyNorm::None => 0,
        _ => norm_bytes((queries + keys) as u64, size),
    };
    // Of queries, keys and values; of gate and up; of the way down. What goes into the output projection, the attention keeps.
    let projections = 2 * project_bytes(hidden, size, 0) + project_bytes(inner, size, ranks);
    let rest = attention_bytes(&config.attention_heads(), size) + gated_bytes(inner, size);
    norms * norm_bytes(hidden, 4) + normed + projections + rest
}

impl Block {
    pub(super) fn load(source: &Source, config: &Config, layer: usize) -> Result<Self, Fault> {
        let name = config.layer_path(layer);
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let [attention, mlp] = config.block_norms();
        let around = |[before, after]: [Option<&str>; 2]| {
            let load = |part: &str| Norm::load(source, &format!("{name}.{part}"), hidden, config);
            let (before, after) = (before.map(load).transpose()?, after.map(load).transpose()?);
            Ok(Around { before, after, scale: config.residual_scale })
        };
        let linear = |part: &str, shape| Linear::load(source, &format!("{name}.mlp.{part}"), shape, config.mlp_bias);
        Ok(Self {
            around_attention: around(attention)?,
            self_attn: Attention::load(source, &format!("{name}.self_attn"), config, layer)?,
            around_mlp: around(mlp)?,
            mlp: Mlp {
                gate_up: match config.fused_projections {
                    true => vec![linear("gate_up_proj", [2 * inner, hidden])?],
                    false => vec![linear("gate_proj", [inner, hidden])?, linear("up_proj", [inner, hidden])?],
                },
                down_proj: linear("down_proj", [hidden, inner])?,
                inner,
                activation: config.activation,
            },
        })
    }

    /// # Shapes
    /// - `x` and output: `[batch, positions, hidden_size]`.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let inner = self.inner_type(&x);
        let x = self.around_attention.run(x, inner, |x, residual| self.self_attn.forward(x, residual, context, cache));
        self.around_mlp.run(x, inner, |x, residual| self.mlp.forward(x, residual, context))
    }

    /// The type of activations between products: that of packed bf16 matrices, else that of the residual stream.
    fn inner_type(&self, x: &Tensor<3>) -> DType {
        match self.mlp.down_proj.weight() {
            Matrix::Packed(packed) if packed.precision() == Precision::Bf16 => DType::BF16,
            _ => x.dtype(),
        }
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.linears_by_input().into_iter().flatten()
    }

    /// Its projections, those of one input together, in the order in which they are met.
    pub(super) fn linears_by_input(&mut self) -> Vec<&mut [Linear]> {
        let mut linears = self.self_attn.linears_by_input();
        linears.extend([&mut self.mlp.gate_up[..], std::slice::from_mut(&mut self.mlp.down_proj)]);
        linears
    }

    /// Shows every weight, trained or not, by its name.
    pub fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        let Around { before, after, .. } = &mut self.around_attention;
        before.iter_mut().for_each(|norm| norm.visit(visit));
        self.self_attn.visit(visit);
        after.iter_mut().for_each(|norm| norm.visit(visit));
        let Around { before, after, .. } = &mut self.around_mlp;
        before.iter_mut().for_each(|norm| norm.visit(visit));
        let Mlp { gate_up, down_proj, .. } = &mut self.mlp;
        for linear in gate_up.iter_mut().chain([down_proj]) {
            linear.visit(visit);
        }
        after.iter_mut().for_each(|norm| norm.visit(visit));
    }
}

impl Around {
    /// `x + scale * after(part(before(x)))`, where `part` takes its input in the type `inner`, and the stream to add its
    /// output to if nothing comes between.
    fn run(
        &self,
        x: Tensor<3>,
        inner: DType,
        part: impl FnOnce(Tensor<3>, Option<Tensor<3>>) -> Tensor<3>,
    ) -> Tensor<3> {
        let input = match &self.before {
            Some(norm) => norm.forward_as(x.clone(), inner),
            None => x.clone().cast(inner),
        };
        if self.after.is_none() && self.scale == 1.0 {
            return part(input, Some(x));
        }
        let output = part(input, None);
        let output = match &self.after {
            Some(norm) => norm.forward_as(output, x.dtype()),
            None => output.cast(x.dtype()),
        };
        x + if self.scale == 1.0 { output } else { output.mul_scalar(self.scale) }
    }
}

impl Mlp {
    /// `residual + mlp(x)`
    fn forward(&self, x: Tensor<3>, residual: Option<Tensor<3>>, context: &Context) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let flat = x.reshape([batch * positions, hidden]);
        let gated = if matches!(self.down_proj.weight(), Matrix::Packed(_)) {
            let gate_up = project_together(&self.gate_up, flat, context);
            gated_together(gate_up, self.activation)
        } else {
            let [gate, up] = project_apart(&self.gate_up, [self.inner; 2], flat, context);
            gated(gate, up, self.activation)
        };
        let residual = residual.map(|residual| residual.reshape([batch * positions, hidden]));
        project_onto(residual, &self.down_proj, gated, context).reshape([batch, positions, hidden])
    }
}
