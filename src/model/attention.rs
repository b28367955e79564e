//! Causal self-attention with grouped queries, an optional sliding window and an optional key-value cache.

use burn::tensor::module::attention as composed_attention;
use burn::tensor::{Bool, Int, Tensor};
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::config::Config;
use super::linear::{Linear, project_onto, project_together};
use super::matrix::Matrix;
use super::norm::RmsNorm;
use super::source::Source;
use crate::fused::{AttentionHeads, attention};

/// The attention half of a block.
pub struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    heads: usize,
    key_heads: usize,
    head_dim: usize,
    window: Option<usize>,
}

/// Keys and values of the positions seen so far, of one layer.
#[derive(Clone, Default)]
pub struct LayerCache {
    /// Both `[batch, key_heads, positions, head_dim]`.
    keys_values: Option<(Tensor<4>, Tensor<4>)>,
}

impl LayerCache {
    /// Number of positions kept.
    pub fn length(&self) -> usize {
        self.keys_values.as_ref().map_or(0, |(keys, _)| keys.dims()[2])
    }

    /// Keeps the given rows of the batch, in the given order.
    pub fn select(&mut self, rows: Tensor<1, Int>) {
        if let Some((keys, values)) = self.keys_values.take() {
            self.keys_values = Some((keys.select(0, rows.clone()), values.select(0, rows)));
        }
    }

    fn extend(&mut self, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let joined = match self.keys_values.take() {
            Some((old_keys, old_values)) => {
                (Tensor::cat(vec![old_keys, keys], 2), Tensor::cat(vec![old_values, values], 2))
            }
            None => (keys, values),
        };
        self.keys_values = Some(joined.clone());
        joined
    }
}

impl Attention {
    pub(super) fn load(source: &Source, name: &str, config: &Config, layer: usize) -> Result<Self, Fault> {
        let (hidden, head_dim) = (config.hidden_size, config.head_dim);
        let (heads, key_heads) = (config.num_attention_heads, config.num_key_value_heads);
        let projection = |part: &str, shape, bias| Linear::load(source, &format!("{name}.{part}"), shape, bias);
        let norm = |part: &str| -> Result<Option<RmsNorm>, Fault> {
            let load = || RmsNorm::load(source, &format!("{name}.{part}"), head_dim, config.rms_norm_eps);
            config.query_key_norm.then(load).transpose()
        };
        Ok(Self {
            q_proj: projection("q_proj", [heads * head_dim, hidden], config.qkv_bias)?,
            k_proj: projection("k_proj", [key_heads * head_dim, hidden], config.qkv_bias)?,
            v_proj: projection("v_proj", [key_heads * head_dim, hidden], config.qkv_bias)?,
            o_proj: projection("o_proj", [hidden, heads * head_dim], config.output_bias)?,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            heads,
            key_heads,
            head_dim,
            window: config.sliding_windows[layer],
        })
    }

    /// `residual + attention(x)`
    ///
    /// # Shapes
    /// - `x`, `residual` and output: `[batch, positions, hidden_size]`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let flat = x.reshape([batch * positions, hidden]);
        let packed = matches!(self.q_proj.weight(), Matrix::Packed(_));
        let attended = match cache {
            None if packed && context.visibility.is_none() => self.attend_together(flat, batch, context),
            cache => self.attend(flat, batch, context, cache),
        };
        let residual = residual.reshape([batch * positions, hidden]);
        project_onto(residual, &self.o_proj, attended, context).reshape([batch, positions, hidden])
    }

    /// The fused path: `[batch * positions, hidden_size]` to `[batch * positions, heads * head_dim]`.
    fn attend_together(&self, x: Tensor<2>, batch: usize, context: &Context) -> Tensor<2> {
        let qkv = project_together(&[&self.q_proj, &self.k_proj, &self.v_proj], x, context);
        let qkv = match (&self.q_norm, &self.k_norm) {
            (None, None) => qkv,
            norms => self.normalise_heads(qkv, norms),
        };
        let Self { heads, key_heads, head_dim, window, .. } = *self;
        let (cosine, sine) = context.rotary.tables();
        attention(qkv, cosine, sine, batch, AttentionHeads { heads, key_heads, head_dim, window })
    }

    /// Normalises the heads of queries and keys inside of the packed rows.
    fn normalise_heads(&self, qkv: Tensor<2>, norms: (&Option<RmsNorm>, &Option<RmsNorm>)) -> Tensor<2> {
        let rows = qkv.dims()[0];
        let part = |first: usize, heads: usize, norm: Option<&RmsNorm>| {
            let part = qkv.clone().narrow(1, first * self.head_dim, heads * self.head_dim);
            match norm {
                Some(norm) => {
                    norm.forward(part.reshape([rows * heads, self.head_dim])).reshape([rows, heads * self.head_dim])
                }
                None => part,
            }
        };
        let parts = vec![
            part(0, self.heads, norms.0.as_ref()),
            part(self.heads, self.key_heads, norms.1.as_ref()),
            part(self.heads + self.key_heads, self.key_heads, None),
        ];
        Tensor::cat(parts, 1)
    }

    /// The composed path: `[batch * positions, hidden_size]` to `[batch * positions, heads * head_dim]`.
    fn attend(&self, flat: Tensor<2>, batch: usize, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<2> {
        let positions = flat.dims()[0] / batch;
        let split = |projected: Tensor<2>, heads: usize| projected.reshape([batch, positions, heads, self.head_dim]);
        let queries = split(self.q_proj.forward(flat.clone(), context), self.heads);
        let keys = split(self.k_proj.forward(flat.clone(), context), self.key_heads);
        let values = split(self.v_proj.forward(flat, context), self.key_heads).swap_dims(1, 2);
        let normalise = |norm: &Option<RmsNorm>, x: Tensor<4>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let queries = context.rotary.apply(normalise(&self.q_norm, queries).swap_dims(1, 2));
        let keys = context.rotary.apply(normalise(&self.k_norm, keys).swap_dims(1, 2));
        let (keys, values) = match cache {
            Some(cache) => cache.extend(keys, values),
            None => (keys, values),
        };
        let mask = match &context.visibility {
            Some(visibility) => Some(visibility.mask(self.window, [batch, self.heads])),
            None => self.window_mask(batch, positions, &keys),
        };
        let options = burn::tensor::ops::AttentionModuleOptions { is_causal: true, ..Default::default() };
        let attended = composed_attention(queries, keys, values, mask, None, options);
        attended.swap_dims(1, 2).reshape([batch * positions, self.heads * self.head_dim])
    }

    /// True where a key lies too far back for its query; `None` when the window hides nothing, so that the attention
    /// stays on the fast path.
    fn window_mask(&self, batch: usize, queries: usize, keys: &Tensor<4>) -> Option<Tensor<4, Bool>> {
        let total = keys.dims()[2];
        let window = self.window.filter(|window| *window < total)?;
        let device = keys.device().inner();
        let query = Tensor::<1, Int>::arange((total - queries) as i64..total as i64, &device).reshape([queries, 1]);
        let key = Tensor::<1, Int>::arange(0..total as i64, &device).reshape([1, total]);
        let distance = query.expand([queries, total]) - key.expand([queries, total]);
        let hidden = distance.greater_equal_elem(window as i64);
        Some(hidden.reshape([1, 1, queries, total]).expand([batch, self.heads, queries, total]))
    }

    pub(super) fn linears(&mut self) -> [&mut Linear; 4] {
        [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj]
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        for linear in [&mut self.q_proj, &mut self.k_proj, &mut self.v_proj, &mut self.o_proj] {
            linear.visit(visit);
        }
        for norm in [&mut self.q_norm, &mut self.k_norm].into_iter().flatten() {
            norm.visit(visit);
        }
    }
}
