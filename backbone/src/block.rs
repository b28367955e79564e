//! One block of the decoder: attention and a gated MLP, each with its norms and beside a residual.

use burn::tensor::{DType, Tensor};
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::attention::{Attention, LayerCache};
use super::config::{Config, NormPlaces};
use super::linear::Linear;
use super::mlp::Mlp;
use super::norm::Norm;
use super::ops::{Keeping, low_rank_bytes, norm_bytes};
use super::projections::ProjectionShape;
use super::source::Source;

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`; or with norms on what the two give.
pub struct Block {
    around_attention: Around,
    self_attn: Attention,
    around_mlp: Around,
    mlp: Mlp,
}

/// The norms on the way from the residual stream into attention or MLP and back.
struct Around {
    before: Option<Norm>,
    after: Option<Norm>,
    /// Factor of what is added to the stream.
    scale: f64,
}

impl Block {
    /// The projections of block `layer`, those of one input together, in the order in which they are met. Whatever asks for a
    /// block's projections before it is loaded goes by this list.
    pub(super) fn projections(config: &Config, layer: usize) -> Vec<Vec<ProjectionShape>> {
        [Attention::projections(config, layer), Mlp::projections(config)].concat()
    }

    pub(super) fn load(source: &Source, config: &Config, layer: usize) -> Result<Self, Fault> {
        let name = config.layer_path(layer);
        let [attention, mlp] = config.block_norms();
        let around = |[before, after]: [Option<&str>; 2]| {
            let load = |part: &str| Norm::load(source, &format!("{name}.{part}"), config.hidden_size, config);
            let (before, after) = (before.map(load).transpose()?, after.map(load).transpose()?);
            Ok(Around { before, after, scale: config.residual_scale })
        };
        Ok(Self {
            around_attention: around(attention)?,
            self_attn: Attention::load(source, &name, config, layer)?,
            around_mlp: around(mlp)?,
            mlp: Mlp::load(source, &name, config)?,
        })
    }

    /// # Shapes
    /// - `x` and output: `[batch, positions, hidden_size]`.
    pub fn forward(&self, x: Tensor<3>, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<3> {
        let inner = self.mlp.inner_type(x.dtype());
        let x = self.around_attention.run(x, inner, |x, residual| self.self_attn.forward(x, residual, context, cache));
        self.around_mlp.run(x, inner, |x, residual| self.mlp.forward(x, residual, context))
    }

    pub(super) fn linears(&mut self) -> impl Iterator<Item = &mut Linear> {
        self.linears_by_input().into_iter().flatten()
    }

    /// Its projections as [`Block::projections`] lists them.
    pub(super) fn linears_by_input(&mut self) -> Vec<&mut [Linear]> {
        let mut linears = self.self_attn.linears_by_input();
        linears.extend(self.mlp.linears_by_input());
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
        for linear in self.mlp.linears_by_input().into_iter().flatten() {
            linear.visit(visit);
        }
        after.iter_mut().for_each(|norm| norm.visit(visit));
    }
}

/// Bytes of each token that block `layer` keeps for the way back, beside adapters of so many ranks together: what its
/// operations keep, scores of attention not counted. The residual stream has values of `stream` bytes.
pub fn block_bytes(config: &Config, layer: usize, keeping: &Keeping, stream: u64, ranks: u64) -> u64 {
    // Norms keep the residual stream, and those on what attention and MLP give keep that beside it.
    let norms = if config.norm_places == NormPlaces::Before { 2 } else { 4 };
    norms * norm_bytes(config.hidden_size as u64, stream)
        + Attention::bytes(config, layer, keeping)
        + Mlp::bytes(config, keeping)
        + low_rank_bytes(keeping, ranks)
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
