//! Updates of the flat vector of all trained values by AdamW, those of controls by themselves.

use backbone::ops::adamw;
use burn::tensor::Tensor;

pub use backbone::ops::{AdamW, Moments};

/// One update of values of which the last `controls` are there to compare with: these are clipped by a norm of their
/// own and left as they are where that is not finite, so that without them all others would become the same. The norm
/// given back is that of the others; else as [`adamw`].
pub fn update_with_controls(
    settings: &AdamW,
    values: Tensor<1>,
    gradient: Tensor<1>,
    loss: &Tensor<1>,
    moments: &mut Moments,
    learning_rate: f64,
    controls: usize,
) -> (Tensor<1>, Tensor<1>) {
    if controls == 0 {
        return adamw(values, moments, gradient, loss.clone(), settings, learning_rate);
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
        let (updated, norm) = adamw(values, &mut moments, gradient, loss.clone(), settings, learning_rate);
        (updated, norm, moments)
    };
    let ((updated, norm, own), (of_controls, _, theirs)) = (update(0, first), update(first, controls));
    let together = |own, theirs| Tensor::cat(vec![own, theirs], 0);
    moments.first = together(own.first, theirs.first);
    moments.second = together(own.second, theirs.second);
    moments.corrections = own.corrections;
    (together(updated, of_controls), norm)
}

#[cfg(test)]
mod tests {
    use backbone::values;
    use burn::tensor::Device;

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
            let (next, norm) = adamw(current, &mut moments, vector(&gradient), vector(&[1.0]), &SETTINGS, 0.1);
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
                let (next, norm) = adamw(expected, &mut alone, vector(&own), loss.clone(), &SETTINGS, 0.1);
                expected = next;
                expected_theirs =
                    adamw(expected_theirs, &mut theirs_alone, vector(&theirs), loss.clone(), &SETTINGS, 0.1).0;
                let (next, norm_together) = update_with_controls(&SETTINGS, found, both, &loss, &mut together, 0.1, 2);
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
                adamw(vector(&[1.0, 2.0]), &mut moments, vector(&[0.1, 0.2]), vector(&[1.0]), &SETTINGS, 0.1);
            let before = (values(start.clone()), values(moments.first.clone()), values(moments.corrections.clone()));
            let (after, norm) = adamw(start, &mut moments, vector(&gradient), vector(&[loss]), &SETTINGS, 0.1);
            assert!(!values(norm)[0].is_finite());
            assert_eq!(before, (values(after), values(moments.first.clone()), values(moments.corrections.clone())));
        }
    }
}
