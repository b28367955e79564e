//! Focal loss: `w = (1 - q)^gamma`, or with `full_gradient` `w = (1 - q)^gamma - gamma q (1 - q)^(gamma - 1) ln q`.
//!
//! Lin et al. 2017 (arXiv 1708.02002). There the factor `(1 - q)^gamma` has a gradient, too, and with it the loss is the
//! second weight's nll; the first leaves that part out, as a detached weight does. `gamma = 0` is `nll`.

use burn::tensor::Tensor;
use faults::Section;

use crate::objective::{expm1, probability};
use crate::{Objective, ObjectiveKind, Tokens};

/// `focal` as listed in the registry.
pub const FOCAL: ObjectiveKind = ObjectiveKind {
    name: "focal",
    purpose: "more diverse samples: learns least from the tokens the model is already sure of; `gamma` sets how strongly",
    build: |section| {
        let gamma = gamma(section, 2.0);
        Box::new(Focal { gamma, full_gradient: section.value("full_gradient", false) })
    },
};

/// The key `gamma`, 0 or above.
pub(super) fn gamma(section: &mut Section, default: f64) -> f64 {
    let gamma = section.value("gamma", default);
    let hint = format!("0 is plain nll, {default} the usual value");
    let message = format!("`{}` must be a finite number, 0 or above", section.full("gamma"));
    section.check("gamma", f64::is_finite(gamma) && gamma >= 0.0, message, &hint);
    section.check_single("gamma", gamma, &hint);
    let message = format!("`{}` = {gamma:e} is far from all that has been tried", section.full("gamma"));
    let tried = !(gamma > 20.0 && gamma.is_finite());
    section.warn("gamma", tried, message, &hint);
    gamma
}

/// `(1 - q)^gamma`, `[tokens]`.
fn weight(nll: Tensor<1>, gamma: f64) -> Tensor<1> {
    unlikelihood(nll).powf_scalar(gamma)
}

/// `(1 - q)^gamma (1 + gamma q nll / (1 - q))`, `[tokens]`: what `nll` is to be weighted by for the gradient of
/// `(1 - q)^gamma nll`.
pub(super) fn full_weight(nll: Tensor<1>, gamma: f64) -> Tensor<1> {
    let nll = nll.clamp_min(0.0);
    // At q = 1 the quotient is 1, and the factor before it 0.
    let quotient = nll.clone() / unlikelihood(nll.clone()).clamp_min(f32::MIN_POSITIVE);
    weight(nll.clone(), gamma) * (probability(nll) * quotient).mul_scalar(gamma).add_scalar(1.0)
}

/// `1 - q = -expm1(-nll)`, which keeps its digits where q is near 1.
fn unlikelihood(nll: Tensor<1>) -> Tensor<1> {
    expm1(nll.clamp_min(0.0).neg()).neg()
}

struct Focal {
    gamma: f64,
    full_gradient: bool,
}

impl Objective for Focal {
    fn name(&self) -> &str {
        FOCAL.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let of = if self.full_gradient { full_weight } else { weight };
        of(tokens.nll.clone(), self.gamma)
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

    /// The published check values, and the derivative of `(1 - q)^gamma nll` where they have none.
    #[test]
    fn the_full_gradient_is_that_of_the_whole_loss() {
        let full = |gamma: f64| build(FOCAL, &format!("gamma = {gamma}\nfull_gradient = true")).expect("valid keys");
        let expected = [0.028964887, 0.995668577, 1.187094567, 1.011802703];
        assert_close(&weights(&mut *full(2.0), &Q.map(nll_of)), &expected, 1e-6);
        let expected = [0.003844733, 0.873952007, 1.262922263, 1.017684837];
        assert_close(&weights(&mut *full(3.0), &Q.map(nll_of)), &expected, 1e-6);
        for gamma in [0.3, 0.5, 1.0, 2.5] {
            let nll = [1e-4, 0.2, 3.0, 30.0];
            let loss = |nll: f64| reference(nll, gamma) * nll;
            let derivative = nll.map(|nll| (loss(nll + 1e-6 * nll) - loss(nll - 1e-6 * nll)) / (2e-6 * nll));
            assert_close(&weights(&mut *full(gamma), &nll), &derivative, 1e-5);
        }
        // Where q is 1 nothing is left to learn, and nothing is no number.
        assert_eq!(weights(&mut *full(0.5), &[0.0, -1e-9, 500.0]), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn gamma_zero_is_nll_bitwise() {
        for keys in ["gamma = 0", "gamma = 0\nfull_gradient = true"] {
            let mut objective = build(FOCAL, keys).expect("valid keys");
            assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
        }
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
        // weight = (1-q)**2 - 2*q*(1-q)*q.log(), whose gradient is that of (1-q)**2 * nll without `detach`
        let mut objective = build(FOCAL, "full_gradient = true").expect("valid keys");
        let gradient = [
            [-0.016306363, 0.008912233, 0.001988588, 0.005405542],
            [0.064111040, 0.023585134, 0.142681743, -0.230377917],
            [0.001534301, -0.246157674, 0.016912874, 0.227710499],
            [0.077500416, 0.085651206, -0.267766242, 0.104614620],
        ];
        check_gradient(&mut *objective, 2.186775769, gradient);
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["gamma = -1", "gamma = inf", "gamma = nan", "gama = 2"] {
            assert!(build(FOCAL, keys).is_err(), "{keys}");
        }
    }
}
