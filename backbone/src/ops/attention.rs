//! Attention between the projections of queries, keys and values and the output projection.

mod native;
#[cfg(feature = "cuda-untuned")]
mod own;

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::module::attention as burns_attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, DType, Device, Int, Tensor};
use kernels::{AttentionShape, AttentionTree};

use crate::visibility::Visibility;

use super::cpu::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};
use native::{Sizes, is_right};

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

/// Causal attention with rotary encoding in one operation, on the CPU.
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

/// Bytes of each token that the CPU keeps for the way back, where a value takes so many: queries, keys and values, the output,
/// and a sum for each head.
pub fn attention_bytes(heads: &AttentionHeads, size: u64) -> u64 {
    let AttentionHeads { heads, key_heads, head_dim, .. } = *heads;
    (2 * heads + 2 * key_heads) as u64 * head_dim as u64 * size + 4 * heads as u64
}

/// Causal attention: by kernels of our own on an NVIDIA GPU; else by burn's operations, composed, or its native one where that
/// is right.
///
/// # Shapes
/// - `queries`: `[batch, heads, queries, head_dim]`, turned; `keys`, `values`: `[batch, key_heads, keys, head_dim]`; the
///   queries are the last of the keys' positions. Without `visibility`, a query sees what is before it and not too far back.
/// - output: `[batch * queries, heads * head_dim]`.
pub fn attend(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    visibility: Option<&Visibility>,
    heads: &AttentionHeads,
) -> Tensor<2> {
    let [batch, count, positions, width] = queries.dims();
    #[cfg(feature = "cuda-untuned")]
    if own::fits(&queries.device().inner(), width, queries.dtype()) {
        return own::attend(queries, keys, values, visibility.map(Visibility::seen), heads);
    }
    let mask = visibility.map(|visibility| visibility.mask(heads.window, [batch, count]));
    let mask = mask.or_else(|| window_mask(queries.dims()[..3].try_into().expect("three of four"), &keys, heads));
    let AttentionHeads { scale, cap, .. } = *heads;
    let options = AttentionModuleOptions { scale, softcap: cap, is_causal: true, ..Default::default() };
    let attended = burns_attention(queries, keys, values, mask, None, options);
    attended.swap_dims(1, 2).reshape([batch * positions, count * width])
}

/// True where no attention keeps scores on this device, whatever a query sees: that of an NVIDIA GPU by kernels of our own.
pub fn keeps_no_scores(device: &Device, dtype: DType, heads: &AttentionHeads) -> bool {
    #[cfg(feature = "cuda-untuned")]
    return own::fits(device, heads.head_dim, dtype);
    #[cfg(not(feature = "cuda-untuned"))]
    {
        let _ = (device, dtype, heads);
        false
    }
}

/// True where burn's native attention of `rows` rows of `positions` was tried on this device and agrees with the composed
/// one; false on the CPU, which has none. With a cap on the scores it is never asked for, and the caller knows.
pub fn native_is_right(device: &Device, dtype: DType, [rows, positions]: [usize; 2], heads: &AttentionHeads) -> bool {
    let AttentionHeads { heads, key_heads, head_dim: width, .. } = *heads;
    is_right(device, dtype, Sizes { rows, positions, heads, key_heads, width })
}

/// True where a key lies too far back for its query; `None` when the window hides nothing, so that the attention stays on
/// the fast path.
///
/// Where the native way back of a GPU is wrong, training has a mask that hides nothing: with a mask, burn composes attention.
fn window_mask(
    [batch, heads, queries]: [usize; 3],
    keys: &Tensor<4>,
    shape: &AttentionHeads,
) -> Option<Tensor<4, Bool>> {
    let (total, device) = (keys.dims()[2], keys.device().inner());
    let wrong = || {
        let AttentionHeads { key_heads, head_dim: width, .. } = *shape;
        let sizes = Sizes { rows: batch, positions: total, heads, key_heads, width };
        let tried = keys.is_autodiff() && shape.cap.is_none() && !crate::device::is_cpu(&device);
        tried && !is_right(&device, keys.dtype(), sizes)
    };
    let window = shape.window.filter(|window| *window < total).or_else(|| wrong().then_some(total))?;
    let query = Tensor::<1, Int>::arange((total - queries) as i64..total as i64, &device).reshape([queries, 1]);
    let key = Tensor::<1, Int>::arange(0..total as i64, &device).reshape([1, total]);
    let distance = query.expand([queries, total]) - key.expand([queries, total]);
    let hidden = distance.greater_equal_elem(window as i64);
    Some(hidden.reshape([1, 1, queries, total]).expand([batch, heads, queries, total]))
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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::ops::testing::{close, kept, leaf, rows, run};

    /// Burn's own attention with a mask for the window, on turned queries and keys.
    #[test]
    fn attention_is_the_composed_attention() {
        let (batch, positions, head_dim) = (2, 60, 12);
        for (heads, key_heads, window, scale, cap) in [
            (2, 2, None, None, None),
            (4, 2, None, None, None),
            (3, 1, Some(17), None, None),
            (4, 2, Some(9), Some(0.7), Some(1.25)),
        ] {
            let shape = AttentionHeads { heads, key_heads, head_dim, rotary: head_dim, window, scale, cap };
            let width = (heads + 2 * key_heads) * head_dim;
            let leaves = [leaf(batch * positions, width, 0.1)];
            let table = |function: fn(f32) -> f32| {
                let angles = (0..positions).flat_map(|p| (0..6).map(move |i| p as f32 * 0.5f32.powi(i)));
                let data: Vec<f32> = angles.map(function).collect();
                Tensor::<4>::from_data(TensorData::new(data, [1, 1, positions, 6]), &Device::flex())
            };
            let (cosine, sine) = (table(f32::cos), table(f32::sin));
            let fused = run(&leaves, |l| attention(l[0].clone(), cosine.clone(), sine.clone(), batch, shape, None));
            let composed = run(&leaves, |l| {
                let rows = l[0].clone().reshape([batch, positions, width]);
                let part = |first: usize, count: usize| {
                    let part = rows.clone().narrow(2, first * head_dim, count * head_dim);
                    part.reshape([batch, positions, count, head_dim]).swap_dims(1, 2)
                };
                let turn = |x: Tensor<4>| {
                    let (a, b) = (x.clone().narrow(3, 0, 6), x.narrow(3, 6, 6));
                    let (cosine, sine) = (cosine.clone().autodiff(), sine.clone().autodiff());
                    let first = a.clone() * cosine.clone() - b.clone() * sine.clone();
                    Tensor::cat(vec![first, b * cosine + a * sine], 3)
                };
                let repeat = |x: Tensor<4>| {
                    let group = heads / key_heads;
                    let x = x.reshape([batch, key_heads, 1, positions * head_dim]).repeat_dim(2, group);
                    x.reshape([batch, heads, positions, head_dim])
                };
                let (q, k) = (turn(part(0, heads)), repeat(turn(part(heads, key_heads))));
                let v = repeat(part(heads + key_heads, key_heads));
                let hidden: Vec<f32> = (0..positions * positions)
                    .map(|i| {
                        let (query, key) = (i / positions, i % positions);
                        let seen = key <= query && window.is_none_or(|window| query - key < window);
                        if seen { 0.0 } else { -1e9 }
                    })
                    .collect();
                let hidden = TensorData::new(hidden, [1, 1, positions, positions]);
                let hidden = Tensor::<4>::from_data(hidden, &Device::flex()).autodiff();
                let scores = q.matmul(k.swap_dims(2, 3)).mul_scalar(scale.unwrap_or((head_dim as f64).sqrt().recip()));
                let scores = cap.map_or(scores.clone(), |cap| scores.div_scalar(cap).tanh().mul_scalar(cap));
                let attended = burn::tensor::activation::softmax(scores + hidden, 3).matmul(v);
                attended.swap_dims(1, 2).reshape([batch * positions, heads * head_dim])
            });
            close(&fused, &composed, 3e-6);
        }
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        let (batch, positions, heads, key_heads, head_dim) = (2, 5, 4, 2, 6);
        let usual = AttentionShape::new(heads, key_heads, head_dim);
        let operation = Attention { shape: AttentionShape { batch, positions, ..usual }, tree: None };
        let table = || tensor(vec![0.5f32; positions * head_dim / 2], [positions * head_dim / 2]);
        let tables = 2 * 4 * (positions * head_dim / 2) as u64;
        let of = AttentionHeads { heads, key_heads, head_dim, rotary: head_dim, window: None, scale: None, cap: None };
        for dtype in [DType::F32, DType::BF16] {
            let qkv = rows(batch * positions, (heads + 2 * key_heads) * head_dim, dtype);
            let found = kept(&operation, &[qkv, table(), table()]);
            let of_token = attention_bytes(&of, dtype.size() as u64);
            assert_eq!(found, (batch * positions) as u64 * of_token + tables);
        }
    }
}
