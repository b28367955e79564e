//! Dropped inputs of an adapter, as factors: 0 for what is dropped, 1 over the share that is left for the rest.

use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use kernels::Dropout;

use crate::device::is_cpu;

/// The factors of a pass. On the CPU the places are those that packed projections drop by themselves; a GPU draws its own
/// from the same key.
///
/// # Shapes
/// - output: `shape`, not tracked.
pub fn dropout_mask(dropout: Dropout, probability: f64, shape: [usize; 2], dtype: DType, device: &Device) -> Tensor<2> {
    if is_cpu(device) {
        let [rows, width] = shape;
        return Tensor::from_data(TensorData::new(dropout.mask(rows, width), shape), (device, dtype));
    }
    device.seed(dropout.key());
    let keep = 1.0 - probability;
    Tensor::<2>::random(shape, Distribution::Bernoulli(keep), (device, dtype)).div_scalar(keep)
}
