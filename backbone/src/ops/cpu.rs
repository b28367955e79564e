//! Where an operation of the CPU meets burn's tensors and its graph; the mathematics is in the crate `kernels`.

use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Element, Tensor, TensorData};

/// Inputs of an operation: as many as three projections with their adapters and a residual have.
pub(super) const INPUTS: usize = 8;

/// An operation on the CPU and its way back.
pub(super) trait Operation: Debug + Send + Sync + 'static {
    /// The output, and what the way back will be given. Inputs that an operation does not have are empty.
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>);

    /// Gradients of those inputs that are `wanted`, each in its input's type as burn's own operations have it, from what
    /// was saved and the gradient of the output.
    fn backward(
        &self,
        saved: &[FlexTensor],
        gradient: FlexTensor,
        wanted: [bool; INPUTS],
    ) -> [Option<FlexTensor>; INPUTS];
}

/// The one entry into burn's dispatch: an operation with up to eight inputs.
#[backend_extension(Flex, Autodiff)]
#[allow(clippy::too_many_arguments, reason = "the dispatch takes tensors one by one")]
trait NativeOps: Backend {
    /// Runs `operation`. Inputs that it does not have are any tensors that are not tracked.
    fn native(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        g: FloatTensor<Self>,
        h: FloatTensor<Self>,
        operation: Arc<dyn Operation>,
    ) -> FloatTensor<Self>;
}

impl NativeOps for Flex {
    fn native(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        g: FloatTensor<Self>,
        h: FloatTensor<Self>,
        operation: Arc<dyn Operation>,
    ) -> FloatTensor<Self> {
        operation.forward(&[a, b, c, d, e, f, g, h]).0
    }
}

impl<C: CheckpointStrategy> NativeOps for Autodiff<Flex, C> {
    fn native(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
        g: FloatTensor<Self>,
        h: FloatTensor<Self>,
        operation: Arc<dyn Operation>,
    ) -> FloatTensor<Self> {
        let inputs = [a, b, c, d, e, f, g, h];
        let nodes = inputs.each_ref().map(|input| input.node());
        let inputs = inputs.map(|input| input.into_primitive());
        let (output, saved) = operation.forward(&inputs);
        match Native.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((operation, saved), output),
            OpsKind::UnTracked(preparation) => preparation.finish(output),
        }
    }
}

/// The step of the graph that an operation leaves.
#[derive(Debug)]
struct Native;

impl Backward<Flex, INPUTS> for Native {
    type State = (Arc<dyn Operation>, Vec<FlexTensor>);

    fn backward(self, ops: Ops<Self::State, INPUTS>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let (operation, saved) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let given = operation.backward(&saved, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(given) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}

/// Puts the inputs of an operation together and runs it.
pub(super) struct Call {
    inputs: Vec<FloatTensor<Dispatch>>,
}

impl Call {
    pub(super) fn new() -> Self {
        Self { inputs: Vec::with_capacity(INPUTS) }
    }

    pub(super) fn input<const D: usize>(mut self, tensor: Tensor<D>) -> Self {
        self.inputs.push(tensor.into_dispatch());
        self
    }

    /// Leaves places empty up to `index`.
    pub(super) fn skip_to(mut self, index: usize) -> Self {
        while self.inputs.len() < index {
            let nothing = Tensor::<1>::zeros([1], &burn::tensor::Device::flex());
            self.inputs.push(nothing.into_dispatch());
        }
        self
    }

    pub(super) fn run<const D: usize>(self, operation: impl Operation) -> Tensor<D> {
        let inputs: [FloatTensor<Dispatch>; INPUTS] =
            self.skip_to(INPUTS).inputs.try_into().expect("no operation has more inputs");
        let [a, b, c, d, e, f, g, h] = inputs;
        Tensor::from_dispatch(<Dispatch as NativeOps>::native(a, b, c, d, e, f, g, h, Arc::new(operation)))
    }
}

/// The values of a tensor, copied together first when they are scattered.
pub(super) fn gathered(tensor: &FlexTensor) -> FlexTensor {
    let together = match tensor.dtype() {
        DType::BF16 => tensor.as_slice::<kernels::bf16>().is_some(),
        _ => tensor.as_slice::<f32>().is_some(),
    };
    if together { tensor.clone() } else { tensor.to_contiguous() }
}

pub(super) fn slice<E: Element + bytemuck::Pod>(tensor: &FlexTensor) -> &[E] {
    tensor.as_slice().expect("the tensor was gathered, and its type was looked at")
}

pub(super) fn tensor<E: Element, const D: usize>(values: Vec<E>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Runs an expression with the values of a tensor of f32 or bf16 as a slice.
macro_rules! with_values {
    ($tensor:expr, $values:ident => $body:expr) => {
        match $tensor.dtype() {
            burn::tensor::DType::BF16 => {
                let $values = $crate::ops::cpu::slice::<kernels::bf16>($tensor);
                $body
            }
            _ => {
                let $values = $crate::ops::cpu::slice::<f32>($tensor);
                $body
            }
        }
    };
}
pub(super) use with_values;

/// Rows and columns.
pub(super) fn shape(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
