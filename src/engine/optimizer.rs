//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) on the flat vector of all trained
//! values, with global-norm clipping and the guard against gradients that are not finite.

use backbone::ops::{AdamWState, AdamWUpdate, adamw};
use burn::tensor::{Device, Tensor};

/// Settings of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of the gradients and of their squares.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Fraction of a weight taken off at learning rate 1.
    pub weight_decay: f64,
    /// The largest global norm of the gradient; `None` does not clip.
    pub clip_norm: Option<f64>,
}

/// Moments of all trained values, what corrects their bias, and where learning rates differ. All of it lives on the device,
/// so that a step that is skipped there needs no word from the host.
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

impl AdamW {
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
        let AdamW { betas, epsilon, weight_decay, clip_norm } = *self;
        let update = AdamWUpdate { betas, epsilon, weight_decay, clip_norm, learning_rate };
        let Moments { first, second, corrections, factors } =
            std::mem::replace(moments, Moments::zeros(0, &values.device()));
        let state = AdamWState { values, first, second, corrections, factors };
        let (AdamWState { values, first, second, corrections, factors }, norm) =
            adamw(state, gradient, loss.clone(), &update);
        *moments = Moments { first, second, corrections, factors };
        (values, norm)
    }
}

#[cfg(test)]
mod tests {
    use backbone::values;

    use super::*;

    const SETTINGS: AdamW = AdamW { betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.01, clip_norm: Some(1.0) };

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
