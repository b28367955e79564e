//! Operations of a GPU with a backward pass of their own: the kernels of the crate `cube` in burn's graph.
//!
//! `GPU_KERNELS=composed` in the environment leaves them unused, so that a run can be compared with one that composes
//! burn's own operations.

mod codes;
mod launch;
#[cfg(all(test, any(feature = "cuda-untuned", feature = "wgpu")))]
mod tests;

use std::sync::LazyLock;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor};
use cube::{Activation, AdamWStep};

use super::codes::Parts;

/// True where the operations here are to be used: on a GPU, unless the environment says otherwise.
pub fn wanted(device: &Device) -> bool {
    !crate::device::is_cpu(device) && !composed()
}

/// True where the environment asks for compositions.
fn composed() -> bool {
    static COMPOSED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("GPU_KERNELS").is_some_and(|value| value == "composed"));
    *COMPOSED
}

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last dimension, in the type `output`.
///
/// # Shapes
/// - `x` and output: `[.., features]`; `weight`: `[features]`, f32.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64, output: DType) -> Tensor<D> {
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(<Dispatch as TrackedOps>::rms_norm(x, weight, epsilon as f32, output))
}

/// `silu(gate) * up`, of tensors of one shape and type.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gated(gate, up, Activation::Silu)
}

/// `gelu(gate) * up` with GELU's tanh approximation, of tensors of one shape and type.
pub fn geglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    gated(gate, up, Activation::GeluTanh)
}

fn gated<const D: usize>(gate: Tensor<D>, up: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as TrackedOps>::gated(gate.into_dispatch(), up.into_dispatch(), activation))
}

/// `z * gain`, multiplied in f32.
///
/// # Shapes
/// - `z` and output: `[tokens, out]`, of one type; `gain`: `[out]`, f32.
pub fn scale_columns(z: Tensor<2>, gain: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as TrackedOps>::scale_columns(z.into_dispatch(), gain.into_dispatch()))
}

/// Rows `ids` of a matrix in codes, `[ids, in]`, in its type of products.
pub(super) fn coded_rows(ids: Tensor<1, Int>, parts: Parts<Dispatch>) -> Tensor<2> {
    let ids = ids.cast(DType::I32).into_dispatch();
    Tensor::from_dispatch(<Dispatch as DeviceOps>::coded_rows(ids, parts))
}

/// Rotary encoding.
///
/// # Shapes
/// - `x` and output: `[batch, heads, positions, head_dim]`; `cosine`, `sine`: `[1 or batch, 1, positions, head_dim / 2]`,
///   f32.
pub fn rotate(x: Tensor<4>, cosine: Tensor<4>, sine: Tensor<4>) -> Tensor<4> {
    let (cosine, sine) = (cosine.into_dispatch(), sine.into_dispatch());
    Tensor::from_dispatch(<Dispatch as TrackedOps>::rotate(x.into_dispatch(), cosine, sine))
}

/// The nll of each row's target, the entropy of its softmax, and the log of its sum of exponentials, all `[rows]` in f32.
///
/// # Shapes
/// - `logits`: `[rows, vocabulary]`, not tracked; `targets`: `[rows]`.
pub fn softmax_statistics(logits: Tensor<2>, targets: Tensor<1, Int>) -> [Tensor<1>; 3] {
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    let (nll, entropy, log_sum) = <Dispatch as DeviceOps>::softmax_statistics(logits, targets);
    [nll, entropy, log_sum].map(Tensor::from_dispatch)
}

/// `weight * (softmax - onehot)` of each row, in the memory of the logits when nothing else holds them.
///
/// # Shapes
/// - `logits` and output: `[rows, vocabulary]`; `targets`, `log_sum`, `weights`: `[rows]`.
pub fn logits_gradient(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    log_sum: Tensor<1>,
    weights: Tensor<1>,
) -> Tensor<2> {
    let (log_sum, weights) = (log_sum.into_dispatch(), weights.into_dispatch());
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DeviceOps>::logits_gradient(logits, targets, log_sum, weights))
}

/// What an update of AdamW reads and gives, all f32.
pub struct AdamWVectors {
    /// `[length]`
    pub values: Tensor<1>,
    /// `[length]`
    pub first: Tensor<1>,
    /// `[length]`
    pub second: Tensor<1>,
    /// `[2]`
    pub corrections: Tensor<1>,
}

/// One update, and the gradient's global norm, `[1]`. Where the norm or the loss is not finite, neither is the norm given
/// back, and the vectors are as they were. The moments are updated in their memory when nothing else holds them.
///
/// # Shapes
/// - `gradient`: `[length]`, `loss`: `[1]`.
pub fn adamw(
    vectors: AdamWVectors,
    gradient: Tensor<1>,
    loss: Tensor<1>,
    step: AdamWStep,
) -> (AdamWVectors, Tensor<1>) {
    let AdamWVectors { values, first, second, corrections } = vectors;
    let [values, first, second, corrections] = [values, first, second, corrections].map(Tensor::into_dispatch);
    let state = AdamWState { values, first, second, corrections };
    let (gradient, loss) = (gradient.into_dispatch(), loss.into_dispatch());
    let (state, norm) = <Dispatch as DeviceOps>::adamw(state, gradient, loss, step);
    let AdamWState { values, first, second, corrections } = state;
    let [values, first, second, corrections] = [values, first, second, corrections].map(Tensor::from_dispatch);
    (AdamWVectors { values, first, second, corrections }, Tensor::from_dispatch(norm))
}

/// [`AdamWVectors`] as one backend has them.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub(crate) struct AdamWState<B: Backend> {
    values: FloatTensor<B>,
    first: FloatTensor<B>,
    second: FloatTensor<B>,
    corrections: FloatTensor<B>,
}

fn scalars(rows: usize) -> TensorSpec {
    TensorSpec::new(Shape::new([rows]), DType::F32)
}

/// Rows of the last dimension.
fn rows(shape: &Shape) -> usize {
    shape.num_elements() / shape.last().copied().unwrap_or(1).max(1)
}

/// Operations outside of the graph. A rotation gives `[batch, heads, positions, head_dim]` one after another.
#[backend_extension(Cube, Fusion)]
pub(crate) trait DeviceOps: Backend {
    #[fusion(meta = |x, _weight, _epsilon, output| {
        (TensorSpec::new(x.shape.clone(), *output), scalars(rows(&x.shape)))
    })]
    fn rms_norm_forward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        output: DType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(dtype = x, shape = x)]
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = weight, shape = weight)]
    fn rms_norm_weight_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    #[fusion(dtype = gate, shape = gate)]
    fn gated_forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    #[fusion(meta = |gate, up, _gradient, _activation| (gate.clone(), up.clone()))]
    fn gated_backward(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(dtype = z, shape = z)]
    fn scale_columns_forward(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(meta = |z, gain, _gradient| (z.clone(), gain.clone()))]
    fn scale_columns_backward(
        z: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(meta = |ids, parts| {
        TensorSpec::new(Shape::new([ids.shape.num_elements(), parts.layout.shape[1]]), parts.layout.dtype)
    })]
    fn coded_rows(ids: IntTensor<Self>, #[extension_type] parts: Parts<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn turn(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>, sign: f32) -> FloatTensor<Self>;

    #[fusion(meta = |_logits, targets| {
        let rows = targets.shape.num_elements();
        (scalars(rows), scalars(rows), scalars(rows))
    })]
    fn softmax_statistics(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    #[fusion(dtype = logits, shape = logits)]
    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        log_sum: FloatTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    #[fusion(meta = |state, _gradient, _loss, _step| (state.clone(), scalars(1)))]
    fn adamw(
        #[extension_type] state: AdamWState<Self>,
        gradient: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (AdamWState<Self>, FloatTensor<Self>);
}

/// Operations of the graph.
#[backend_extension(Cube, Autodiff, Fusion)]
pub(crate) trait TrackedOps: Backend {
    #[fusion(meta = |x, _weight, _epsilon, output| TensorSpec::new(x.shape.clone(), *output))]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self>;

    #[fusion(dtype = gate, shape = gate)]
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    #[fusion(dtype = z, shape = z)]
    fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self>;

    #[fusion(dtype = x, shape = x)]
    fn rotate(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl<B: DeviceOps, C: CheckpointStrategy> TrackedOps for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (x.into_primitive(), weight.into_primitive());
        let (y, inverse) = B::rms_norm_forward(x.clone(), weight.clone(), epsilon, output);
        match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish([x, weight, inverse], y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }

    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        let (gate, up) = (gate.into_primitive(), up.into_primitive());
        let y = B::gated_forward(gate.clone(), up.clone(), activation);
        match Gated.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((gate, up, activation), y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }

    fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [z.node(), gain.node()];
        let (z, gain) = (z.into_primitive(), gain.into_primitive());
        let y = B::scale_columns_forward(z.clone(), gain.clone());
        match ScaleColumns.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((z, gain), y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }

    fn rotate(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let [x, cosine, sine] = [x, cosine, sine].map(|tensor| tensor.into_primitive());
        let y = B::turn(x, cosine.clone(), sine.clone(), 1.0);
        match Rotate.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish([cosine, sine], y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }
}

#[derive(Debug)]
struct RmsNorm;

impl<B: DeviceOps> Backward<B, 2> for RmsNorm {
    /// Input, weight and inverse roots.
    type State = [FloatTensor<B>; 3];

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [x, weight, inverse] = ops.state;
        let [for_x, for_weight] = ops.parents;
        if let Some(node) = for_weight {
            let dweight = B::rms_norm_weight_backward(x.clone(), weight.clone(), inverse.clone(), gradient.clone());
            gradients.register::<B>(node.id, dweight);
        }
        if let Some(node) = for_x {
            gradients.register::<B>(node.id, B::rms_norm_backward(x, weight, inverse, gradient));
        }
    }
}

#[derive(Debug)]
struct Gated;

impl<B: DeviceOps> Backward<B, 2> for Gated {
    /// Gate and up.
    type State = (FloatTensor<B>, FloatTensor<B>, Activation);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (gate, up, activation) = ops.state;
        let ids = ops.parents.map(|parent| parent.map(|node| node.id));
        register::<B>(gradients, ids, B::gated_backward(gate, up, gradient, activation));
    }
}

#[derive(Debug)]
struct ScaleColumns;

impl<B: DeviceOps> Backward<B, 2> for ScaleColumns {
    /// What is scaled, and the factors.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (z, gain) = ops.state;
        let ids = ops.parents.map(|parent| parent.map(|node| node.id));
        register::<B>(gradients, ids, B::scale_columns_backward(z, gain, gradient));
    }
}

/// Hands two gradients to those that want them.
fn register<B: Backend>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; 2],
    (first, second): (FloatTensor<B>, FloatTensor<B>),
) {
    for (parent, gradient) in parents.into_iter().zip([first, second]) {
        if let Some(parent) = parent {
            gradients.register::<B>(parent, gradient);
        }
    }
}

#[derive(Debug)]
struct Rotate;

impl<B: DeviceOps> Backward<B, 1> for Rotate {
    /// Cosines and sines.
    type State = [FloatTensor<B>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [cosine, sine] = ops.state;
        if let [Some(node)] = ops.parents {
            gradients.register::<B>(node.id, B::turn(gradient, cosine, sine, -1.0));
        }
    }
}
