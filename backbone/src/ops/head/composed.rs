//! Of burn's operations: every device, every kind of matrix that is not packed.

use burn::tensor::{DType, IndexingUpdateOp, Tensor};

use super::{Asked, Head, HeadGradients, Pull, Softmax, WayBack, indices};
use crate::ops::matrix::Unpacked;

/// The probabilities `[rows, vocabulary]` at the temperature of the gradient, the slope of each logit's cap if it has one, and where there are trained lengths
/// the logits before them. The gradient of minus the entropy, where it has a part, and the part of the target that lies on all of
/// the vocabulary.
pub(super) struct Kept {
    matrix: Unpacked,
    probabilities: Tensor<2>,
    slopes: Option<Tensor<2>>,
    plain: Option<Tensor<2>>,
    of_entropy: Option<Tensor<2>>,
    smoothing: f64,
}

/// # Shapes
/// - `logits`, `kept`, `more`: `[rows, vocabulary]`; what the matrix gives, beside trained lengths too, and the adapter.
pub(super) fn softmax(
    head: &Head,
    matrix: Unpacked,
    logits: Tensor<2>,
    kept: Option<Tensor<2>>,
    more: Option<Tensor<2>>,
    targets: &[u32],
    asked: Asked,
) -> Softmax {
    let (rows, targets) = (targets.len(), indices(targets, &logits.device()));
    let mut logits = logits.cast(DType::F32);
    if let Some(more) = more {
        logits = logits + more;
    }
    let mut plain = None;
    if let Some((_, gain)) = head.gain() {
        let scaled = logits.clone() * gain.unsqueeze();
        plain = Some(std::mem::replace(&mut logits, scaled));
    }
    if let Some(kept) = kept {
        logits = logits + kept.cast(DType::F32);
    }
    let logits = head.bend(logits);
    let slopes = head.cap.map(|cap| {
        let part = logits.clone().div_scalar(cap);
        (part.clone() * part).neg().add_scalar(1.0)
    });
    let shifted = logits.clone() - logits.max_dim(1);
    let exponentials = shifted.clone().exp();
    let sum = exponentials.clone().sum_dim(1);
    let log_sum = sum.clone().log();
    let mut probabilities = exponentials / sum;
    let observed = shifted.clone().gather(1, targets.reshape([rows, 1]));
    let nll = (log_sum.clone() - observed.clone()).reshape([rows]);
    let entropy = (log_sum.clone() - (probabilities.clone() * shifted.clone()).sum_dim(1)).reshape([rows]);
    let of_entropy = asked.entropy_bonus.then(|| {
        let log_probabilities = shifted.clone() - log_sum.clone();
        probabilities.clone() * (log_probabilities + entropy.clone().reshape([rows, 1]))
    });
    let squares = || (probabilities.clone() * probabilities.clone()).sum_dim(1).reshape([rows]);
    let sum_of_squares = asked.sum_of_squares.then(squares);
    let (mut loss, mut log_sum) = (None, log_sum);
    if asked.temperature != 1.0 {
        let factor = 1.0 / asked.temperature;
        let exponentials = shifted.clone().mul_scalar(factor).exp();
        let sum = exponentials.clone().sum_dim(1);
        log_sum = sum.clone().log();
        let nll = log_sum.clone() - observed.mul_scalar(factor);
        loss = Some(nll.mul_scalar(asked.temperature).reshape([rows]));
        probabilities = exponentials / sum;
    }
    let smoothing = asked.label_smoothing;
    if smoothing != 0.0 {
        let everywhere = (log_sum.mul_scalar(asked.temperature) - shifted.mean_dim(1)).reshape([rows]);
        let observed = loss.unwrap_or_else(|| nll.clone());
        loss = Some(everywhere.mul_scalar(smoothing) + observed.mul_scalar(1.0 - smoothing));
    }
    let kept = super::Kept::Composed(Kept { matrix, probabilities, slopes, plain, of_entropy, smoothing });
    Softmax { nll, entropy, sum_of_squares, loss, kept }
}

/// The gradient of the logits is `weight * (softmax - target) * slope` and what an entropy bonus adds to it.
pub(super) fn backward(
    head: &Head,
    way_back: WayBack,
    kept: Kept,
    pull: Pull,
    gradients: &mut HeadGradients,
) -> Tensor<2> {
    let Kept { matrix, probabilities, slopes, plain, of_entropy, smoothing } = kept;
    let targets = &way_back.targets;
    let (rows, device) = (targets.len(), probabilities.device());
    let observed = Tensor::<2>::full([rows, 1], smoothing - 1.0, &device);
    let places = indices(targets, &device).reshape([rows, 1]);
    let vocabulary = probabilities.dims()[1];
    let mut difference = probabilities.scatter(1, places, observed, IndexingUpdateOp::Add);
    if smoothing != 0.0 {
        difference = difference.sub_scalar(smoothing / vocabulary as f64);
    }
    let mut gradient = difference * pull.weights.reshape([rows, 1]);
    if let Some((of_entropy, factors)) = of_entropy.zip(pull.entropy_bonus) {
        gradient = gradient + of_entropy * factors.reshape([rows, 1]);
    }
    let gradient = match slopes {
        Some(slopes) => gradient * slopes,
        None => gradient,
    };
    through(head, &matrix, way_back, gradient, plain, gradients)
}

/// The way back from the gradient of the logits, `[rows, vocabulary]`; `plain` are those before trained lengths.
pub(super) fn through(
    head: &Head,
    matrix: &Unpacked,
    way_back: WayBack,
    mut logits_gradient: Tensor<2>,
    plain: Option<Tensor<2>>,
    gradients: &mut HeadGradients,
) -> Tensor<2> {
    let dtype = way_back.inputs.plain.dtype();
    let back = |gradient: &Tensor<2>| matrix.product_back(gradient.clone(), dtype);
    let kept = way_back.inputs.halves(head).1.map(|_| back(&logits_gradient));
    if let Some((plain, (norms, gain))) = plain.zip(head.gain()) {
        let sums = (plain * logits_gradient.clone()).sum_dim(0).squeeze_dim(0);
        gradients.add_to_adapter("lora_magnitude_vector", sums / norms);
        logits_gradient = logits_gradient * gain.unsqueeze();
    }
    if head.is_trained {
        let rounded = logits_gradient.clone().cast(dtype);
        gradients.add(head.name.clone(), rounded.transpose().matmul(way_back.inputs.plain.clone()).flatten(0, 1));
    }
    let through = way_back.inputs.meet(back(&logits_gradient), kept);
    match head.adapter_backward(way_back, logits_gradient, gradients) {
        Some(more) => through + more.cast(dtype),
        None => through,
    }
}
