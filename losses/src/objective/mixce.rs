//! Mixed cross-entropies: `w = eta + (1 - eta) q`.
//!
//! MixCE (Zhang et al. 2023): `eta` parts of the forward cross-entropy (`nll`) and `1 - eta` parts of the reverse one,
//! whose gradient on the data has the model's own probability as its weight. `eta = 1` is `nll`, `eta = 0` is `gold`.

use burn::tensor::Tensor;

use crate::objective::{fraction, probability};
use crate::{Objective, ObjectiveKind, Tokens};

/// `mixce` as listed in the registry.
pub const MIXCE: ObjectiveKind = ObjectiveKind {
    name: "mixce",
    purpose: "more precise samples: a mixture of nll (share `eta`) and of gold (the rest)",
    build: |section| {
        let eta = fraction(section, "eta", 0.5, "1 is plain nll, 0 is gold");
        Box::new(MixCe { eta })
    },
};

struct MixCe {
    eta: f64,
}

impl Objective for MixCe {
    fn name(&self) -> &str {
        MIXCE.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        probability(tokens.nll.clone()).mul_scalar(1.0 - self.eta).add_scalar(self.eta)
    }

    fn milder(&self) -> Option<String> {
        Some(format!("raise `objective.eta` (it is {}; 1 is plain nll)", self.eta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    fn reference(q: f64, eta: f64) -> f64 {
        eta + (1.0 - eta) * q
    }

    #[test]
    fn agrees_with_the_reference() {
        for eta in [0.0, 0.01, 0.3, 0.99] {
            let mut objective = build(MIXCE, &format!("eta = {eta}")).expect("valid keys");
            assert_close(&weights(&mut *objective, &Q.map(nll_of)), &Q.map(|q| reference(q, eta)), 1e-6);
        }
        let mut objective = build(MIXCE, "").expect("no keys");
        assert_close(&weights(&mut *objective, &Q.map(nll_of)), &Q.map(|q| reference(q, 0.5)), 1e-6);
    }

    #[test]
    fn eta_one_is_nll_bitwise() {
        let mut objective = build(MIXCE, "eta = 1").expect("valid keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = .3 + .7 * q
        let mut objective = build(MIXCE, "eta = 0.3").expect("valid keys");
        let gradient = [
            [-0.05776766, 0.031572879, 0.007044862, 0.019149919],
            [0.024498763, 0.009012591, 0.054522999, -0.088034353],
            [0.000542188, -0.086986577, 0.005976629, 0.080467761],
            [0.022071619, 0.024392912, -0.0762581, 0.02979357],
        ];
        check_gradient(&mut *objective, 0.766490481, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["eta = -0.1", "eta = 1.5", "eta = nan", "eat = 0"] {
            assert!(build(MIXCE, keys).is_err(), "{keys}");
        }
    }
}
