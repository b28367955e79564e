//! A factor for each output of a projection: DoRA's.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};

use super::swiglu::shape;
use super::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};

/// `z * gain + bias`, or `z * gain + residual`.
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
    #[cfg(feature = "gpu")]
    if super::gpu::wanted(&z.device().inner()) {
        return super::gpu::scale_columns(z, gain);
    }
    let dtype = z.dtype();
    (z.cast(DType::F32) * gain.unsqueeze()).cast(dtype)
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
