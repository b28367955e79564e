//! GEM, entropy-regularised reverse KL to the data: the gradient `softmax(z / beta) - onehot`.
//!
//! "Preserving Diversity in Supervised Fine-Tuning of Large Language Models" (arXiv 2408.16673, ICLR 2025), the linear form
//! of `h`: its loss is `beta * nll` at the temperature `beta` up to the entropy of an auxiliary distribution, which has no
//! gradient. `beta = 1` is `nll`. Where nothing limits a model it ends at `p^beta / Z`, the data at the temperature `1 / beta`.

use burn::tensor::Tensor;
use faults::Section;

use crate::{Objective, ObjectiveKind, Tokens};

/// `gem` as listed in the registry.
pub const GEM: ObjectiveKind = ObjectiveKind {
    name: "gem",
    purpose: "more diverse samples: tokens that are likely already push the others away less; `beta` sets how strongly",
    build: |section| Box::new(Gem { beta: beta(section, 0.7) }),
};

/// The key `beta`, the temperature of the softmax in the gradient.
pub(super) fn beta(section: &mut Section, default: f64) -> f64 {
    let hint = "1 is plain nll, 0.7 the published value; below 1 keeps diversity";
    super::positive(section, "beta", default, 0.05..=10.0, hint)
}

struct Gem {
    beta: f64,
}

impl Objective for Gem {
    fn name(&self) -> &str {
        GEM.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        tokens.nll.ones_like()
    }

    fn temperature(&self) -> f64 {
        self.beta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    /// The check value of one token: logits 2, 1, 0, -1, of which the third is observed.
    #[test]
    fn gradient_is_the_published_one() {
        let objective = build(GEM, "").expect("no keys");
        let beta = objective.temperature();
        let logits = [2.0f64, 1.0, 0.0, -1.0].map(|logit| (logit / beta).exp());
        let sum: f64 = logits.iter().sum();
        let expected = [0.762865280, 0.182821455, -0.956186649, 0.010499915];
        for (word, expected) in expected.iter().enumerate() {
            let found = logits[word] / sum - f64::from(u8::from(word == 2));
            assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
        }
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = 1, T = .7
        let gradient = [
            [-0.039653576, 0.024677667, 0.002895163, 0.012080746],
            [0.047689504, 0.011428839, 0.149540681, -0.208659023],
            [0.000172976, -0.224328017, 0.005333308, 0.218821732],
            [0.067557351, 0.077931796, -0.249193938, 0.103704791],
        ];
        check_gradient(&mut *build(GEM, "").expect("no keys"), 1.747449896, gradient);
        // T = 1.5
        let gradient = [
            [-0.108502195, 0.052054133, 0.019149645, 0.037298416],
            [0.060189781, 0.030902464, 0.102599794, -0.193692039],
            [0.005643734, -0.191800358, 0.027953596, 0.158203028],
            [0.073164687, 0.078208595, -0.240736831, 0.089363550],
        ];
        check_gradient(&mut *build(GEM, "beta = 1.5").expect("valid keys"), 2.554799300, gradient);
    }

    #[test]
    fn beta_one_is_nll_bitwise() {
        let mut objective = build(GEM, "beta = 1").expect("valid keys");
        assert_eq!((objective.temperature(), weights(&mut *objective, &NEUTRAL)), (1.0, vec![1.0; NEUTRAL.len()]));
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["beta = 0", "beta = -0.7", "beta = inf", "beta = nan", "bta = 0.7"] {
            assert!(build(GEM, keys).is_err(), "{keys}");
        }
    }
}
