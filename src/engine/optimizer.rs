//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) on the flat vector of all trained
//! values, with global-norm clipping and the guard against gradients that are not finite.

use backbone::values as host;
use burn::tensor::{Device, Tensor, TensorData};
use kernels::AdamWStep;

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of the gradients and of their squares.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Fraction of a weight taken off at learning rate 1.
    pub weight_decay: f64,
    /// The largest global norm of the gradient; `None` does not clip.
    pub clip_norm: Option<f64>,
}

/// Moments of all trained values, what corrects their bias, and where learning rates differ. All of it lives on the device, so that a step that is
/// skipped there needs no word from the host.
pub struct Moments {
    /// Mean of the gradients, `[length]`.
    pub first: Tensor<1>,
    /// Mean of the squared gradients, `[length]`.
    pub second: Tensor<1>,
    /// `1 - beta^updates` of the two moments, `[2]`, skipped steps not counted. Kept by `c <- beta c + (1 - beta)`, which
    /// loses no digits where the powers are near 1.
    pub corrections: Tensor<1>,
    /// Factor of the learning rate of each value, `[length]`; `None` where all have the same.
    pub factors: Option<Tensor<1>>,
}

impl Moments {
    /// Before the first update.
    pub fn zeros(length: usize, device: &Device) -> Self {
        let zeros = |length| Tensor::zeros([length], device);
        Self { first: zeros(length), second: zeros(length), corrections: zeros(2), factors: None }
    }
}

/// What every way of making an update derives from the settings and the step's learning rate.
struct Derived {
    /// How much of the moments is kept.
    betas: [f64; 2],
    /// How much of the gradient comes to them. Derived in f64: 1 - 0.999 in f32 is off in the fifth digit.
    shares: [f64; 2],
    /// How much is taken off the values.
    decay: f64,
}

impl AdamW {
    fn derived(&self, learning_rate: f64) -> Derived {
        let betas = [self.betas.0, self.betas.1];
        Derived { betas, shares: betas.map(|beta| 1.0 - beta), decay: learning_rate * self.weight_decay }
    }

    /// One update of values of which the last `controls` are there to compare with: these are clipped by a norm of their
    /// own and left as they are where that is not finite, so that without them all others would become the same. The norm
    /// given back is that of the others; else as [`AdamW::update`].
    pub fn update_with_controls(
        &self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        moments: &mut Moments,
        learning_rate: f64,
        controls: usize,
    ) -> (Tensor<1>, Tensor<1>) {
        if controls == 0 {
            return self.update(values, gradient, loss, moments, learning_rate);
        }
        let first = values.dims()[0] - controls;
        let part = |tensor: &Tensor<1>, start: usize, length: usize| tensor.clone().narrow(0, start, length);
        let update = |start: usize, length: usize| {
            let mut moments = Moments {
                first: part(&moments.first, start, length),
                second: part(&moments.second, start, length),
                corrections: moments.corrections.clone(),
                factors: moments.factors.as_ref().map(|factors| part(factors, start, length)),
            };
            let (values, gradient) = (part(&values, start, length), part(&gradient, start, length));
            let (updated, norm) = self.update(values, gradient, loss, &mut moments, learning_rate);
            (updated, norm, moments)
        };
        let ((updated, norm, own), (of_controls, _, theirs)) = (update(0, first), update(first, controls));
        let together = |own, theirs| Tensor::cat(vec![own, theirs], 0);
        moments.first = together(own.first, theirs.first);
        moments.second = together(own.second, theirs.second);
        moments.corrections = own.corrections;
        (together(updated, of_controls), norm)
    }

    /// One update. Gives the new values and the gradient's global norm before clipping, `[1]`. Where the norm or the loss
    /// is not finite, the norm given back is not finite either, and values and moments stay as they were.
    ///
    /// # Shapes
    /// - `values`, `gradient`: `[length]`, `loss`: `[1]`, f32.
    pub fn update(
        &self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        moments: &mut Moments,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        if backbone::device::is_cpu(&values.device()) {
            return self.update_in_one_pass(values, gradient, loss, moments, learning_rate);
        }
        // The kernel has one rate for all: rates of their own (LoRA+) are composed.
        #[cfg(feature = "gpu")]
        if moments.factors.is_none() && backbone::ops::gpu::wanted(&values.device()) {
            return self.update_on_device(values, gradient, loss, moments, learning_rate);
        }
        self.update_composed(values, gradient, loss, moments, learning_rate)
    }

    /// The same on a GPU, in three kernels.
    #[cfg(feature = "gpu")]
    fn update_on_device(
        &self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        moments: &mut Moments,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        use backbone::ops::gpu::AdamWVectors;

        let nothing = Tensor::zeros([0], &values.device());
        let take = |tensor: &mut Tensor<1>| std::mem::replace(tensor, nothing.clone());
        let vectors = AdamWVectors {
            values,
            first: take(&mut moments.first),
            second: take(&mut moments.second),
            corrections: take(&mut moments.corrections),
        };
        let Derived { betas, shares, decay } = self.derived(learning_rate);
        let step = cube::AdamWStep {
            betas: betas.map(|beta| beta as f32),
            shares: shares.map(|share| share as f32),
            clip_norm: self.clip_norm.map_or(f32::MAX, |clip| clip as f32),
            rate: learning_rate as f32,
            epsilon: self.epsilon as f32,
            keep: (1.0 - decay) as f32,
        };
        let (vectors, norm) = backbone::ops::gpu::adamw(vectors, gradient, loss.clone(), step);
        moments.first = vectors.first;
        moments.second = vectors.second;
        moments.corrections = vectors.corrections;
        (vectors.values, norm)
    }

    /// The same on the CPU, where the host may look at the norm: one pass over memory, in place.
    fn update_in_one_pass(
        &self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        moments: &mut Moments,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        let device = values.device();
        let vector = |values: Vec<f32>| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), &device)
        };
        let gradient = host(gradient);
        let norm = kernels::sum_of_squares(&gradient).sqrt();
        let judged = norm as f32 + host(loss.clone())[0] * 0.0;
        if !judged.is_finite() {
            return (values, vector(vec![judged]));
        }
        let take = |tensor: &mut Tensor<1>| host(std::mem::replace(tensor, Tensor::zeros([0], &device)));
        let (mut first, mut second) = (take(&mut moments.first), take(&mut moments.second));
        let Derived { betas, shares, decay } = self.derived(learning_rate);
        let before = take(&mut moments.corrections);
        let [correction1, correction2] = [0, 1].map(|of| f64::from(before[of]) * betas[of] + shares[of]);
        let step = AdamWStep {
            gradient_scale: self.clip_norm.map_or(1.0, |clip| (clip / (norm + 1e-6)).min(1.0)) as f32,
            betas: betas.map(|beta| beta as f32),
            shares: shares.map(|share| share as f32),
            rate: (learning_rate / correction1) as f32,
            root_scale: (1.0 / correction2.sqrt()) as f32,
            epsilon: self.epsilon as f32,
            decay: decay as f32,
        };
        let mut updated = host(values);
        let factors = moments.factors.clone().map(host).unwrap_or_default();
        kernels::adamw(&mut updated, &gradient, &mut first, &mut second, &factors, &step);
        moments.first = vector(first);
        moments.second = vector(second);
        moments.corrections = vector(vec![correction1 as f32, correction2 as f32]);
        (vector(updated), vector(vec![judged]))
    }

    fn update_composed(
        &self,
        values: Tensor<1>,
        gradient: Tensor<1>,
        loss: &Tensor<1>,
        moments: &mut Moments,
        learning_rate: f64,
    ) -> (Tensor<1>, Tensor<1>) {
        let norm = sum_of_squares(&gradient).sqrt() + loss.clone().mul_scalar(0.0);
        let finite = norm.clone().is_finite();
        let length = values.dims()[0];
        let keep = finite.clone().bool_not().expand([length]);
        let gradient = match self.clip_norm {
            // As PyTorch's `clip_grad_norm_`: min(1, clip / (norm + 1e-6)).
            Some(clip) => gradient * (norm.clone() + 1e-6).recip().mul_scalar(clip).clamp_max(1.0),
            None => gradient,
        };
        let Derived { betas, shares, decay } = self.derived(learning_rate);
        let first = moments.first.clone().mul_scalar(betas[0]) + gradient.clone().mul_scalar(shares[0]);
        let second = moments.second.clone().mul_scalar(betas[1]) + (gradient.clone() * gradient).mul_scalar(shares[1]);
        let corrections = moments.corrections.clone();
        let [correction1, correction2] =
            [0, 1].map(|of| corrections.clone().narrow(0, of, 1).mul_scalar(betas[of]).add_scalar(shares[of]));
        let denominator = (second.clone() / correction2.clone()).sqrt().add_scalar(self.epsilon);
        let direction = first.clone() / denominator * correction1.clone().recip();
        let change = direction.mul_scalar(learning_rate) + values.clone().mul_scalar(decay);
        let updated = match &moments.factors {
            Some(factors) => values.clone() - change * factors.clone(),
            None => values.clone() - change,
        };
        let corrections = Tensor::cat(vec![correction1, correction2], 0);
        let still = finite.bool_not().expand([2]);
        moments.corrections = corrections.mask_where(still, moments.corrections.clone());
        moments.first = first.mask_where(keep.clone(), moments.first.clone());
        moments.second = second.mask_where(keep.clone(), moments.second.clone());
        (updated.mask_where(keep, values), norm)
    }
}

/// The sum of squares, `[1]`, in an order that is always the same: a long sum in one piece is split between threads as
/// they come.
fn sum_of_squares(values: &Tensor<1>) -> Tensor<1> {
    if values.dims()[0] == 0 {
        return Tensor::zeros([1], &values.device());
    }
    let pieces = values.clone().split(1 << 20, 0);
    Tensor::cat(pieces.into_iter().map(|piece| (piece.clone() * piece).sum()).collect(), 0).sum()
}

#[cfg(test)]
mod tests {
    use backbone::values;

    use super::*;

    const SETTINGS: AdamW = AdamW { betas: (0.9, 0.999), epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) };

    fn vector(values: &[f32]) -> Tensor<1> {
        Tensor::from_floats(values, &Device::flex())
    }

    /// `torch.optim.AdamW(lr=0.1, weight_decay=0.01)` after `clip_grad_norm_(1.0)`, three steps with the gradients
    /// below from [1, -2, 0.5]; and the norms that `clip_grad_norm_` returned.
    #[test]
    fn three_steps_match_pytorch() {
        let mut moments = Moments::zeros(3, &Device::flex());
        let mut current = vector(&[1.0, -2.0, 0.5]);
        let mut norms = Vec::new();
        for gradient in [[0.3, -0.2, 0.1], [3.0, 4.0, 0.0], [-0.5, 0.01, 2.0]] {
            let (next, norm) = SETTINGS.update(current, vector(&gradient), &vector(&[1.0]), &mut moments, 0.1);
            current = next;
            norms.extend(values(norm));
        }
        let expected = [0.752_353_85, -1.993_725_3, 0.262_911_62];
        let found = values(current);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-6), "{found:?} is not {expected:?}");
        assert!(norms.iter().zip([0.374_165_77, 5.0, 2.061_577]).all(|(a, b)| (a - b).abs() < 1e-5), "{norms:?}");
    }

    #[test]
    fn one_pass_gives_what_the_composition_gives() {
        let numbers = |count: usize, seed: f32| (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect::<Vec<_>>();
        let mut moments = [0, 1].map(|_| Moments::zeros(0, &Device::flex()));
        let mut current = [0, 1].map(|_| vector(&[]));
        let rates = vector(&[1.0, 16.0, 1.0, 0.5].repeat(251)[..1003]);
        for (step, factors) in [None, Some(rates)].into_iter().flat_map(|f| (0..5).map(move |step| (step, f.clone()))) {
            if step == 0 {
                moments = [0, 1].map(|_| Moments { factors: factors.clone(), ..Moments::zeros(1003, &Device::flex()) });
                current = [0, 1].map(|_| vector(&numbers(1003, 0.1)));
            }
            let gradient = vector(&numbers(1003, step as f32));
            let [a, b] = &mut moments;
            let loss = vector(&[1.0]);
            let (next_a, norm_a) = SETTINGS.update_in_one_pass(current[0].clone(), gradient.clone(), &loss, a, 0.1);
            let (next_b, norm_b) = SETTINGS.update_composed(current[1].clone(), gradient, &loss, b, 0.1);
            let close = |a: &Tensor<1>, b: &Tensor<1>| {
                let (a, b) = (values(a.clone()), values(b.clone()));
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)), "{step}");
            };
            close(&next_a, &next_b);
            close(&norm_a, &norm_b);
            close(&a.corrections, &b.corrections);
            close(&a.second, &b.second);
            current = [next_a, next_b];
        }
    }

    /// Controls behind the others leave these as they become without them, and are clipped by a norm of their own.
    #[test]
    fn controls_are_updated_by_themselves() {
        let device = Device::flex();
        let factors = |count: usize| Some(vector(&[1.0, 16.0, 1.0, 0.5][..count]));
        for theirs in [[30.0, 40.0], [f32::NAN, 1.0]] {
            let [mut alone, mut theirs_alone, mut together] =
                [2, 2, 4].map(|count| Moments { factors: factors(count), ..Moments::zeros(count, &device) });
            theirs_alone.factors = Some(vector(&[1.0, 0.5]));
            let (mut expected, mut expected_theirs) = (vector(&[1.0, -2.0]), vector(&[0.5, 0.25]));
            let mut found = vector(&[1.0, -2.0, 0.5, 0.25]);
            for own in [[0.3, -0.2], [3.0, 4.0]] {
                let loss = vector(&[1.0]);
                let both = vector(&[own[0], own[1], theirs[0], theirs[1]]);
                let (next, norm) = SETTINGS.update(expected, vector(&own), &loss, &mut alone, 0.1);
                expected = next;
                expected_theirs = SETTINGS.update(expected_theirs, vector(&theirs), &loss, &mut theirs_alone, 0.1).0;
                let (next, norm_together) = SETTINGS.update_with_controls(found, both, &loss, &mut together, 0.1, 2);
                found = next;
                assert_eq!(values(norm), values(norm_together));
            }
            assert_eq!(values(found), [values(expected), values(expected_theirs)].concat());
            assert_eq!(values(together.corrections), values(alone.corrections));
            assert_eq!(values(together.second), [values(alone.second), values(theirs_alone.second)].concat());
        }
    }

    #[test]
    fn a_gradient_that_is_not_finite_changes_nothing() {
        let cases =
            [([f32::NAN, 0.1], 1.0), ([f32::INFINITY, 0.1], 1.0), ([0.1, 0.1], f32::NAN), ([0.1, 0.1], f32::INFINITY)];
        for (gradient, loss) in cases {
            let mut moments = Moments::zeros(2, &Device::flex());
            let (start, _) =
                SETTINGS.update(vector(&[1.0, 2.0]), vector(&[0.1, 0.2]), &vector(&[1.0]), &mut moments, 0.1);
            let before = (values(start.clone()), values(moments.first.clone()), values(moments.corrections.clone()));
            let (after, norm) = SETTINGS.update(start, vector(&gradient), &vector(&[loss]), &mut moments, 0.1);
            assert!(!values(norm)[0].is_finite());
            assert_eq!(before, (values(after), values(moments.first.clone()), values(moments.corrections.clone())));
        }
    }
}
