//! Gated activations: `activation(gate) * up`.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, silu};

use super::cpu::{Call, INPUTS, Operation, gathered, shape, tensor, with_values};
use super::{Form, Keeping, Projected};

/// The activation of a gated MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x sigmoid(x)`
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// `activation(gate) * up`
///
/// # Shapes
/// - `gate_up`: each of one width and type, f32 or bf16; output `[tokens, width]` of the same type.
pub fn gated(gate_up: Projected<2>, activation: Activation) -> Tensor<2> {
    match gate_up {
        Projected::Together(gate_up) => Call::new().input(gate_up).run(GatedTogether { activation }),
        Projected::Apart([gate, up]) => match Form::on(&gate.device().inner()) {
            #[cfg(feature = "gpu")]
            Form::Gpu => on_gpu::gated(gate, up, activation),
            Form::Cpu | Form::Composed => composed(gate, up, activation),
        },
    }
}

/// Bytes of each token that are kept for the way back: gate and up.
pub fn gated_bytes(keeping: &Keeping, width: u64) -> u64 {
    2 * width * keeping.size
}

fn composed(gate: Tensor<2>, up: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(gate) * up,
        // `x / 2 (1 + tanh(u))` is `x sigmoid(2 u)`.
        Activation::GeluTanh => {
            let factor = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
            let cube = gate.clone() * gate.clone() * gate.clone();
            gate.clone() * sigmoid((gate + cube.mul_scalar(0.044_715)).mul_scalar(factor)) * up
        }
    }
}

#[derive(Debug)]
struct GatedTogether {
    activation: Activation,
}

impl Operation for GatedTogether {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let gate_up = gathered(&inputs[0]);
        let [rows, width] = shape(&gate_up);
        let y = with_values!(&gate_up, values => {
            let y = match self.activation {
                Activation::Silu => kernels::swiglu(values, width / 2),
                Activation::GeluTanh => kernels::geglu(values, width / 2),
            };
            tensor(y, [rows, width / 2])
        });
        (y, vec![gate_up])
    }

    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        _wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS] {
        let gate_up = &saved[0];
        let [rows, width] = shape(gate_up);
        let gradient = gathered(&gradient);
        let mut given = [const { None }; INPUTS];
        given[0] = Some(with_values!(gate_up, values => with_values!(&gradient, gradient => {
            let back = match self.activation {
                Activation::GeluTanh => kernels::geglu_backward(values, gradient, width / 2),
                Activation::Silu => kernels::swiglu_backward(values, gradient, width / 2),
            };
            tensor(back, [rows, width])
        })));
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
    use cube::Activation;

    /// `activation(gate) * up`, of tensors of one shape and type.
    pub fn gated(gate: Tensor<2>, up: Tensor<2>, activation: super::Activation) -> Tensor<2> {
        let activation = match activation {
            super::Activation::Silu => Activation::Silu,
            super::Activation::GeluTanh => Activation::GeluTanh,
        };
        Tensor::from_dispatch(<Dispatch as TrackedGated>::gated(gate.into_dispatch(), up.into_dispatch(), activation))
    }

    /// Outside of the graph.
    #[backend_extension(Cube, Fusion)]
    pub(crate) trait GatedKernels: Backend {
        #[fusion(dtype = gate, shape = gate)]
        fn gated_forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

        #[fusion(meta = |gate, up, _gradient, _activation| (gate.clone(), up.clone()))]
        fn gated_backward(
            gate: FloatTensor<Self>,
            up: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            activation: Activation,
        ) -> (FloatTensor<Self>, FloatTensor<Self>);
    }

    /// In the graph.
    #[backend_extension(Cube, Autodiff, Fusion)]
    pub(crate) trait TrackedGated: Backend {
        #[fusion(dtype = gate, shape = gate)]
        fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    }

    impl<B: GatedKernels, C: CheckpointStrategy> TrackedGated for Autodiff<B, C> {
        fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
            let nodes = [gate.node(), up.node()];
            let (gate, up) = (gate.into_primitive(), up.into_primitive());
            let y = B::gated_forward(gate.clone(), up.clone(), activation);
            match Gated.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(preparation) => preparation.finish((gate, up, activation), y),
                OpsKind::UnTracked(preparation) => preparation.finish(y),
            }
        }
    }

    #[derive(Debug)]
    struct Gated;

    impl<B: GatedKernels> Backward<B, 2> for Gated {
        /// Gate and up.
        type State = (FloatTensor<B>, FloatTensor<B>, Activation);

        fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
            let gradient = gradients.consume::<B>(&ops.node);
            let (gate, up, activation) = ops.state;
            let ids = ops.parents.map(|parent| parent.map(|node| node.id));
            register::<B>(gradients, ids, B::gated_backward(gate, up, gradient, activation));
        }
    }

    impl GatedKernels for CubeBackend {
        fn gated_forward(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
            let [gate, up] = [gate, up].map(into_contiguous);
            let y = beside(&gate, gate.shape(), gate.dtype);
            cube::gated(&gate.client, activation, &buffer(&gate), &buffer(&up), &buffer(&y));
            y
        }

        fn gated_backward(
            gate: FloatTensor<Self>,
            up: FloatTensor<Self>,
            gradient: FloatTensor<Self>,
            activation: Activation,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            let [gate, up, gradient] = [gate, up, gradient].map(into_contiguous);
            let [dgate, dup] = [&gate, &up].map(|input| beside(input, input.shape(), input.dtype));
            let [g, u, d] = [&gate, &up, &gradient].map(buffer);
            cube::gated_backward(&gate.client, activation, &g, &u, &d, &buffer(&dgate), &buffer(&dup));
            (dgate, dup)
        }
    }

    impl TrackedGated for CubeBackend {
        fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
            Self::gated_forward(gate, up, activation)
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;
    use burn::tensor::activation::gelu_approximate;

    use super::*;
    use crate::ops::testing::{close, kept, leaf, rows, run};

    #[test]
    fn both_give_burns_own_activations() {
        let leaves = [leaf(19, 46, 0.1)];
        let halves = |x: Tensor<2>| (x.clone().narrow(1, 0, 23), x.narrow(1, 23, 23));
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let burns = run(&leaves, |l| {
                let (gate, up) = halves(l[0].clone() * 5.0);
                match activation {
                    Activation::Silu => silu(gate) * up,
                    Activation::GeluTanh => gelu_approximate(gate) * up,
                }
            });
            close(&run(&leaves, |l| gated(Projected::Together(l[0].clone() * 5.0), activation)), &burns, 2e-6);
            let apart = |l: &[Tensor<2>]| {
                let (gate, up) = halves(l[0].clone() * 5.0);
                composed(gate, up, activation)
            };
            close(&run(&leaves, apart), &burns, 2e-6);
        }
    }

    #[test]
    fn what_is_kept_is_what_the_estimate_counts() {
        for dtype in [DType::F32, DType::BF16] {
            let found = kept(&GatedTogether { activation: Activation::Silu }, &[rows(7, 46, dtype)]);
            let keeping = Keeping { size: dtype.size() as u64, is_packed: true, drops: false };
            assert_eq!(found, 7 * gated_bytes(&keeping, 23));
        }
    }
}
