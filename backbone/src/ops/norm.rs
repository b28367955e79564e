//! Root mean square norm (Zhang and Sennrich 2019, arXiv 1910.07467), and layer norm (Ba et al. 2016, arXiv 1607.06450)
//! without weights.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor, TensorData};

use super::Form;
use super::cpu::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last dimension; without weights, of `x - mean(x)`. Computed in f32
/// whatever the type of `x`.
///
/// # Shapes
/// - `x` and output: `[.., features]`, the output in the type `output`; `weight`: `[features]`, f32.
pub fn norm<const D: usize>(x: Tensor<D>, weight: Option<Tensor<1>>, epsilon: f64, output: DType) -> Tensor<D> {
    let Some(weight) = weight else {
        let x = x.cast(DType::F32);
        let mean = x.clone().mean_dim(D - 1);
        return composed(x - mean, None, epsilon, output);
    };
    match Form::on(&x.device().inner()) {
        Form::Cpu => rms_norm(x, weight, epsilon, output),
        #[cfg(feature = "gpu")]
        Form::Gpu => on_gpu::rms_norm(x, weight, epsilon, output),
        Form::Composed => composed(x, Some(weight), epsilon, output),
    }
}

fn composed<const D: usize>(x: Tensor<D>, weight: Option<Tensor<1>>, epsilon: f64, output: DType) -> Tensor<D> {
    let x = x.cast(DType::F32);
    let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
    let normed = x / (mean_square + epsilon).sqrt();
    let scaled = match weight {
        Some(weight) => normed * weight.unsqueeze(),
        None => normed,
    };
    scaled.cast(output)
}

/// Bytes of each row of so many values that the CPU keeps for the way back, where a value takes so many.
pub fn norm_bytes(width: u64, size: u64) -> u64 {
    width * size
}

fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64, output: DType) -> Tensor<D> {
    Call::new().input(x).input(weight).run(RmsNorm { epsilon: epsilon as f32, output })
}

#[derive(Debug)]
struct RmsNorm {
    epsilon: f32,
    output: DType,
}

impl Operation for RmsNorm {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let (x, weight) = (gathered(&inputs[0]), gathered(&inputs[1]));
        let shape = x.layout().shape().clone();
        let factors = slice::<f32>(&weight);
        let y = with_values!(&x, values => match self.output {
            DType::BF16 => {
                FlexTensor::from_data(TensorData::new(
                    kernels::rms_norm::<_, kernels::bf16>(values, factors, self.epsilon),
                    shape,
                ))
            }
            _ => FlexTensor::from_data(TensorData::new(
                kernels::rms_norm::<_, f32>(values, factors, self.epsilon),
                shape,
            )),
        });
        (y, vec![x, weight])
    }

    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let [x, weight] = saved else { unreachable!("what `forward` saved") };
        let (gradient, factors) = (gathered(&gradient), slice::<f32>(weight));
        let mut given = [const { None }; INPUTS];
        let shape = x.layout().shape().clone();
        let (dx, dweight) = with_values!(x, x => with_values!(&gradient, gradient => {
            let (dx, dweight) = kernels::rms_norm_backward(x, factors, gradient, self.epsilon, wanted[1]);
            (FlexTensor::from_data(TensorData::new(dx, shape)), dweight)
        }));
        given[0] = Some(dx);
        given[1] = dweight.map(|values| {
            let length = values.len();
            tensor(values, [length])
        });
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
    use burn::backend::fusion::custom::TensorSpec;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
    use burn::tensor::{DType, Shape, Tensor};
    use burn_cubecl::CubeBackend;
    use burn_cubecl::kernel::into_contiguous;

    use crate::ops::gpu::{beside, buffer};
    use crate::ops::gpu::{rows, scalars};

    /// `x / sqrt(mean(x^2) + epsilon) * weight` over the last dimension, in the type `output`.
    ///
    /// # Shapes
    /// - `x` and output: `[.., features]`; `weight`: `[features]`, f32.
    pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64, output: DType) -> Tensor<D> {
        let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
        Tensor::from_dispatch(<Dispatch as TrackedNorm>::rms_norm(x, weight, epsilon as f32, output))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait NormKernels: Backend {
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
    }

    /// In the graph.
    #[backend_extension(Cube, Autodiff, Fusion)]
    pub(crate) trait TrackedNorm: Backend {
        #[fusion(meta = |x, _weight, _epsilon, output| TensorSpec::new(x.shape.clone(), *output))]
        fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self>;
    }

    impl<B: NormKernels, C: CheckpointStrategy> TrackedNorm for Autodiff<B, C> {
        fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self> {
            let nodes = [x.node(), weight.node()];
            let (x, weight) = (x.into_primitive(), weight.into_primitive());
            let (y, inverse) = B::rms_norm_forward(x.clone(), weight.clone(), epsilon, output);
            match RmsNorm.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(preparation) => preparation.finish([x, weight, inverse], y),
                OpsKind::UnTracked(preparation) => preparation.finish(y),
            }
        }
    }

    #[derive(Debug)]
    struct RmsNorm;

    impl<B: NormKernels> Backward<B, 2> for RmsNorm {
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

    impl NormKernels for CubeBackend {
        fn rms_norm_forward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            epsilon: f32,
            output: DType,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let [x, weight] = [x, weight].map(into_contiguous);
            let y = beside(&x, x.shape(), output);
            let inverse = beside(&x, Shape::new([rows(&x.shape())]), DType::F32);
            cube::rms_norm(&x.client, &buffer(&x), &buffer(&weight), epsilon, &buffer(&y), &buffer(&inverse));
            (y, inverse)
        }

        fn rms_norm_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            inverse: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let [x, weight, inverse, gradient] = [x, weight, inverse, gradient].map(into_contiguous);
            let dx = beside(&x, x.shape(), x.dtype);
            let [given, scale, root, g] = [&x, &weight, &inverse, &gradient].map(buffer);
            cube::rms_norm_backward(&x.client, &given, &scale, &root, &g, &buffer(&dx));
            dx
        }

        fn rms_norm_weight_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            inverse: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
        ) -> FloatTensor<Self> {
            let [x, inverse, gradient] = [x, inverse, gradient].map(into_contiguous);
            let dweight = beside(&x, weight.shape(), DType::F32);
            let [given, root, g] = [&x, &inverse, &gradient].map(buffer);
            cube::rms_norm_weight_backward(&x.client, &given, &root, &g, &buffer(&dweight));
            dweight
        }
    }

    impl TrackedNorm for CubeBackend {
        fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self> {
            Self::rms_norm_forward(x, weight, epsilon, output).0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{close, kept, leaf, rows, run};

    #[test]
    fn the_cpu_gives_the_composition() {
        let leaves = [leaf(37, 43, 0.1), leaf(1, 43, 0.5)];
        let weight = |l: &[Tensor<2>]| l[1].clone().reshape([43]);
        let fused = run(&leaves, |l| rms_norm(l[0].clone(), weight(l), 1e-5, DType::F32));
        close(&fused, &run(&leaves, |l| composed(l[0].clone(), Some(weight(l)), 1e-5, DType::F32)), 1e-6);
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        let weight = tensor(vec![1.0f32; 43], [43]);
        for dtype in [DType::F32, DType::BF16] {
            let found = kept(&RmsNorm { epsilon: 1e-5, output: DType::F32 }, &[rows(7, 43, dtype), weight.clone()]);
            assert_eq!(found, 7 * norm_bytes(43, dtype.size() as u64) + 4 * 43);
        }
    }
}
