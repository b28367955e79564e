//! Attention on an NVIDIA GPU by the kernels of the crate `cube`, in burn's graph: nothing is kept that grows with the square
//! of the positions, whatever a query sees.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{into_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;
use cube::{Attention, AttentionForward, AttentionGradients, Buffer, Heads};

use super::AttentionHeads;
use crate::ops::gpu::{beside, buffer, composed, scalars};

/// Whether the kernels run for heads of this width and type on this device. Where they do not on a GPU, a warning says once what
/// is missing.
///
/// `GPU_ATTENTION=burn` in the environment leaves these kernels unused, and `GPU_KERNELS=composed` all.
pub fn fits(device: &Device, width: usize, dtype: DType) -> bool {
    static UNWANTED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("GPU_ATTENTION").is_some_and(|value| value == "burn"));
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    let device = device.clone().inner();
    let DispatchDevice::Cube(on) = device.as_dispatch() else { return false };
    if composed() || *UNWANTED {
        return false;
    }
    let mut known = KNOWN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    *known.entry(format!("{device:?} {width} {dtype:?}")).or_insert_with(|| {
        let element = burn::backend::cubecl::dtype_to_storage_type(dtype);
        let fit = cube::attention_fits(&on.client(), filled(width), element);
        if let Err(missing) = &fit {
            tracing::warn!("attention is burn's, which may keep scores for each pair of a row's tokens: {missing}");
        }
        fit.is_ok()
    })
}

/// The width that the kernels have for heads of a width: what it lacks is filled with zeros, which add nothing.
fn filled(width: usize) -> usize {
    width.next_multiple_of(16)
}

/// Causal attention.
///
/// # Shapes
/// - `queries`: `[batch, heads, queries, head_dim]`; `keys`, `values`: `[batch, key_heads, keys, head_dim]`.
/// - `seen`: what [`cube::seen`] made of ends and depths; without it, a query sees all before it.
/// - output: `[batch * queries, heads * head_dim]`.
pub fn attend(
    queries: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    seen: Option<Tensor<1, Int>>,
    heads: &AttentionHeads,
) -> Tensor<2> {
    let [batch, count, positions, width] = queries.dims();
    let [_, key_heads, all, _] = keys.dims();
    let shape = Attention {
        batch,
        queries: positions,
        keys: all,
        heads: count,
        key_heads,
        width: filled(width),
        scale: heads.scale.map_or((width as f32).sqrt().recip(), |scale| scale as f32),
        cap: heads.cap.map(|cap| cap as f32),
        window: heads.window,
    };
    let settings = Settings { shape, is_packed: seen.is_some() };
    let device = queries.device().inner();
    // Nothing is read of it then.
    let seen = seen.unwrap_or_else(|| Tensor::zeros([1], &device));
    let [queries, keys, values] = [queries, keys, values].map(|x| fill(x, shape.width).into_dispatch());
    let attended = <Dispatch as TrackedAttention>::attend(queries, keys, values, seen.into_dispatch(), settings);
    let attended = Tensor::<2>::from_dispatch(attended);
    if shape.width == width {
        return attended;
    }
    let rows = attended.reshape([batch * positions, count, shape.width]).narrow(2, 0, width);
    rows.reshape([batch * positions, count * width])
}

fn fill(x: Tensor<4>, width: usize) -> Tensor<4> {
    let [batch, heads, positions, values] = x.dims();
    if values == width {
        return x;
    }
    let zeros = Tensor::zeros([batch, heads, positions, width - values], (&x.device(), x.dtype()));
    Tensor::cat(vec![x, zeros], 3)
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    shape: Attention,
    is_packed: bool,
}

impl Settings {
    fn output(&self) -> Shape {
        let Attention { batch, queries, heads, width, .. } = self.shape;
        Shape::new([batch * queries, heads * width])
    }

    /// Shapes of the gradients, before heads and positions change places.
    fn gradients(&self) -> [Shape; 3] {
        let Attention { batch, queries, keys, heads, key_heads, width, .. } = self.shape;
        [[batch, queries, heads, width], [batch, keys, key_heads, width], [batch, keys, key_heads, width]]
            .map(Shape::new)
    }
}

/// Outside of the graph.
#[backend_extension(Cube, Fusion)]
pub(crate) trait AttentionKernels: Backend {
    #[fusion(meta = |queries, _keys, _values, _seen, settings| {
        let Attention { batch, queries: positions, heads, .. } = settings.shape;
        (TensorSpec::new(settings.output(), queries.dtype), scalars(batch * positions * heads))
    })]
    fn own_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients `[batch, positions, heads, head_dim]`.
    #[fusion(meta = |queries, _keys, _values, _seen, _output, _log_sums, _gradient, settings| {
        let [a, b, c] = settings.gradients().map(|shape| TensorSpec::new(shape, queries.dtype));
        (a, b, c)
    })]
    #[allow(
        clippy::too_many_arguments,
        reason = "tensors of a graph, each an argument; the macro copies the attribute"
    )]
    fn own_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        output: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// In the graph.
#[backend_extension(Cube, Autodiff, Fusion)]
pub(crate) trait TrackedAttention: Backend {
    #[fusion(meta = |queries, _keys, _values, _seen, settings| TensorSpec::new(settings.output(), queries.dtype))]
    fn attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self>;
}

impl<B: AttentionKernels, C: CheckpointStrategy> TrackedAttention for Autodiff<B, C> {
    fn attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        let nodes = [queries.node(), keys.node(), values.node()];
        let [q, k, v] = [queries, keys, values].map(|tensor| tensor.into_primitive());
        let (y, log_sums) = B::own_attention(q.clone(), k.clone(), v.clone(), seen.clone(), settings);
        match (Attend { settings }).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish(([q, k, v, y.clone(), log_sums], seen), y),
            OpsKind::UnTracked(preparation) => preparation.finish(y),
        }
    }
}

#[derive(Debug)]
struct Attend {
    settings: Settings,
}

impl<B: AttentionKernels> Backward<B, 3> for Attend {
    /// Queries, keys, values, output and sums; what is seen.
    type State = ([FloatTensor<B>; 5], IntTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let ([q, k, v, output, log_sums], seen) = ops.state;
        let (dq, dk, dv) = B::own_attention_backward(q, k, v, seen, output, log_sums, gradient, self.settings);
        for (parent, gradient) in ops.parents.into_iter().zip([dq, dk, dv]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, B::float_swap_dims(gradient, 1, 2));
            }
        }
    }
}

/// Heads where they are, if whole lines of 16 bytes can be read there.
fn in_place(tensor: CubeTensor) -> (CubeTensor, Buffer, Heads) {
    let tensor = untile(tensor);
    let line = 16 / tensor.elem_size();
    let strides = tensor.meta.strides();
    let aligned = strides[3] == 1 && strides[..3].iter().all(|stride| stride.is_multiple_of(line));
    let offset = tensor.handle.offset_start.unwrap_or(0).is_multiple_of(16);
    let tensor = if aligned && offset { tensor } else { into_contiguous(tensor) };
    let strides = tensor.meta.strides();
    let heads = Heads { batch: strides[0] as i64, head: strides[1] as i64, position: strides[2] as i64 };
    let length = tensor.handle.size_in_used() as usize / tensor.elem_size();
    let buffer = Buffer { length, ..buffer(&tensor) };
    (tensor, buffer, heads)
}

fn given(inputs: [CubeTensor; 3], seen: CubeTensor, settings: Settings) -> AttentionForward {
    let inputs = inputs.map(in_place);
    let heads = inputs.each_ref().map(|(_, _, heads)| *heads);
    let seen = settings.is_packed.then(|| buffer(&into_contiguous(seen)));
    AttentionForward { inputs: inputs.map(|(_, buffer, _)| buffer), heads, seen }
}

impl AttentionKernels for CubeBackend {
    fn own_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Attention { batch, queries: positions, heads, .. } = settings.shape;
        let output = beside(&queries, settings.output(), queries.dtype);
        let log_sums = beside(&queries, Shape::new([batch * positions * heads]), DType::F32);
        let client = queries.client.clone();
        let given = given([queries, keys, values], seen, settings);
        cube::attention(&client, settings.shape, &given, &buffer(&output), &buffer(&log_sums));
        (output, log_sums)
    }

    fn own_attention_backward(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        output: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [output, log_sums, gradient] = [output, log_sums, gradient].map(into_contiguous);
        let [dq, dk, dv] = settings.gradients().map(|shape| beside(&queries, shape, queries.dtype));
        let client = queries.client.clone();
        let given = given([queries, keys, values], seen, settings);
        let [output, log_sums, gradient, q, k, v] = [&output, &log_sums, &gradient, &dq, &dk, &dv].map(buffer);
        let back = AttentionGradients { output: &output, log_sums: &log_sums, gradient: &gradient, into: [&q, &k, &v] };
        cube::attention_backward(&client, settings.shape, &given, &back);
        (dq, dk, dv)
    }
}

impl TrackedAttention for CubeBackend {
    fn attend(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        seen: IntTensor<Self>,
        settings: Settings,
    ) -> FloatTensor<Self> {
        Self::own_attention(queries, keys, values, seen, settings).0
    }
}
