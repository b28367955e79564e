//! The gated activation.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{Call, INPUTS, Operation, gathered, tensor, with_values};

/// `silu(gate) * up` of rows `[gate, up]`.
///
/// # Shapes
/// - `gate_up`: `[tokens, 2 * width]`, f32 or bf16; output `[tokens, width]` of the same type.
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    Call::new().input(gate_up).run(SwiGlu)
}

#[derive(Debug)]
struct SwiGlu;

impl Operation for SwiGlu {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let gate_up = gathered(&inputs[0]);
        let [rows, width] = shape(&gate_up);
        let y = with_values!(&gate_up, values => tensor(kernels::swiglu(values, width / 2), [rows, width / 2]));
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
        given[0] = Some(with_values!(gate_up, values => with_values!(&gradient, gradient =>
            tensor(kernels::swiglu_backward(values, gradient, width / 2), [rows, width]))));
        given
    }
}

pub(super) fn shape(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
