//! Focal loss: `w = (1 - q)^gamma`.
//!
//! Lin et al. 2017, with the weight detached, as every weight here is. `gamma = 0` is `nll`.

use burn::tensor::Tensor;

use crate::objective::expm1;
use crate::{Objective, ObjectiveKind, Tokens};

/// `focal` as listed in the registry.
pub const FOCAL: ObjectiveKind = ObjectiveKind {
    name: "focal",
    purpose: "more diverse samples: learns least from the tokens the model is already sure of; `gamma` sets how strongly",
    build: |section| {
        let gamma = section.value("gamma", 2.0);
        section.check(
            "gamma",
            f64::is_finite(gamma) && gamma >= 0.0,
            format!("`{}` must be a finite number, 0 or above", section.full("gamma")),
            "0 is plain nll, 2 the usual value",
        );
        section.check_single("gamma", gamma, "0 is plain nll, 2 the usual value");
        let message = format!("`{}` = {gamma:e} is far from all that has been tried", section.full("gamma"));
        let tried = !(gamma > 20.0 && gamma.is_finite());
        section.warn("gamma", tried, message, "0 is plain nll, 2 the usual value");
        Box::new(Focal { gamma })
    },
};

struct Focal {
    gamma: f64,
}

impl Objective for Focal {
    fn name(&self) -> &str {
        FOCAL.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        // 1 - q = -expm1(-nll) keeps its digits where q is near 1.
        expm1(tokens.nll.clone().clamp_min(0.0).neg()).neg().powf_scalar(self.gamma)
    }

    fn milder(&self) -> Option<String> {
        Some(format!("lower `objective.gamma` (it is {}; 0 is plain nll)", self.gamma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    fn reference(nll: f64, gamma: f64) -> f64 {
        (-(-nll).exp_m1()).powf(gamma)
    }

    #[test]
    fn agrees_with_the_reference() {
        let nll = [0.0, 1e-6, 1e-3, 0.2, 3.0, 30.0, 300.0];
        for gamma in [0.5, 1.0, 2.0, 2.5, 3.0] {
            let mut objective = build(FOCAL, &format!("gamma = {gamma}")).expect("valid keys");
            assert_close(&weights(&mut *objective, &nll), &nll.map(|nll| reference(nll, gamma)), 2e-6);
        }
        let mut objective = build(FOCAL, "").expect("no keys");
        assert_close(&weights(&mut *objective, &nll), &nll.map(|nll| reference(nll, 2.0)), 2e-6);
    }

    #[test]
    fn gamma_zero_is_nll_bitwise() {
        let mut objective = build(FOCAL, "gamma = 0").expect("valid keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = (1 - q) ** 2
        let mut objective = build(FOCAL, "gamma = 2").expect("valid keys");
        let gradient = [
            [-0.00609095, 0.003329005, 0.000742801, 0.002019143],
            [0.035466884, 0.013047538, 0.078933003, -0.127447424],
            [0.00088747, -0.142382512, 0.009782744, 0.131712298],
            [0.069600133, 0.076920043, -0.240470529, 0.093950353],
        ];
        check_gradient(&mut *objective, 1.626679191, gradient);
        // weight = (1 - q) ** 1.5
        let mut objective = build(FOCAL, "gamma = 1.5").expect("valid keys");
        let gradient = [
            [-0.011312558, 0.006182872, 0.001379585, 0.003750101],
            [0.039681785, 0.014598113, 0.088313436, -0.142593333],
            [0.000974768, -0.156388163, 0.010745037, 0.144668358],
            [0.070052412, 0.077419889, -0.242033167, 0.094560866],
        ];
        check_gradient(&mut *objective, 1.699973121, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["gamma = -1", "gamma = inf", "gamma = nan", "gama = 2"] {
            assert!(build(FOCAL, keys).is_err(), "{keys}");
        }
    }
}
