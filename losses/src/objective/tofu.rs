//! TOFU: the full gradient of focal loss at a temperature, `w = ((1-q)^gamma - gamma q (1-q)^(gamma-1) ln q) * beta`.
//!
//! arXiv 2605.00195: focal loss ([`super::focal`]) against what is over-confident, and the softmax of [`super::gem`] for what
//! is diverse. `gamma = 0` and `beta = 1` are `nll`.

use burn::tensor::Tensor;

use crate::objective::focal::{self, full_weight};
use crate::objective::gem::beta;
use crate::{Objective, ObjectiveKind, Tokens};

/// `tofu` as listed in the registry.
pub const TOFU: ObjectiveKind = ObjectiveKind {
    name: "tofu",
    purpose: "more diverse samples: focal loss with its full gradient, and the temperature of `gem`",
    build: |section| {
        let gamma = focal::gamma(section, 3.0);
        Box::new(Tofu { gamma, beta: beta(section, 0.8) })
    },
};

struct Tofu {
    gamma: f64,
    beta: f64,
}

impl Objective for Tofu {
    fn name(&self) -> &str {
        TOFU.name
    }

    // The factor `beta` is in the loss of a temperature.
    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        full_weight(tokens.nll.clone(), self.gamma)
    }

    fn temperature(&self) -> f64 {
        self.beta
    }

    fn milder(&self) -> Option<String> {
        Some(format!("lower `objective.gamma` (it is {}; 0 is `gem`)", self.gamma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn weight_and_loss_are_the_published_ones() {
        // Logits 2, 1, 0, -1, of which the third is observed.
        let logits = [2.0f64, 1.0, 0.0, -1.0];
        let nll = |temperature: f64| logits.iter().map(|logit| (logit / temperature).exp()).sum::<f64>().ln();
        let mut objective = build(TOFU, "").expect("no keys");
        let weight = weights(&mut *objective, &[nll(1.0)]);
        assert_close(&weight, &[1.292291568], 1e-6);
        let beta = objective.temperature();
        let loss = f64::from(weight[0]) * beta * nll(beta);
        assert!((loss - 2.926594629).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = (1-q)**3 - 3*q*(1-q)**2*q.log(), T = .8
        let gradient = [
            [-0.004404706, 0.002608470, 0.000400022, 0.001396214],
            [0.057668675, 0.016522352, 0.156759710, -0.230950736],
            [0.000481854, -0.259766831, 0.009678301, 0.249606676],
            [0.077977930, 0.088360570, -0.279795718, 0.113457218],
        ];
        check_gradient(&mut *build(TOFU, "").expect("no keys"), 2.040549707, gradient);
        // The same of gamma 1.5, T = .5
        let gradient = [
            [-0.005808719, 0.004097380, 0.000203997, 0.001507342],
            [0.041496416, 0.005615929, 0.205533093, -0.252645438],
            [0.000012553, -0.278034760, 0.001525313, 0.276496894],
            [0.065766678, 0.080327602, -0.265928980, 0.119834700],
        ];
        check_gradient(&mut *build(TOFU, "gamma = 1.5\nbeta = 0.5").expect("valid keys"), 1.764901402, gradient);
    }

    #[test]
    fn gamma_zero_and_beta_one_are_nll_bitwise() {
        let mut objective = build(TOFU, "gamma = 0\nbeta = 1").expect("valid keys");
        assert_eq!((objective.temperature(), weights(&mut *objective, &NEUTRAL)), (1.0, vec![1.0; NEUTRAL.len()]));
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["gamma = -1", "gamma = inf", "beta = 0", "beta = nan", "bta = 0.7"] {
            assert!(build(TOFU, keys).is_err(), "{keys}");
        }
    }
}
