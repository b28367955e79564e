//! On the CPU, of a packed matrix: few passes over the logits, which are plain slices.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use kernels::{Bend, LogSums, More, Packed, Precision, bf16};

use super::{Asked, Head, HeadGradients, Inputs, Pull, Softmax, WayBack};
use crate::values as host;

/// Logits `[rows, vocabulary]`, the same before trained lengths (empty where there are none), and the log of each row's sum of
/// exponentials of `factor` times its logits: one over the temperature of the gradient. The entropy of each row where it has
/// a part in the gradient, and the part of the target that lies on all of the vocabulary.
pub(super) struct Kept {
    matrix: Arc<Packed>,
    logits: Vec<f32>,
    plain: Vec<f32>,
    sums: LogSums,
    factor: f32,
    entropy: Vec<f32>,
    smoothing: f32,
}

pub(super) fn softmax(
    head: &Head,
    packed: Arc<Packed>,
    inputs: &Inputs,
    more: Option<Tensor<2>>,
    targets: &[u32],
    asked: Asked,
) -> Softmax {
    let (rows, device) = (targets.len(), inputs.plain.device());
    let product =
        |x: Tensor<2>| -> Vec<f32> { kernels::product(&host(x.reshape([-1]).cast(DType::F32)), rows, &packed) };
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
    let vocabulary = packed.shape()[0];
    let found = kernels::softmax_statistics(&logits, vocabulary, targets);
    let vector = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, [rows]), &device);
    let sum_of_squares = asked.sum_of_squares.then(|| {
        let of_squares = kernels::log_sums(&logits, vocabulary, 2.0).above;
        vector(of_squares.iter().zip(&found.sums.above).map(|(two, one)| (two - 2.0 * one).exp()).collect())
    });
    let factor = (1.0 / asked.temperature) as f32;
    let (mut sums, mut loss) = (found.sums, None);
    let log_sums = |sums: &LogSums| -> Vec<f64> {
        let of_row = |(largest, above): (&f32, &f32)| f64::from(factor) * f64::from(*largest) + f64::from(*above);
        sums.largest.iter().zip(&sums.above).map(of_row).collect()
    };
    if asked.temperature != 1.0 {
        sums = kernels::log_sums(&logits, vocabulary, factor);
        let observed = (logits.chunks_exact(vocabulary).zip(targets)).map(|(row, target)| row[*target as usize]);
        let of_row = |(log_sum, logit): (f64, f32)| {
            ((log_sum - f64::from(logit) * f64::from(factor)) * asked.temperature) as f32
        };
        loss = Some(log_sums(&sums).into_iter().zip(observed).map(of_row).collect::<Vec<f32>>());
    }
    let smoothing = asked.label_smoothing;
    if smoothing != 0.0 {
        let means = kernels::means(&logits, vocabulary);
        let everywhere = log_sums(&sums).into_iter().zip(means).map(|(sum, mean)| asked.temperature * sum - mean);
        let observed = loss.as_ref().unwrap_or(&found.nll);
        let mixed = |(all, one): (f64, &f32)| (smoothing * all + (1.0 - smoothing) * f64::from(*one)) as f32;
        loss = Some(everywhere.zip(observed).map(mixed).collect());
    }
    let kept_entropy = if asked.entropy_bonus { found.entropy.clone() } else { Vec::new() };
    let (nll, entropy, loss) = (vector(found.nll), vector(found.entropy), loss.map(vector));
    let kept = Kept { matrix: packed, logits, plain, sums, factor, entropy: kept_entropy, smoothing: smoothing as f32 };
    Softmax { nll, entropy, sum_of_squares, loss, kept: super::Kept::Packed(kept) }
}

pub(super) fn backward(
    head: &Head,
    way_back: WayBack,
    kept: Kept,
    pull: Pull,
    gradients: &mut HeadGradients,
) -> Tensor<2> {
    let device = way_back.inputs.plain.device();
    let Kept { matrix: packed, logits, plain, sums, factor, entropy, smoothing } = kept;
    let (rows, [vocabulary, width]) = (way_back.targets.len(), packed.shape());
    let (weights, bend) = (host(pull.weights), Bend { cap: head.cap.map(|cap| cap as f32), factor });
    let bonus = pull.entropy_bonus.map(host);
    let more = More { smoothing, entropy: bonus.as_deref().map(|factors| [factors, &entropy[..]]) };
    let matrix = |values: Vec<f32>, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), &device);
    if head.lora.is_none() && packed.precision() == Precision::Bf16 {
        // The product alone reads it: half of the memory.
        let gradient: Vec<bf16> =
            kernels::logits_gradient(&logits, vocabulary, &way_back.targets, &sums, &weights, bend, more);
        return matrix(kernels::product_transposed(&gradient, rows, &packed), [rows, width]);
    }
    let gradient: Vec<f32> =
        kernels::logits_gradient(&logits, vocabulary, &way_back.targets, &sums, &weights, bend, more);
    let back = |gradient: &[f32]| matrix(kernels::product_transposed(gradient, rows, &packed), [rows, width]);
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
