//! Learning from demonstrations off policy: `w = max(q, floor)`.
//!
//! GOLD (Pang & He 2021) in its simplest form: the policy gradient on the data with the model's own probability as the
//! importance weight. `floor = 1` is `nll`.

use burn::tensor::Tensor;

use crate::objective::{fraction, probability};
use crate::{Objective, ObjectiveKind, Tokens};

/// `gold` as listed in the registry.
pub const GOLD: ObjectiveKind = ObjectiveKind {
    name: "gold",
    purpose: "more precise samples: a token counts as much as the model already believes in it",
    build: |section| {
        let floor = fraction(section, "floor", 0.0, "0 sets no lower limit, 1 is plain nll");
        Box::new(Gold { floor })
    },
};

struct Gold {
    floor: f64,
}

impl Objective for Gold {
    fn name(&self) -> &str {
        GOLD.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        probability(tokens.nll.clone()).clamp_min(self.floor)
    }

    fn milder(&self) -> Option<String> {
        Some(format!("raise `objective.floor` (it is {}; 1 is plain nll)", self.floor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    fn reference(q: f64, floor: f64) -> f64 {
        q.max(floor)
    }

    #[test]
    fn agrees_with_the_reference() {
        for floor in [0.0, 0.15, 0.9] {
            let mut objective = build(GOLD, &format!("floor = {floor}")).expect("valid keys");
            assert_close(&weights(&mut *objective, &Q.map(nll_of)), &Q.map(|q| reference(q, floor)), 1e-6);
        }
        let mut objective = build(GOLD, "").expect("no keys");
        assert_close(&weights(&mut *objective, &Q.map(nll_of)), &Q, 1e-6);
    }

    #[test]
    fn a_floor_of_one_is_nll_bitwise() {
        let mut objective = build(GOLD, "floor = 1").expect("valid keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = q.clamp_min(.15)
        let mut objective = build(GOLD, "floor = 0.15").expect("valid keys");
        let gradient = [
            [-0.051464506, 0.028127894, 0.006276181, 0.01706043],
            [0.011179487, 0.004112703, 0.024880406, -0.040172597],
            [0.000220992, -0.035455128, 0.002436033, 0.032798104],
            [0.010714044, 0.01184085, -0.037017341, 0.014462447],
        ];
        check_gradient(&mut *objective, 0.380170097, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["floor = -0.1", "floor = 1.5", "floor = inf", "flor = 0"] {
            assert!(build(GOLD, keys).is_err(), "{keys}");
        }
    }
}
