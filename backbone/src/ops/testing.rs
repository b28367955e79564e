//! What the tests of operations share: an operation against a composition, forward and backward.

use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::cpu::{INPUTS, Operation, tensor};

pub(super) fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

pub(super) fn leaf(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
    plain(rows, columns, seed).autodiff().require_grad()
}

pub(super) fn plain(rows: usize, columns: usize, seed: f32) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values(rows * columns, seed), [rows, columns]), &Device::flex())
}

/// Outputs and gradients of `leaves`, with one fixed gradient of the output.
pub(super) fn run(leaves: &[Tensor<2>], function: impl Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
    let y = function(leaves);
    let [rows, columns] = y.dims();
    let seed = plain(rows, columns, 0.77).autodiff();
    let host = |tensor: Tensor<2>| tensor.into_data().convert::<f32>().try_into_vec::<f32>().expect("f32");
    let mut gradients = (y.clone().cast(DType::F32) * seed).sum().backward();
    let mut found = vec![host(y.inner())];
    found.extend(leaves.iter().map(|leaf| host(leaf.grad_remove(&mut gradients).expect("a gradient"))));
    found
}

pub(super) fn close(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1.0f32, |largest, value| largest.max(value.abs()));
        for (a, b) in found.iter().zip(expected) {
            assert!((a - b).abs() <= tolerance * scale, "{index}: {a} is not {b}");
        }
    }
}

/// Bytes of what an operation keeps of these inputs for the way back.
pub(super) fn kept(operation: &dyn Operation, inputs: &[FlexTensor]) -> u64 {
    let nothing = tensor(vec![0.0f32], [1]);
    let inputs: [FlexTensor; INPUTS] = std::array::from_fn(|index| inputs.get(index).unwrap_or(&nothing).clone());
    let (_, kept) = operation.forward(&inputs);
    kept.iter().map(|tensor| (tensor.layout().shape().num_elements() * tensor.dtype().size()) as u64).sum()
}

/// Rows for an operation, in f32 or bf16.
pub(super) fn rows(count: usize, width: usize, dtype: DType) -> FlexTensor {
    let numbers = values(count * width, 0.3);
    match dtype {
        DType::BF16 => tensor(numbers.into_iter().map(kernels::bf16::from_f32).collect(), [count, width]),
        _ => tensor(numbers, [count, width]),
    }
}
