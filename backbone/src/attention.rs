//! Causal self-attention with grouped queries, and whatever a family adds: a sliding window, norms on queries and keys, a
//! soft cap on the scores; with an optional key-value cache.

use burn::tensor::{Int, Tensor};
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::config::{Config, LayerRotary};
use super::linear::{Linear, project_apart, project_onto, project_together};
use super::norm::Norm;
use super::ops::Matrix;
use super::rotary::Rotary;
use super::source::Source;
use super::visibility::Visibility;
use crate::ops::{AttentionHeads, attend, attention};

/// The attention half of a block.
pub struct Attention {
    /// Queries, keys and values: a projection each, or one for all.
    qkv: Vec<Linear>,
    o_proj: Linear,
    /// Those of queries and of keys, over as many values as each is wide.
    norms: Option<[Norm; 2]>,
    heads: AttentionHeads,
    rotary: LayerRotary,
    /// The pairs that are turned are neighbours.
    turns_neighbours: bool,
    clip: Option<f64>,
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
        let (queries, keys) = (heads * head_dim, key_heads * head_dim);
        let projection = |part: &str, shape, bias| Linear::load(source, &format!("{name}.{part}"), shape, bias);
        let norm = |part: &str, size| Norm::load(source, &format!("{name}.{part}"), size, config);
        let window = config.sliding_windows[layer];
        Ok(Self {
            qkv: match config.fused_projections {
                true => vec![projection("qkv_proj", [queries + 2 * keys, hidden], config.qkv_bias)?],
                false => vec![
                    projection("q_proj", [queries, hidden], config.qkv_bias)?,
                    projection("k_proj", [keys, hidden], config.qkv_bias)?,
                    projection("v_proj", [keys, hidden], config.qkv_bias)?,
                ],
            },
            o_proj: projection("o_proj", [hidden, queries], config.output_bias)?,
            norms: match config.query_key_norms() {
                Some([queries, keys]) => Some([norm("q_norm", queries)?, norm("k_norm", keys)?]),
                None => None,
            },
            heads: AttentionHeads { window, ..config.attention_heads() },
            rotary: config.rotary_of(layer),
            turns_neighbours: config.turns_neighbours,
            clip: config.clip_qkv,
        })
    }

    /// `residual + attention(x)`, or the attention alone.
    ///
    /// # Shapes
    /// - `x`, `residual` and output: `[batch, positions, hidden_size]`.
    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        residual: Option<Tensor<3>>,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let [batch, positions, hidden] = x.dims();
        let flat = x.reshape([batch * positions, hidden]);
        let packed = matches!(self.o_proj.weight(), Matrix::Packed(_));
        let attended = match cache {
            None if packed => self.attend_together(flat, batch, context),
            cache => self.attend(flat, batch, context, cache),
        };
        let residual = residual.map(|residual| residual.reshape([batch * positions, hidden]));
        project_onto(residual, &self.o_proj, attended, context).reshape([batch, positions, hidden])
    }

    /// The fused path: `[batch * positions, hidden_size]` to `[batch * positions, heads * head_dim]`.
    fn attend_together(&self, x: Tensor<2>, batch: usize, context: &Context) -> Tensor<2> {
        let qkv = self.cut_off(project_together(&self.qkv, x, context));
        let rotary = context.rotary(self.rotary);
        let qkv = match self.norms.is_some() || self.turns_neighbours {
            false => qkv,
            true => {
                let [queries, keys, values] = self.widths();
                let (first, second) = (qkv.clone().narrow(1, 0, queries), qkv.clone().narrow(1, queries, keys));
                let [first, second] = self.prepare([first, second], rotary);
                Tensor::cat(vec![first, second, qkv.narrow(1, queries + keys, values)], 1)
            }
        };
        let (cosine, sine) = rotary.tables();
        let tree = context.visibility.as_ref().and_then(Visibility::as_tree);
        attention(qkv, cosine, sine, batch, self.shape(rotary), tree)
    }

    fn shape(&self, rotary: &Rotary) -> AttentionHeads {
        AttentionHeads { rotary: rotary.width(), ..self.heads }
    }

    /// Widths of all queries, keys and values of a position.
    fn widths(&self) -> [usize; 3] {
        let AttentionHeads { heads, key_heads, head_dim, .. } = self.heads;
        [heads * head_dim, key_heads * head_dim, key_heads * head_dim]
    }

    /// Queries and keys, `[batch * positions, heads * head_dim]` each, as they are turned: normalised where there are norms, and
    /// with each pair that is turned in the two halves. Both in the same order, their products do not know of it.
    fn prepare(&self, [queries, keys]: [Tensor<2>; 2], rotary: &Rotary) -> [Tensor<2>; 2] {
        let [queries, keys] = match &self.norms {
            Some(norms) => [normalise(&norms[0], queries), normalise(&norms[1], keys)],
            None => [queries, keys],
        };
        match self.turns_neighbours {
            true => [queries, keys].map(|x| halves_of_neighbours(x, self.heads.head_dim, rotary.width())),
            false => [queries, keys],
        }
    }

    fn cut_off(&self, x: Tensor<2>) -> Tensor<2> {
        match self.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        }
    }

    /// The composed path: `[batch * positions, hidden_size]` to `[batch * positions, heads * head_dim]`.
    fn attend(&self, flat: Tensor<2>, batch: usize, context: &Context, cache: Option<&mut LayerCache>) -> Tensor<2> {
        let positions = flat.dims()[0] / batch;
        let AttentionHeads { heads, key_heads, head_dim, .. } = self.heads;
        let parts = project_apart(&self.qkv, self.widths(), flat, context);
        let [queries, keys, values] = parts.map(|part| self.cut_off(part));
        let rotary = context.rotary(self.rotary);
        let [queries, keys] = self.prepare([queries, keys], rotary);
        let split =
            |projected: Tensor<2>, heads: usize| projected.reshape([batch, positions, heads, head_dim]).swap_dims(1, 2);
        let queries = rotary.apply(split(queries, heads));
        let keys = rotary.apply(split(keys, key_heads));
        let values = split(values, key_heads);
        let (keys, values) = match cache {
            Some(cache) => cache.extend(keys, values),
            None => (keys, values),
        };
        attend(queries, keys, values, context.visibility.as_ref(), &self.shape(rotary))
    }

    /// Its projections, those of one input together, in the order in which they are met.
    pub(super) fn linears_by_input(&mut self) -> Vec<&mut [Linear]> {
        vec![&mut self.qkv, std::slice::from_mut(&mut self.o_proj)]
    }

    pub(super) fn visit(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        for linear in self.linears_by_input().into_iter().flatten() {
            linear.visit(visit);
        }
        for norm in self.norms.iter_mut().flatten() {
            norm.visit(visit);
        }
    }
}

/// Puts the first and the second of each pair of neighbours among the first `width` values of every head into that part's two
/// halves.
fn halves_of_neighbours(x: Tensor<2>, head_dim: usize, width: usize) -> Tensor<2> {
    let [rows, all] = x.dims();
    let heads = all / head_dim;
    let x = x.reshape([rows, heads, head_dim]);
    let turned = x.clone().narrow(2, 0, width).reshape([rows, heads, width / 2, 2]);
    let turned = turned.swap_dims(2, 3).reshape([rows, heads, width]);
    let x = if width < head_dim { Tensor::cat(vec![turned, x.narrow(2, width, head_dim - width)], 2) } else { turned };
    x.reshape([rows, all])
}

/// Normalises as many values at a time as the norm is wide.
fn normalise(norm: &Norm, x: Tensor<2>) -> Tensor<2> {
    let ([rows, width], size) = (x.dims(), norm.width());
    norm.forward(x.reshape([rows * width / size, size])).reshape([rows, width])
}
