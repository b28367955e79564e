//! Gated activations.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::{Call, INPUTS, Operation, gathered, tensor, with_values};

/// `silu(gate) * up` of rows `[gate, up]`.
///
/// # Shapes
/// - `gate_up`: `[tokens, 2 * width]`, f32 or bf16; output `[tokens, width]` of the same type.
pub fn swiglu(gate_up: Tensor<2>) -> Tensor<2> {
    Call::new().input(gate_up).run(Gated { gelu: false })
}

/// `gelu(gate) * up` with GELU's tanh approximation, shapes as in [`swiglu`].
pub fn geglu(gate_up: Tensor<2>) -> Tensor<2> {
    Call::new().input(gate_up).run(Gated { gelu: true })
}

#[derive(Debug)]
struct Gated {
    /// GELU in place of SiLU.
    gelu: bool,
}

impl Operation for Gated {
    fn forward(&self, inputs: &[FlexTensor; INPUTS]) -> (FlexTensor, Vec<FlexTensor>) {
        let gate_up = gathered(&inputs[0]);
        let [rows, width] = shape(&gate_up);
        let y = with_values!(&gate_up, values => {
            let y = if self.gelu { kernels::geglu(values, width / 2) } else { kernels::swiglu(values, width / 2) };
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
            let back = match self.gelu {
                true => kernels::geglu_backward(values, gradient, width / 2),
                false => kernels::swiglu_backward(values, gradient, width / 2),
            };
            tensor(back, [rows, width])
        })));
        given
    }
}

pub(super) fn shape(tensor: &FlexTensor) -> [usize; 2] {
    let shape = tensor.layout().shape();
    [shape[0], shape[1]]
}
