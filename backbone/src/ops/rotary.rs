//! The turn of a rotary position encoding in the rotate-half layout of Hugging Face weights (Su et al. 2021, arXiv
//! 2104.09864). On the CPU it is a part of attention, where the projections are packed.

use burn::tensor::{DType, Tensor};

use super::Form;

/// Turns the first values of every head by its position; computed in f32.
///
/// # Shapes
/// - `x` and output: `[batch, heads, positions, head_dim]`; `cosine`, `sine`: `[1 or batch, 1, positions, width / 2]`, f32,
///   where `width` is how many values of a head are turned.
pub fn rotate(x: Tensor<4>, cosine: Tensor<4>, sine: Tensor<4>) -> Tensor<4> {
    match Form::on(&x.device().inner()) {
        // The kernel turns whole heads.
        #[cfg(feature = "gpu")]
        Form::Gpu if x.dims()[3] == 2 * cosine.dims()[3] => on_gpu::rotate(x, cosine, sine),
        _ => composed(x, cosine, sine),
    }
}

fn composed(x: Tensor<4>, cosine: Tensor<4>, sine: Tensor<4>) -> Tensor<4> {
    let (dtype, head_dim, half) = (x.dtype(), x.dims()[3], cosine.dims()[3]);
    let x = x.cast(DType::F32);
    let first = x.clone().narrow(3, 0, half);
    let second = x.clone().narrow(3, half, half);
    let mut parts =
        vec![first.clone() * cosine.clone() - second.clone() * sine.clone(), second * cosine + first * sine];
    if head_dim > 2 * half {
        parts.push(x.narrow(3, 2 * half, head_dim - 2 * half));
    }
    Tensor::cat(parts, 3).cast(dtype)
}

/// On a GPU: kernels of the crate `cube` in burn's graph.
#[cfg(feature = "gpu")]
mod on_gpu {
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::Tensor;
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;

    use crate::ops::gpu::{beside, buffer};
    use burn_cubecl::kernel::untile;
    use cube::{Buffer, Layout};

    /// Rotary encoding.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, heads, positions, head_dim]`; `cosine`, `sine`: `[1 or batch, 1, positions, head_dim / 2]`,
    ///   f32.
    pub fn rotate(x: Tensor<4>, cosine: Tensor<4>, sine: Tensor<4>) -> Tensor<4> {
        let (cosine, sine) = (cosine.into_dispatch(), sine.into_dispatch());
        Tensor::from_dispatch(<Dispatch as TrackedRotary>::rotate(x.into_dispatch(), cosine, sine))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait RotaryKernels: Backend {
        #[fusion(dtype = x, shape = x)]
        fn turn(
            x: FloatTensor<Self>,
            cosine: FloatTensor<Self>,
            sine: FloatTensor<Self>,
            sign: f32,
        ) -> FloatTensor<Self>;
    }

    /// In the graph.
    #[backend_extension(Cube, Autodiff, Fusion)]
    pub(crate) trait TrackedRotary: Backend {
        #[fusion(dtype = x, shape = x)]
        fn rotate(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl<B: RotaryKernels, C: CheckpointStrategy> TrackedRotary for Autodiff<B, C> {
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
    struct Rotate;

    impl<B: RotaryKernels> Backward<B, 1> for Rotate {
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

    impl RotaryKernels for CubeBackend {
        fn turn(
            x: FloatTensor<Self>,
            cosine: FloatTensor<Self>,
            sine: FloatTensor<Self>,
            sign: f32,
        ) -> FloatTensor<Self> {
            let [cosine, sine] = [cosine, sine].map(into_contiguous);
            let x = untile(x);
            // Heads that stand inside of rows are read where they are.
            let x = if x.meta.strides()[3] == 1 { x } else { into_contiguous(x) };
            let shape: [usize; 4] = x.shape().dims();
            let strides = x.meta.strides();
            let layout = Layout { shape, strides: [strides[0], strides[1], strides[2]] };
            let y = beside(&x, x.shape(), x.dtype);
            let all = Buffer { length: x.handle.size_in_used() as usize / x.elem_size(), ..buffer(&x) };
            cube::rotate(&x.client, &all, layout, &buffer(&cosine), &buffer(&sine), sign, &buffer(&y));
            y
        }
    }

    impl TrackedRotary for CubeBackend {
        fn rotate(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>) -> FloatTensor<Self> {
            Self::turn(x, cosine, sine, 1.0)
        }
    }
}
