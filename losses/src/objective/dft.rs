//! Dynamic fine-tuning: `w = q`.
//!
//! arXiv 2508.05629; TRL's `loss_type = "dft"`. It is `gold` with a floor of 0 under the name it is searched by. Where
//! nothing limits a model it ends on the likeliest answer alone: a good control of what a loss of diversity looks like.

use burn::tensor::Tensor;

use crate::objective::probability;
use crate::{Objective, ObjectiveKind, Tokens};

/// `dft` as listed in the registry.
pub const DFT: ObjectiveKind = ObjectiveKind {
    name: "dft",
    purpose: "more precise samples, and the least diverse: a token counts as much as the model believes in it (`gold`, floor 0)",
    build: |_| Box::new(Dft),
};

struct Dft;

impl Objective for Dft {
    fn name(&self) -> &str {
        DFT.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        probability(tokens.nll.clone())
    }

    fn milder(&self) -> Option<String> {
        Some("`objective.kind = \"gold\"` with a `floor` is the same with a least weight".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::GOLD;
    use crate::objective::testing::*;

    #[test]
    fn agrees_with_the_reference() {
        let mut objective = build(DFT, "").expect("no keys");
        assert_close(&weights(&mut *objective, &Q.map(nll_of)), &Q, 1e-6);
        // Logits 2, 1, 0, -1, of which the third is observed: weight and loss.
        let nll = [2.0f64, 1.0, 0.0, -1.0].map(f64::exp).iter().sum::<f64>().ln();
        let weight = weights(&mut *objective, &[nll]);
        assert_close(&weight, &[0.087144319], 1e-6);
        assert!((f64::from(weight[0]) * nll - 0.212648669).abs() < 1e-7);
    }

    #[test]
    fn it_is_gold_without_a_floor_bitwise() {
        let (mut dft, mut gold) = (build(DFT, "").expect("no keys"), build(GOLD, "floor = 0").expect("valid keys"));
        assert_eq!(weights(&mut *dft, &NEUTRAL), weights(&mut *gold, &NEUTRAL));
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = q
        let gradient = [
            [-0.051464506, 0.028127894, 0.006276181, 0.017060430],
            [0.011179487, 0.004112703, 0.024880406, -0.040172597],
            [0.000220992, -0.035455128, 0.002436033, 0.032798104],
            [0.000919330, 0.001016017, -0.003176313, 0.001240966],
        ];
        check_gradient(&mut *build(DFT, "").expect("no keys"), 0.230946718, gradient);
        assert!(build(DFT, "floor = 0").is_err());
    }
}
