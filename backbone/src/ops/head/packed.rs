//! On the CPU, of a packed matrix: few passes over the logits, which are plain slices.

use burn::tensor::{DType, Tensor, TensorData};
use kernels::{Packed, Precision, bf16};

use super::{Head, HeadGradients, Inputs, Softmax, WayBack};
use crate::values as host;

/// Logits `[rows, vocabulary]`, the same before trained lengths (empty where there are none), and the log of each row's sum
/// of exponentials.
pub(super) struct Kept {
    logits: Vec<f32>,
    plain: Vec<f32>,
    log_sum: Vec<f32>,
}

pub(super) fn softmax(
    head: &Head,
    packed: &Packed,
    inputs: &Inputs,
    more: Option<Tensor<2>>,
    targets: &[u32],
) -> Softmax {
    let (rows, device) = (targets.len(), inputs.plain.device());
    let product =
        |x: Tensor<2>| -> Vec<f32> { kernels::product(&host(x.reshape([-1]).cast(DType::F32)), rows, packed) };
    let (scaled, kept) = inputs.halves(head);
    let mut logits = product(scaled);
    if let Some(more) = more {
        logits = kernels::scale_columns(&logits, &vec![1.0; packed.shape()[0]], &host(more.flatten(0, 1)));
    }
    let mut plain = Vec::new();
    if let Some((_, gain)) = head.gain() {
        let scaled = kernels::scale_columns(&logits, &host(gain), &kept.map_or_else(Vec::new, product));
        plain = std::mem::replace(&mut logits, scaled);
    }
    if head.scale != 1.0 || head.cap.is_some() {
        kernels::scale_and_cap(&mut logits, head.scale as f32, head.cap.map(|cap| cap as f32));
    }
    let found = kernels::softmax_statistics(&logits, packed.shape()[0], targets);
    let vector = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [rows]), &device);
    let kept = super::Kept::Packed(Kept { logits, plain, log_sum: found.log_sum });
    Softmax { nll: vector(found.nll), entropy: vector(found.entropy), kept }
}

pub(super) fn backward(
    head: &Head,
    packed: &Packed,
    way_back: WayBack,
    kept: Kept,
    weights: Tensor<1>,
    gradients: &mut HeadGradients,
) -> Tensor<2> {
    let (rows, [vocabulary, width]) = (way_back.targets.len(), packed.shape());
    let device = way_back.inputs.plain.device();
    let (weights, cap) = (host(weights), head.cap.map(|cap| cap as f32));
    let Kept { logits, plain, log_sum } = kept;
    let matrix = |values: Vec<f32>, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), &device);
    if head.lora.is_none() && packed.precision() == Precision::Bf16 {
        // The product alone reads it: half of the memory.
        let gradient: Vec<bf16> =
            kernels::logits_gradient(&logits, vocabulary, &way_back.targets, &log_sum, &weights, cap);
        return matrix(kernels::product_transposed(&gradient, rows, packed), [rows, width]);
    }
    let gradient: Vec<f32> = kernels::logits_gradient(&logits, vocabulary, &way_back.targets, &log_sum, &weights, cap);
    let back = |gradient: &[f32]| matrix(kernels::product_transposed(gradient, rows, packed), [rows, width]);
    let kept = way_back.inputs.halves(head).1.map(|_| back(&gradient));
    let gradient = match head.gain() {
        Some((norms, gain)) => {
            let (scaled, sums) = kernels::scale_columns_backward(&plain, &host(gain), &gradient);
            let sums = Tensor::from_data(TensorData::new(sums, [vocabulary]), &device);
            gradients.add_to_adapter("lora_magnitude_vector", sums / norms);
            scaled
        }
        None => gradient,
    };
    let through = way_back.inputs.meet(back(&gradient), kept);
    if head.lora.is_none() {
        return through;
    }
    match head.adapter_backward(way_back, matrix(gradient, [rows, vocabulary]), gradients) {
        Some(more) => through + more,
        None => through,
    }
}
