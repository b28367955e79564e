//! A factor for each output of a projection: DoRA's.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};

use super::cpu::{Call, INPUTS, Operation, gathered, shape, slice, tensor, with_values};
use super::{Form, Keeping};

/// `z * gain + bias`, or `z * gain + residual`, on the CPU.
///
/// # Shapes
/// - `z`: `[tokens, out]`, f32 or bf16; `gain`: `[out]`, f32; `bias`: `[out]`; `residual`: `[tokens, out]`, f32.
/// - output: `[tokens, out]`, f32 with a residual, else of the type of `z`.
pub fn scale_columns(
    z: Tensor<2>,
    gain: Tensor<1>,
    bias: Option<Arc<Vec<f32>>>,
    residual: Option<Tensor<2>>,
) -> Tensor<2> {
    assert!(bias.is_none() || residual.is_none(), "a bias or a residual");
    let has_residual = residual.is_some();
    let call = Call::new().input(z).input(gain);
    let call = if let Some(residual) = residual { call.input(residual) } else { call };
    call.run(ScaleColumns { bias, has_residual })
}

/// `z * gain`, multiplied in f32 whatever the type of `z`: a gain rounded to bf16 would move in steps of a 256th of itself.
///
/// # Shapes
/// - `z` and output: `[tokens, out]`, of one type; `gain`: `[out]`, f32.
pub fn times_gain(z: Tensor<2>, gain: Tensor<1>) -> Tensor<2> {
    match Form::on(&z.device().inner()) {
        #[cfg(feature = "gpu")]
        Form::Gpu => on_gpu::scale_columns(z, gain),
        Form::Cpu | Form::Composed => {
            let dtype = z.dtype();
            (z.cast(DType::F32) * gain.unsqueeze()).cast(dtype)
        }
    }
}

/// Bytes of each token that are kept for the way back behind projections of this width, all together: what is scaled. Where
/// inputs are dropped, burn's operations scale what the matrix gives apart from what the adapter gives.
pub fn columns_bytes(keeping: &Keeping, width: u64) -> u64 {
    let scaled = if keeping.drops && !keeping.is_packed { 2 } else { 1 };
    scaled * width * keeping.size
}

#[derive(Debug)]
struct ScaleColumns {
    bias: Option<Arc<Vec<f32>>>,
    has_residual: bool,
}

impl Operation for ScaleColumns {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let (z, gain) = (gathered(&inputs[0]), gathered(&inputs[1]));
        let residual = self.has_residual.then(|| gathered(&inputs[2]));
        let start = match (&residual, &self.bias) {
            (Some(residual), _) => slice(residual),
            (None, Some(bias)) => bias.as_slice(),
            (None, None) => &[],
        };
        let (shape, factors) = (shape(&z), slice(&gain));
        let y = match z.dtype() {
            DType::BF16 if !self.has_residual => {
                tensor(kernels::scale_columns::<_, kernels::bf16>(slice::<kernels::bf16>(&z), factors, start), shape)
            }
            _ => with_values!(&z, z => tensor(kernels::scale_columns::<_, f32>(z, factors, start), shape)),
        };
        (y, vec![z, gain])
    }

    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        _wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let [z, gain] = saved else { unreachable!("what `forward` saved") };
        let values = gathered(&gradient);
        let (shape, gain) = (shape(z), slice(gain));
        let mut given = [const { None }; INPUTS];
        with_values!(z, z => with_values!(&values, values => {
            let (dz, dgain) = kernels::scale_columns_backward(z, gain, values);
            given[0] = Some(tensor(dz, shape));
            given[1] = Some(tensor(dgain, [shape[1]]));
        }));
        if self.has_residual {
            given[2] = Some(gradient);
        }
        given
    }
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

    use crate::ops::gpu::register;
    use crate::ops::gpu::{beside, buffer};

    /// `z * gain`, multiplied in f32.
    ///
    /// # Shapes
    /// - `z` and output: `[tokens, out]`, of one type; `gain`: `[out]`, f32.
    pub fn scale_columns(z: Tensor<2>, gain: Tensor<1>) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as TrackedColumns>::scale_columns(z.into_dispatch(), gain.into_dispatch()))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait ColumnsKernels: Backend {
        #[fusion(dtype = z, shape = z)]
        fn scale_columns_forward(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self>;

        #[fusion(meta = |z, gain, _gradient| (z.clone(), gain.clone()))]
        fn scale_columns_backward(
            z: FloatTensor<Self>,
            gain: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    /// In the graph.
    #[backend_extension(Cube, Autodiff, Fusion)]
    pub(crate) trait TrackedColumns: Backend {
        #[fusion(dtype = z, shape = z)]
        fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl<B: ColumnsKernels, C: CheckpointStrategy> TrackedColumns for Autodiff<B, C> {
        fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [z.node(), gain.node()];
            let (z, gain) = (z.into_primitive(), gain.into_primitive());
            let y = B::scale_columns_forward(z.clone(), gain.clone());
            match ScaleColumns.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(preparation) => preparation.finish((z, gain), y),
                OpsKind::UnTracked(preparation) => preparation.finish(y),
            }
        }
    }

    #[derive(Debug)]
    struct ScaleColumns;

    impl<B: ColumnsKernels> Backward<B, 2> for ScaleColumns {
        /// The input and its factors.
        type State = (FloatTensor<B>, FloatTensor<B>);

        fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
            let gradient = gradients.consume::<B>(&ops.node);
            let (z, gain) = ops.state;
            let ids = ops.parents.map(|parent| parent.map(|node| node.id));
            register::<B>(gradients, ids, B::scale_columns_backward(z, gain, gradient));
        }
    }

    impl ColumnsKernels for CubeBackend {
        fn scale_columns_forward(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
            let [z, gain] = [z, gain].map(into_contiguous);
            let y = beside(&z, z.shape(), z.dtype);
            cube::scale_columns(&z.client, &buffer(&z), &buffer(&gain), &buffer(&y));
            y
        }

        fn scale_columns_backward(
            z: FloatTensor<Self>,
            gain: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let [z, gain, gradient] = [z, gain, gradient].map(into_contiguous);
            let [dz, dgain] = [&z, &gain].map(|input| beside(input, input.shape(), input.dtype));
            let [v, factor, g] = [&z, &gain, &gradient].map(buffer);
            cube::scale_columns_backward(&z.client, &v, &factor, &g, &buffer(&dz), &buffer(&dgain));
            (dz, dgain)
        }
    }

    impl TrackedColumns for CubeBackend {
        fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
            Self::scale_columns_forward(z, gain)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, kept, leaf, plain, rows, run, values};

    #[test]
    fn the_cpu_gives_the_composition() {
        let leaves = [leaf(37, 43, 0.1), leaf(1, 43, 0.5), leaf(37, 43, 0.9)];
        let gain = |l: &[Tensor<2>]| l[1].clone().reshape([43]);
        let fused = run(&leaves, |l| scale_columns(l[0].clone(), gain(l), None, Some(l[2].clone())));
        let composed = run(&leaves, |l| l[2].clone() + l[0].clone() * l[1].clone());
        close(&fused, &composed, 1e-6);
        let bias: Vec<f32> = values(43, 0.3);
        let fused = run(&leaves[..2], |l| scale_columns(l[0].clone(), gain(l), Some(Arc::new(bias.clone())), None));
        let composed = run(&leaves[..2], |l| l[0].clone() * l[1].clone() + plain(1, 43, 0.3));
        close(&fused, &composed, 1e-6);
        let half = |l: &[Tensor<2>]| scale_columns(l[0].clone().cast(DType::BF16), gain(l), None, None);
        close(&run(&leaves[..2], half), &run(&leaves[..2], |l| l[0].clone() * l[1].clone()), 2e-2);
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        let gain = tensor(vec![1.0f32; 43], [43]);
        for dtype in [DType::F32, DType::BF16] {
            let operation = ScaleColumns { bias: None, has_residual: false };
            let found = kept(&operation, &[rows(7, 43, dtype), gain.clone()]);
            let keeping = Keeping { size: dtype.size() as u64, is_packed: true, drops: false };
            assert_eq!(found, 7 * columns_bytes(&keeping, 43) + 4 * 43);
        }
    }
}
