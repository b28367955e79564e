//! Causal self-attention with grouped queries, and whatever a family adds: a sliding window, norms on queries and keys, a
//! soft cap on the scores; with an optional key-value cache.

use burn::tensor::{Int, Tensor};
use faults::Fault;
use losses::Parameter;

use super::Context;
use super::config::{Config, LayerRotary};
use super::linear::{Linear, Linears};
use super::norm::Norm;
use super::projections::ProjectionShape;
use super::rotary::Rotary;
use super::source::Source;
use super::visibility::Visibility;
use crate::ops::{AttentionHeads, Keeping, Projected, attend, attention, attention_bytes, norm_bytes, project_bytes};

/// The attention half of a block.
pub struct Attention {
    /// Queries, keys and values: a projection each, or one for all.
    qkv: Linears,
    output: Linear,
    /// The norms of queries and of keys, over a head or over all of them.
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
    /// Queries, keys and values, of the hidden states, and the output, of what is attended.
    fn shapes(config: &Config, layer: usize) -> (Vec<ProjectionShape>, ProjectionShape) {
        let (hidden, [queries, keys, values]) = (config.hidden_size, widths(&config.heads_of(layer)));
        let shape = |path, sides, has_bias| ProjectionShape { path, sides, has_bias };
        let qkv = |path, width| shape(path, [width, hidden], config.qkv_bias);
        let qkv = match config.fused_projections {
            true => vec![qkv("self_attn.qkv_proj", queries + keys + values)],
            false => {
                vec![qkv("self_attn.q_proj", queries), qkv("self_attn.k_proj", keys), qkv("self_attn.v_proj", values)]
            }
        };
        (qkv, shape("self_attn.o_proj", [hidden, queries], config.output_bias))
    }

    /// Its projections, those of one input together, in the order in which they are met.
    pub(super) fn projections(config: &Config, layer: usize) -> Vec<Vec<ProjectionShape>> {
        let (qkv, output) = Self::shapes(config, layer);
        vec![qkv, vec![output]]
    }

    pub(super) fn load(source: &Source, block: &str, config: &Config, layer: usize) -> Result<Self, Fault> {
        let (qkv, output) = Self::shapes(config, layer);
        let norm = |part: &str, size| Norm::load(source, &format!("{block}.self_attn.{part}"), size, config);
        let heads = config.heads_of(layer);
        Ok(Self {
            qkv: Linears::load_in(source, block, &qkv)?,
            output: Linear::load_in(source, block, &output)?,
            norms: match config.query_key_norms() {
                Some([queries, keys]) => Some([norm("q_norm", queries)?, norm("k_norm", keys)?]),
                None => None,
            },
            rotary: config.rotary_of(layer),
            turns_neighbours: config.turns_neighbours,
            heads,
            clip: config.clip_qkv,
        })
    }

    /// Bytes of each token that its operations keep for the way back, scores not counted.
    pub(super) fn bytes(config: &Config, layer: usize, keeping: &Keeping) -> u64 {
        let heads = config.heads_of(layer);
        let [queries, keys, _] = widths(&heads).map(|width| width as u64);
        let normed = config.query_key_norms().map_or(0, |_| norm_bytes(queries + keys, keeping.size));
        let (qkv, output) = Self::shapes(config, layer);
        // Kernels of the CPU give the output as the projection takes it, which is kept once; burn's operations reorder it.
        let into_output = if keeping.is_packed { 0 } else { project_bytes(keeping, output.sides[1] as u64, 1) };
        project_bytes(keeping, config.hidden_size as u64, qkv.len() as u64)
            + normed
            + attention_bytes(&heads, keeping.size)
            + into_output
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
        let rows = |x: Tensor<3>| x.reshape([batch * positions, hidden]);
        let (x, widths) = (rows(x), widths(&self.heads));
        let projected = match cache {
            // The cache holds keys and values, each by itself.
            Some(_) => Projected::Apart(self.qkv.apart(widths, x, context)),
            None => self.qkv.together(widths, x, context),
        };
        let attended = match projected {
            Projected::Together(qkv) => self.attend_together(qkv, batch, context),
            Projected::Apart(qkv) => self.attend(qkv, batch, context, cache),
        };
        self.output.forward(attended, residual.map(rows), context).reshape([batch, positions, hidden])
    }

    /// All heads in one operation.
    ///
    /// # Shapes
    /// - `qkv`: `[batch * positions, (heads + 2 * key_heads) * head_dim]`; output `[batch * positions, heads * head_dim]`.
    fn attend_together(&self, qkv: Tensor<2>, batch: usize, context: &Context) -> Tensor<2> {
        let qkv = self.cut_off(qkv);
        let rotary = context.rotary(self.rotary);
        let qkv = match self.norms.is_some() || self.turns_neighbours {
            false => qkv,
            true => {
                let [queries, keys, values] = widths(&self.heads);
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

    /// Rotary encoding, cache and attention one after another.
    ///
    /// # Shapes
    /// - `qkv`: each `[batch * positions, its heads * head_dim]`; output `[batch * positions, heads * head_dim]`.
    fn attend(
        &self,
        qkv: [Tensor<2>; 3],
        batch: usize,
        context: &Context,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<2> {
        let AttentionHeads { heads, key_heads, head_dim, .. } = self.heads;
        let [queries, keys, values] = qkv.map(|part| self.cut_off(part));
        let positions = queries.dims()[0] / batch;
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

    /// Its projections as [`Attention::projections`] lists them.
    pub(super) fn linears_by_input(&mut self) -> Vec<&mut [Linear]> {
        vec![self.qkv.as_mut_slice(), std::slice::from_mut(&mut self.output)]
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

/// Widths of all queries, keys and values of a position.
fn widths(heads: &AttentionHeads) -> [usize; 3] {
    let AttentionHeads { heads, key_heads, head_dim, .. } = *heads;
    [heads * head_dim, key_heads * head_dim, key_heads * head_dim]
}

/// Normalises as many values at a time as the norm is wide.
fn normalise(norm: &Norm, x: Tensor<2>) -> Tensor<2> {
    let ([rows, width], size) = (x.dims(), norm.width());
    norm.forward(x.reshape([rows * width / size, size])).reshape([rows, width])
}
