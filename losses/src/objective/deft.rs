//! DEFT: `w = q^a` with `a = sum_v q_v^2`, the chance that two draws are alike, detached.
//!
//! arXiv 2602.11424: where the model is sure it is `dft`, where it is undecided nearly `nll`.

use burn::tensor::Tensor;

use crate::objective::told;
use crate::{Objective, ObjectiveKind, Statistics, Tokens};

/// `deft` as listed in the registry.
pub const DEFT: ObjectiveKind = ObjectiveKind {
    name: "deft",
    purpose: "more precise samples: `dft` where the model is sure, nearly `nll` where it is undecided",
    build: |_| Box::new(Deft),
};

struct Deft;

impl Objective for Deft {
    fn name(&self) -> &str {
        DEFT.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        (tokens.nll.clone().clamp_min(0.0).neg() * told(&tokens.sum_of_squares)).exp()
    }

    fn statistics(&self) -> Statistics {
        Statistics { sum_of_squares: true, ..Statistics::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    #[test]
    fn agrees_with_the_reference() {
        let mut objective = build(DEFT, "").expect("no keys");
        assert_eq!(objective.statistics(), Statistics { sum_of_squares: true, ..Statistics::default() });
        // The first: logits 2, 1, 0, -1, of which the third is observed.
        let (nll, squares) = ([2.440189699, 0.0, 3.0, 700.0], [0.479360930, 1.0, 0.01, 1e-3]);
        let told = Told { sum_of_squares: Some(&squares), ..Told::default() };
        let expected = [0.310450254, 1.0, (-0.03f64).exp(), (-0.7f64).exp()];
        assert_close(&weights_told(&mut *objective, &nll, &told), &expected, 1e-6);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = q ** (p ** 2).sum(1)
        let gradient = [
            [-0.060245668, 0.032927233, 0.007347059, 0.019971376],
            [0.032147742, 0.011826493, 0.071546116, -0.115520351],
            [0.000431876, -0.069288588, 0.004760644, 0.064096068],
            [0.016966434, 0.018750809, -0.058619533, 0.022902290],
        ];
        check_gradient(&mut *build(DEFT, "").expect("no keys"), 0.709120971, gradient);
        assert!(build(DEFT, "alpha = 1").is_err());
    }
}
