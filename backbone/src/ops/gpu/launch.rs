//! The operations on burn's device tensors: memory is taken and the kernels are launched.

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::{copy_contiguous, into_contiguous, untile};
use burn_cubecl::tensor::CubeTensor;
use cube::{Activation, AdamWBuffers, AdamWStep, Buffer, Layout, Rows};

use super::{AdamWState, DeviceOps, TrackedOps, codes, rows};
use crate::ops::codes::Parts;

impl DeviceOps for CubeBackend {
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

    fn scale_columns_forward(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
        let [z, gain] = [z, gain].map(into_contiguous);
        let y = beside(&z, z.shape(), z.dtype);
        cube::scale_columns(&z.client, &buffer(&z), &buffer(&gain), &buffer(&y));
        y
    }

    fn scale_columns_backward(
        z: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [z, gain, gradient] = [z, gain, gradient].map(into_contiguous);
        let [dz, dgain] = [&z, &gain].map(|input| beside(input, input.shape(), input.dtype));
        let [v, factor, g] = [&z, &gain, &gradient].map(buffer);
        cube::scale_columns_backward(&z.client, &v, &factor, &g, &buffer(&dz), &buffer(&dgain));
        (dz, dgain)
    }

    fn coded_rows(ids: IntTensor<Self>, parts: Parts<Self>) -> FloatTensor<Self> {
        let ids = into_contiguous(ids);
        codes::values(parts, Rows::Of(&buffer(&ids)), ids.shape().num_elements())
    }

    fn turn(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>, sign: f32) -> FloatTensor<Self> {
        let [cosine, sine] = [cosine, sine].map(into_contiguous);
        let x = untile(x);
        // Heads that stand inside of rows are read where they are.
        let x = if x.meta.strides()[3] == 1 { x } else { into_contiguous(x) };
        let shape: [usize; 4] = x.shape().dims();
        let strides = x.meta.strides();
        let layout = Layout { shape, strides: [strides[0], strides[1], strides[2]] };
        let y = beside(&x, x.shape(), x.dtype);
        let all = Buffer { length: x.handle.size_in_used() as usize / x.elem_size(), ..buffer(&x) };
        cube::rotate(&x.client, &all, layout, &buffer(&cosine), &buffer(&sine), sign, &buffer(&y));
        y
    }

    fn softmax_statistics(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [logits, targets] = [logits, targets].map(into_contiguous);
        let vector = || beside(&logits, targets.shape(), DType::F32);
        let (nll, entropy, log_sum) = (vector(), vector(), vector());
        let [a, b, c] = [&nll, &entropy, &log_sum].map(buffer);
        cube::softmax_statistics(&logits.client, &buffer(&logits), &buffer(&targets), &a, &b, &c);
        (nll, entropy, log_sum)
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        log_sum: FloatTensor<Self>,
        weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [targets, log_sum, weights] = [targets, log_sum, weights].map(into_contiguous);
        let logits = owned(logits);
        let [t, s, w] = [&targets, &log_sum, &weights].map(buffer);
        cube::logits_gradient(&logits.client, &buffer(&logits), &t, &s, &w);
        logits
    }

    fn adamw(
        state: AdamWState<Self>,
        gradient: FloatTensor<Self>,
        loss: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (AdamWState<Self>, FloatTensor<Self>) {
        let AdamWState { values, first, second, corrections } = state;
        let [values, gradient, loss] = [values, gradient, loss].map(into_contiguous);
        let [first, second, corrections] = [first, second, corrections].map(owned);
        let updated = beside(&values, values.shape(), DType::F32);
        let norm = beside(&values, Shape::new([1]), DType::F32);
        let buffers = AdamWBuffers {
            values: &buffer(&values),
            gradient: &buffer(&gradient),
            loss: &buffer(&loss),
            first: &buffer(&first),
            second: &buffer(&second),
            corrections: &buffer(&corrections),
            updated: &buffer(&updated),
            norm: &buffer(&norm),
        };
        cube::adamw(&values.client, &buffers, &step);
        (AdamWState { values: updated, first, second, corrections }, norm)
    }
}

impl TrackedOps for CubeBackend {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, epsilon: f32, output: DType) -> FloatTensor<Self> {
        Self::rms_norm_forward(x, weight, epsilon, output).0
    }

    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        Self::gated_forward(gate, up, activation)
    }

    fn scale_columns(z: FloatTensor<Self>, gain: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::scale_columns_forward(z, gain)
    }

    fn rotate(x: FloatTensor<Self>, cosine: FloatTensor<Self>, sine: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::turn(x, cosine, sine, 1.0)
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
fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = untile(tensor);
    if tensor.can_mut() && tensor.is_contiguous() { tensor } else { copy_contiguous(tensor) }
}
