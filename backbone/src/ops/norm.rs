//! RMSNorm.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor, TensorData};

use super::{Call, INPUTS, Operation, gathered, slice, tensor, with_values};

/// `x / sqrt(mean(x^2) + epsilon) * weight` over the last dimension, in the type `output`.
///
/// # Shapes
/// - `x` and output: `[.., features]`, f32 or bf16; `weight`: `[features]`, f32.
pub fn rms_norm<const D: usize>(x: Tensor<D>, weight: Tensor<1>, epsilon: f64, output: DType) -> Tensor<D> {
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
