//! Total variation guided by a ratio: `w = clamp(q / (gamma + (1 - gamma) q), min_weight, 1)`.
//!
//! TaiLr (Ji et al. 2023): the total variation distance with the data's probability estimated as
//! `gamma + (1 - gamma) q`, `gamma` from 0 (the weight is 1, `nll`) to 1 (the weight is `q`, `gold`).

use burn::tensor::Tensor;

use crate::objective::fraction;
use crate::{Objective, ObjectiveKind, Tokens};

/// `tailr` as listed in the registry.
pub const TAILR: ObjectiveKind = ObjectiveKind {
    name: "tailr",
    purpose: "more precise samples: ignores tokens the model finds all but impossible, keeps the rest; `gamma` sets where",
    build: |section| {
        let gamma = fraction(section, "gamma", 1e-5, "0 is plain nll; 1e-7 to 0.1 are usual");
        let min_weight = fraction(section, "min_weight", 0.0, "0 sets no lower limit, 1 is plain nll");
        Box::new(TaiLr { gamma, min_weight })
    },
};

struct TaiLr {
    gamma: f64,
    min_weight: f64,
}

impl Objective for TaiLr {
    fn name(&self) -> &str {
        TAILR.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        ratio(tokens.nll.clone(), self.gamma).clamp_min(self.min_weight)
    }

    fn milder(&self) -> Option<String> {
        let Self { gamma, min_weight } = self;
        Some(format!(
            "lower `objective.gamma` (it is {gamma:e}; 0 is plain nll), or raise `objective.min_weight` (it is {min_weight})"
        ))
    }
}

/// `q / (gamma + (1 - gamma) q)`, at most 1, written as `1 / (gamma exp(nll) + 1 - gamma)`: nothing is lost where `q` is
/// too small for f32, and `gamma = 0` gives exactly 1.
pub(super) fn ratio(nll: Tensor<1>, gamma: f64) -> Tensor<1> {
    // exp(88) is about the largest f32: beyond it the weight stays at its last value, less than 1e-38 / gamma.
    nll.clamp(0.0, 88.0).exp().mul_scalar(gamma).add_scalar(1.0 - gamma).recip().clamp_max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    fn reference(q: f64, gamma: f64, min_weight: f64) -> f64 {
        (q / (gamma + (1.0 - gamma) * q)).clamp(min_weight, 1.0)
    }

    #[test]
    fn check_values() {
        let mut objective = build(TAILR, "gamma = 0.1").expect("valid keys");
        let weights = weights(&mut *objective, &Q.map(nll_of));
        // Given to six places.
        for (found, expected) in weights.iter().zip([0.989011, 0.810811, 0.344828, 0.009911]) {
            assert!((f64::from(*found) - expected).abs() < 6e-7, "found {found}, expected {expected}");
        }
    }

    #[test]
    fn agrees_with_the_reference() {
        let q = [1.0, 0.7, 1e-3, 1e-7, 1e-20, 1e-35];
        for (gamma, min_weight) in [(1e-7, 0.2), (1e-5, 0.0), (0.5, 0.01), (1.0, 0.0)] {
            let mut objective =
                build(TAILR, &format!("gamma = {gamma}\nmin_weight = {min_weight}")).expect("valid keys");
            let expected = q.map(|q| reference(q, gamma, min_weight));
            assert_close(&weights(&mut *objective, &q.map(nll_of)), &expected, 1e-5);
        }
        let mut objective = build(TAILR, "").expect("no keys");
        assert_close(&weights(&mut *objective, &q.map(nll_of)), &q.map(|q| reference(q, 1e-5, 0.0)), 1e-5);
    }

    #[test]
    fn gamma_zero_and_min_weight_one_are_nll_bitwise() {
        for keys in ["gamma = 0", "min_weight = 1"] {
            let mut objective = build(TAILR, keys).expect("valid keys");
            assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()], "{keys}");
        }
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = (q / (.1 + .9 * q)).clamp(.2, 1)
        let mut objective = build(TAILR, "gamma = 0.1\nmin_weight = 0.2").expect("valid keys");
        let gradient = [
            [-0.069632265, 0.038057472, 0.00849177, 0.023083023],
            [0.039779333, 0.014633999, 0.088530533, -0.142943864],
            [0.000870101, -0.139595831, 0.009591278, 0.129134452],
            [0.014285392, 0.0157878, -0.049356454, 0.019283262],
        ];
        check_gradient(&mut *objective, 0.884165000, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["gamma = -0.1", "gamma = 1.1", "gamma = nan", "min_weight = 2", "min_wieght = 0"] {
            assert!(build(TAILR, keys).is_err(), "{keys}");
        }
    }
}
