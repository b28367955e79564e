//! Where an operation of a GPU meets burn's device tensors and its graph; the kernels are in the crate `cube`.
//!
//! `GPU_KERNELS=composed` in the environment leaves them unused, so that a run can be compared with one that composes
//! burn's own operations.

#[cfg(all(test, any(feature = "cuda-untuned", feature = "wgpu")))]
mod tests;

use std::sync::LazyLock;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::{copy_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;
use cube::Buffer;

/// True where the environment asks for compositions.
pub(super) fn composed() -> bool {
    static COMPOSED: LazyLock<bool> =
        LazyLock::new(|| std::env::var_os("GPU_KERNELS").is_some_and(|value| value == "composed"));
    *COMPOSED
}

/// One value for each row, f32.
pub(super) fn scalars(rows: usize) -> TensorSpec {
    TensorSpec::new(Shape::new([rows]), DType::F32)
}

/// Rows of the last dimension.
pub(super) fn rows(shape: &Shape) -> usize {
    shape.num_elements() / shape.last().copied().unwrap_or(1).max(1)
}

/// Hands two gradients to those that want them.
pub(super) fn register<B: Backend>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; 2],
    (first, second): (FloatTensor<B>, FloatTensor<B>),
) {
    for (parent, gradient) in parents.into_iter().zip([first, second]) {
        if let Some(parent) = parent {
            gradients.register::<B>(parent, gradient);
        }
    }
}

/// The memory of a contiguous tensor.
pub(super) fn buffer(tensor: &CubeTensor) -> Buffer {
    Buffer {
        handle: tensor.handle.clone(),
        length: tensor.shape().num_elements(),
        element: burn::backend::cubecl::dtype_to_storage_type(tensor.dtype),
    }
}

/// Room for a contiguous tensor on the same device.
pub(super) fn beside(tensor: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    let handle = tensor.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(tensor.client.clone(), tensor.device.clone(), shape, handle, dtype)
}

/// A contiguous tensor that may be written: itself where nothing else holds it, else a copy.
pub(super) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = untile(tensor);
    if tensor.can_mut() && tensor.is_contiguous() { tensor } else { copy_contiguous(tensor) }
}
