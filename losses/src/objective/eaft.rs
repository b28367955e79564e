//! Entropy-adaptive fine-tuning: `w = H^alpha`, H the entropy of the predicted distribution in nats.
//!
//! arXiv 2601.02151 (Axolotl and LLaMA-Factory have it), against forgetting: a token that the model is sure of is left
//! alone, be it right or wrong. There H is taken over the 20 likeliest tokens, here over all of them. `alpha = 0` is `nll`.

use burn::tensor::Tensor;

use crate::objective::told;
use crate::{Objective, ObjectiveKind, Statistics, Tokens};

/// `eaft` as listed in the registry.
pub const EAFT: ObjectiveKind = ObjectiveKind {
    name: "eaft",
    purpose: "against forgetting: a token counts as much as the model is undecided there, whatever was observed",
    build: |section| {
        let hint = "0 is plain nll, 1 the published value";
        let alpha = section.value("alpha", 1.0);
        let message = format!("`{}` must be from 0 to 10", section.full("alpha"));
        section.check("alpha", (0.0..=10.0).contains(&alpha), message, hint);
        section.check_single("alpha", alpha, hint);
        Box::new(Eaft { alpha })
    },
};

struct Eaft {
    alpha: f64,
}

impl Objective for Eaft {
    fn name(&self) -> &str {
        EAFT.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        // Rounding leaves an entropy of none a little below 0.
        told(&tokens.entropy).clamp_min(0.0).powf_scalar(self.alpha)
    }

    fn statistics(&self) -> Statistics {
        Statistics { entropy: true, ..Statistics::default() }
    }

    fn milder(&self) -> Option<String> {
        Some(format!("lower `objective.alpha` (it is {}; 0 is plain nll)", self.alpha))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn the_weight_is_the_entropy() {
        let mut objective = build(EAFT, "").expect("no keys");
        assert_eq!(objective.statistics(), Statistics { entropy: true, ..Statistics::default() });
        // Logits 2, 1, 0, -1.
        let told = Told { entropy: Some(&[0.947536964, 0.0, -1e-9, 3.0]), ..Told::default() };
        let found = weights_told(&mut *objective, &[2.44, 0.0, 0.1, 9.0], &told);
        assert_close(&found, &[0.947536964, 0.0, 0.0, 3.0], 1e-6);
        let found = weights_told(&mut *build(EAFT, "alpha = 2").expect("valid keys"), &[2.44, 0.0, 0.1, 9.0], &told);
        assert_close(&found, &[0.897826298, 0.0, 0.0, 9.0], 1e-6);
    }

    #[test]
    fn alpha_zero_is_nll_bitwise() {
        let told = Told { entropy: Some(&[0.0, -1e-9, 1e-6, 0.5, 1.0, 3.0, 9.0, 12.0]), ..Told::default() };
        let mut objective = build(EAFT, "alpha = 0").expect("valid keys");
        assert_eq!(weights_told(&mut *objective, &NEUTRAL, &told), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = H
        let gradient = [
            [-0.063653445, 0.034789751, 0.007762643, 0.021101051],
            [0.067236205, 0.024734818, 0.149636927, -0.241607950],
            [0.000899105, -0.144249136, 0.009910995, 0.133439036],
            [0.081813167, 0.090417533, -0.282666924, 0.110436224],
        ];
        check_gradient(&mut *build(EAFT, "").expect("no keys"), 2.113876505, gradient);
        // weight = H ** .5
        let gradient = [
            [-0.067921165, 0.037122271, 0.008283098, 0.022515796],
            [0.061129301, 0.022488213, 0.136045762, -0.219663276],
            [0.001077647, -0.172893787, 0.011879097, 0.159937044],
            [0.076443874, 0.084483546, -0.264115857, 0.103188437],
        ];
        check_gradient(&mut *build(EAFT, "alpha = 0.5").expect("valid keys"), 2.054072836, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["alpha = -1", "alpha = 11", "alpha = nan", "alpa = 1"] {
            assert!(build(EAFT, keys).is_err(), "{keys}");
        }
    }
}
