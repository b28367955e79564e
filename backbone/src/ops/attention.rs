//! Attention from the output of the three projections to the input of the fourth.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use kernels::{AttentionShape, AttentionTree};

use super::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};

/// How queries, keys and values stand in a row, and what becomes of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionHeads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub key_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// How many values of a head, its first, the rotary encoding turns.
    pub rotary: usize,
    /// How many positions back a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Factor of the scores; `None` is `1 / sqrt(head_dim)`.
    pub scale: Option<f64>,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f64>,
}

/// Causal attention with rotary encoding.
///
/// # Shapes
/// - `qkv`: `[batch * positions, (heads + 2 * key_heads) * head_dim]`, queries, keys and values side by side, before the
///   rotary encoding; f32 or bf16.
/// - `cosine`, `sine`: `positions * rotary / 2` values in any shape.
/// - output: `[batch * positions, heads * head_dim]`, of the type of `qkv`.
///
/// With a tree, a query sees what it follows there; `window` goes by its depths.
pub fn attention<const D: usize>(
    qkv: Tensor<2>,
    cosine: Tensor<D>,
    sine: Tensor<D>,
    batch: usize,
    heads: AttentionHeads,
    tree: Option<Arc<AttentionTree>>,
) -> Tensor<2> {
    let AttentionHeads { heads, key_heads, head_dim, rotary, window, scale, cap } = heads;
    let positions = qkv.dims()[0] / batch.max(1);
    let usual = AttentionShape::new(heads, key_heads, head_dim);
    let scale = scale.map_or(usual.scale, |scale| scale as f32);
    let shape = AttentionShape { batch, positions, rotary, window, scale, cap: cap.map(|cap| cap as f32), ..usual };
    Call::new().input(qkv).input(cosine).input(sine).run(Attention { shape, tree })
}

#[derive(Debug)]
struct Attention {
    shape: AttentionShape,
    tree: Option<Arc<AttentionTree>>,
}

impl Operation for Attention {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let [qkv, cosine, sine] = [0, 1, 2].map(|index: usize| gathered(&inputs[index]));
        let rows = self.shape.batch * self.shape.positions;
        let (output, log_sums) = with_values!(&qkv, values => {
            let (output, log_sums) = kernels::attention(self.shape, self.tree.as_deref(), values, slice(&cosine), slice(&sine));
            (tensor(output, [rows, self.shape.heads * self.shape.head_dim]), log_sums)
        });
        let count = log_sums.len();
        (output.clone(), vec![qkv, cosine, sine, output, tensor(log_sums, [count])])
    }

    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        _wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let [qkv, cosine, sine, output, log_sums] = saved else { unreachable!("what `forward` saved") };
        let gradient = gathered(&gradient);
        let (cosine, sine, log_sums) = (slice(cosine), slice(sine), slice(log_sums));
        let AttentionShape { batch, positions, heads, key_heads, head_dim, .. } = self.shape;
        let shape = [batch * positions, (heads + 2 * key_heads) * head_dim];
        let mut given = [const { None }; INPUTS];
        let tree = self.tree.as_deref();
        given[0] = Some(with_values!(qkv, values => {
            let output = slice(output);
            with_values!(&gradient, gradient => tensor(
                kernels::attention_backward(self.shape, tree, values, cosine, sine, output, log_sums, gradient),
                shape,
            ))
        }));
        given
    }
}
