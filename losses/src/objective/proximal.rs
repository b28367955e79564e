//! A trust region around the frozen base: `w = r` where `r = q / q_base` is at most `1 + epsilon`, else 0.
//!
//! Proximal SFT (arXiv 2508.17784): PPO's clipped objective `min(r, clip(r, 1 - epsilon, 1 + epsilon))` with an advantage of
//! one for every observed token, whose gradient is this weight times that of `-ln q`. There `r` is against the model before
//! the last updates, here against the model without its adapter, so that the whole run stays within the region: a token that
//! has become `1 + epsilon` times as likely as it was is not learned any further.

use burn::tensor::Tensor;

use crate::objective::{positive, told};
use crate::{Objective, ObjectiveKind, Statistics, Tokens};

/// `proximal` as listed in the registry.
pub const PROXIMAL: ObjectiveKind = ObjectiveKind {
    name: "proximal",
    purpose: "against forgetting: a token is learned until it is `1 + epsilon` times as likely as under the frozen base",
    build: |section| {
        let hint = "the larger, the further a run may go from the base; without a limit, choose another objective";
        Box::new(Proximal { epsilon: positive(section, "epsilon", 0.28, 1e-3..=1e3, hint) })
    },
};

struct Proximal {
    epsilon: f64,
}

impl Objective for Proximal {
    fn name(&self) -> &str {
        PROXIMAL.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let ratio = (told(&tokens.base_nll) - tokens.nll.clone()).exp();
        // Filled in and not multiplied by 0: the ratio may have overflowed.
        let outside = ratio.clone().greater_elem(1.0 + self.epsilon);
        ratio.mask_fill(outside, 0.0)
    }

    fn statistics(&self) -> Statistics {
        Statistics { base_nll: true, ..Statistics::default() }
    }

    fn milder(&self) -> Option<String> {
        Some(format!("raise `objective.epsilon` (it is {})", self.epsilon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn the_weight_is_the_ratio_within_the_region() {
        let mut objective = build(PROXIMAL, "epsilon = 0.5").expect("a valid key");
        assert_eq!(objective.statistics(), Statistics { base_nll: true, ..Statistics::default() });
        let base = [2.0, 2.0, 2.0, 2.0, 500.0];
        let told = Told { base_nll: Some(&base), ..Told::default() };
        let found = weights_told(&mut *objective, &[2.0, 1.6, 1.5, 3.0, 1.0], &told);
        // `ln 1.5` is 0.405: the third is outside, and the last so far that its ratio is no number of f32.
        assert_close(&found, &[1.0, 0.4f64.exp(), 0.0, (-1.0f64).exp(), 0.0], 1e-6);
    }

    /// PyTorch has the same gradient of `-minimum(r, r.clamp(1 - epsilon, 1 + epsilon))`.
    #[test]
    fn gradient_is_that_of_pytorch() {
        // r = (base - nll).exp(); weight = r * (r <= 1.28)
        let gradient = [
            [-0.056877075, 0.031086130, 0.006936253, 0.018854691],
            [0.050102985, 0.018431858, 0.111506244, -0.180041088],
            [0.0, 0.0, 0.0, 0.0],
            [0.003728067, 0.004120151, -0.012880582, 0.005032364],
        ];
        check_gradient(&mut *build(PROXIMAL, "").expect("no keys"), 0.485398381, gradient);
        // weight = r * (r <= 4)
        let gradient = [gradient[0], gradient[1], [0.002692232, -0.431931881, 0.029676951, 0.399562698], gradient[3]];
        check_gradient(&mut *build(PROXIMAL, "epsilon = 3").expect("a valid key"), 1.405399875, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["epsilon = 0", "epsilon = -1", "epsilon = inf", "epsilon = nan", "epsilom = 1"] {
            assert!(build(PROXIMAL, keys).is_err(), "{keys}");
        }
    }
}
