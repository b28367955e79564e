//! Precision and recall by lambda: `w_l = lambda^((l-1)/L) * 1{q_l <= delta} * q_l / (gamma + (1 - gamma) q_l)`.
//!
//! lambda-PR of "When Temperature Fails, Change the Loss" (arXiv 2508.09654), `l = 1..L` the place of the token among its
//! row's `L` learned ones, and `delta = gamma r / (1 - (1 - gamma) r)` with `r = lambda^(1/L)`; `delta = 1` where the
//! denominator is not positive. At `lambda = 1`, `delta = 1` and the weight is `tailr`'s.
//!
//! For `lambda < 1`, `delta` is tiny and most weights are zero (4.3e-4 at `L = 100`, `lambda = 0.1`, `gamma = 1e-5`):
//! watch the active fraction.

use burn::tensor::Tensor;

use crate::objective::tailr::ratio;
use crate::objective::{expm1, fraction, positive};
use crate::{Extent, Objective, ObjectiveKind, Tokens};

/// `lambda_pr` as listed in the registry.
pub const LAMBDA_PR: ObjectiveKind = ObjectiveKind {
    name: "lambda_pr",
    purpose: "chooses between diverse (`lambda` below 1) and precise samples (`lambda` = 1, which is tailr)",
    build: |section| {
        let hint = "useful values lie between 0.1 and 1; 1 is tailr";
        let lambda = positive(section, "lambda", 0.1, 1e-4..=10.0, hint);
        let gamma = fraction(section, "gamma", 1e-5, "useful values lie between 1e-7 and 1e-5");
        section.check(
            "gamma",
            gamma != 0.0 || lambda >= 1.0,
            format!("`{}` must be above 0 when `lambda` is below 1: no token would be learned", section.full("gamma")),
            "useful values lie between 1e-7 and 1e-5",
        );
        Box::new(LambdaPr { lambda, gamma })
    },
};

struct LambdaPr {
    lambda: f64,
    gamma: f64,
}

impl Objective for LambdaPr {
    fn name(&self) -> &str {
        LAMBDA_PR.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let log_lambda = self.lambda.ln();
        let before = tokens.position.clone().sub_scalar(1.0) / tokens.length.clone();
        let weights = before.mul_scalar(log_lambda).exp() * ratio(tokens.nll.clone(), self.gamma);
        // From lambda = 1 on, delta is 1 or more.
        if self.lambda >= 1.0 {
            return weights;
        }
        let threshold = minimal_nll(tokens.length.clone(), log_lambda, self.gamma);
        weights.mask_fill(tokens.nll.clone().lower(threshold), 0.0)
    }

    /// Few tokens have a weight, and Adam takes whole steps by them: at the rate of `nll` the tokens without a weight lose
    /// their probability. The paper's rate, 1e-6 for all weights, is a tenth of what is usual.
    fn rate(&self) -> f64 {
        if self.lambda < 1.0 { 0.1 } else { 1.0 }
    }

    fn remarks(&self, extent: &Extent) -> Vec<String> {
        if self.lambda >= 1.0 || extent.rows == 0 || extent.tokens == 0 {
            return Vec::new();
        }
        let length = extent.tokens as f64 / extent.rows as f64;
        let fall = (-self.lambda.ln() / length).exp_m1();
        let delta = self.gamma / (self.gamma + fall);
        let about = format!(
            "with `objective.lambda` = {} and `objective.gamma` = {:e}, in rows of about {length:.0} learned tokens, a token \
             is learned while its probability is at most {delta:.1e}",
            self.lambda, self.gamma
        );
        match extent.untrained {
            Some(vocabulary) if delta * vocabulary as f64 <= 1.0 => vec![format!(
                "{about}, and a model with random weights gives each of its {vocabulary} tokens {:.1e}: every weight is 0, and \
                 nothing is ever learned; raise `gamma` to {:.0e}, or begin with nll: `warm_start` is for so many steps",
                1.0 / vocabulary as f64,
                fall * LIKELY / (1.0 - LIKELY)
            )],
            None if delta > MOST_LIKELY => vec![format!(
                "{about}: what the model is surer of has no weight and falls towards that, and the held-out nll rises with a \
                 learning rate that suits `nll`; the paper has a `gamma` of 1e-7 to 1e-5 and a tenth of the rate"
            )],
            _ => Vec::new(),
        }
    }

    fn milder(&self) -> Option<String> {
        let (gamma, lambda) = (self.gamma, self.lambda);
        let fewer_zeros = lambda < 1.0;
        fewer_zeros.then(|| {
            format!("raise `objective.gamma` (it is {gamma:e}), or `objective.lambda` (it is {lambda}; from 1 on every token counts)")
        })
    }
}

/// The probability up to which tokens of a new model are learned with the `gamma` that is proposed.
const LIKELY: f64 = 0.25;

/// Above this, a model that has learned before was seen to lose what it knew: with 0.26 and a rate of 1e-3,
/// SmolLM2-135M-Instruct ended above the held-out nll that it began with.
const MOST_LIKELY: f64 = 0.1;

/// `-ln delta` of rows of `length` tokens, for `lambda < 1`: the `nll` from which on a token is learned.
///
/// `1/delta = (gamma + r^-1 - 1) / gamma`, where `r^-1 - 1 = expm1(-ln(lambda) / L)` is a small number for a long row:
/// as a difference of `r` from 1 it would have no digits left.
fn minimal_nll(length: Tensor<1>, log_lambda: f64, gamma: f64) -> Tensor<1> {
    expm1(length.recip().mul_scalar(-log_lambda)).add_scalar(gamma).log().sub_scalar(gamma.ln())
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::objective::TAILR;
    use crate::objective::testing::*;

    /// The probabilities of the check values, gamma = 1e-5.
    const SMALL_Q: [f64; 4] = [0.5, 2e-5, 3e-6, 1e-7];

    fn reference_delta(length: usize, lambda: f64, gamma: f64) -> f64 {
        let root = lambda.ln() / length as f64;
        // 1 - (1 - gamma) r without the cancellation.
        let denominator = -root.exp_m1() + gamma * root.exp();
        if denominator <= 0.0 { 1.0 } else { gamma * root.exp() / denominator }
    }

    fn reference(q: &[f64], lambda: f64, gamma: f64) -> Vec<f64> {
        let length = q.len() as f64;
        let delta = reference_delta(q.len(), lambda, gamma);
        let weight = |(place, q): (usize, &f64)| match *q <= delta {
            true => lambda.powf(place as f64 / length) * q / (gamma + (1.0 - gamma) * q),
            false => 0.0,
        };
        q.iter().enumerate().map(weight).collect()
    }

    fn found_delta(length: usize, lambda: f64, gamma: f64) -> f64 {
        let length = Tensor::<1>::from_data([length as f32], &Device::flex());
        f64::from(-minimal_nll(length, lambda.ln(), gamma).into_scalar::<f32>()).exp()
    }

    #[test]
    fn check_values_of_delta() {
        for (lambda, expected) in [(0.1, 1.2848691e-5), (0.5, 5.2849342e-5)] {
            assert!((reference_delta(4, lambda, 1e-5) / expected - 1.0).abs() < 1e-7);
            assert!((found_delta(4, lambda, 1e-5) / expected - 1.0).abs() < 2e-6);
        }
        assert!((found_delta(100, 0.1, 1e-5) - 4.3e-4).abs() < 0.05e-4);
    }

    #[test]
    fn delta_keeps_its_digits_for_long_rows() {
        for length in [1, 2, 10, 1000, 100_000, 1_000_000] {
            for (lambda, gamma) in [(0.1, 1e-5), (0.5, 1e-7), (0.999, 1e-6), (1e-6, 0.3)] {
                let expected = reference_delta(length, lambda, gamma);
                let found = found_delta(length, lambda, gamma);
                assert!((found / expected - 1.0).abs() < 5e-6, "{length} {lambda} {gamma}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn check_values_of_the_weights() {
        for (lambda, expected) in [
            (0.1, [0.0, 0.0, 0.0729758, 0.00176067]),
            (0.5, [0.0, 0.560601, 0.163179, 0.00588716]),
            (1.0, [0.99999, 0.666671, 0.23077, 0.00990099]),
        ] {
            let mut objective = build(LAMBDA_PR, &format!("lambda = {lambda}\ngamma = 1e-5")).expect("valid keys");
            assert_close(&weights(&mut *objective, &SMALL_Q.map(nll_of)), &expected, 3e-6);
        }
        let mut objective = build(LAMBDA_PR, "").expect("no keys");
        assert_close(&weights(&mut *objective, &SMALL_Q.map(nll_of)), &reference(&SMALL_Q, 0.1, 1e-5), 5e-6);
    }

    #[test]
    fn rows_of_different_lengths_agree_with_the_reference() {
        let rows: [&[f64]; 3] = [&[1e-6, 3e-5], &[0.9], &[1e-4, 2e-4, 3e-5, 1e-6, 1e-8, 0.2, 1e-5]];
        for (lambda, gamma) in [(0.1, 1e-5), (0.7, 1e-4), (1.0, 1e-5), (3.0, 1e-5)] {
            let mut objective = build(LAMBDA_PR, &format!("lambda = {lambda}\ngamma = {gamma}")).expect("valid keys");
            let nll = rows.map(|row| row.iter().map(|q| nll_of(*q)).collect::<Vec<_>>());
            let found = weights_of_rows(&mut *objective, &nll.each_ref().map(Vec::as_slice));
            let expected: Vec<f64> = rows.iter().flat_map(|row| reference(row, lambda, gamma)).collect();
            assert_close(&found, &expected, 1e-5);
        }
    }

    #[test]
    fn lambda_one_is_tailr_bitwise() {
        for gamma in ["0.1", "1e-5", "1e-7"] {
            let mut objective = build(LAMBDA_PR, &format!("lambda = 1\ngamma = {gamma}")).expect("valid keys");
            let mut tailr = build(TAILR, &format!("gamma = {gamma}")).expect("valid keys");
            let nll = [0.0, 1e-7, 0.1, 3.0, 11.5, 20.0, 87.0, 300.0];
            assert_eq!(weights(&mut *objective, &nll), weights(&mut *tailr, &nll));
        }
    }

    #[test]
    fn lambda_one_and_gamma_zero_are_nll_bitwise() {
        let mut objective = build(LAMBDA_PR, "lambda = 1\ngamma = 0").expect("valid keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // r = .5 ** (1 / 4); delta = .1 * r / (1 - .9 * r)
        // weight = .5 ** ((l - 1) / 4) * (q <= delta) * q / (.1 + .9 * q)
        let mut objective = build(LAMBDA_PR, "lambda = 0.5\ngamma = 0.1").expect("valid keys");
        let gradient = [
            [0.0, 0.0, 0.0, 0.0],
            [0.033450298, 0.012305677, 0.074445008, -0.120200983],
            [0.000615254, -0.098709159, 0.006782058, 0.091311847],
            [0.00489889, 0.005414111, -0.016925812, 0.00661281],
        ];
        check_gradient(&mut *objective, 0.526186646, gradient);
    }

    /// The rule of the weights themselves: the delta that is spoken of is that of the rows' mean length.
    #[test]
    fn settings_that_teach_nothing_or_too_much_are_said() {
        let remarks = |keys: &str, length: usize, untrained: Option<usize>| {
            let extent = Extent { steps: 10, tokens: 100 * length, rows: 100, untrained };
            build(LAMBDA_PR, keys).expect("valid keys").remarks(&extent)
        };
        // delta = 3.43e-5 for 9 tokens: every q of a new model of 14 tokens lies above it.
        let nothing = remarks("", 9, Some(14));
        assert!(nothing.len() == 1 && nothing[0].contains("at most 3.4e-5"), "{nothing:?}");
        assert!(
            nothing[0].contains("every weight is 0") && nothing[0].contains("raise `gamma` to 1e-1"),
            "{nothing:?}"
        );
        assert_eq!(remarks("gamma = 0.1", 9, Some(14)), Vec::<String>::new());
        // With as many tokens as 1 / delta some are below it.
        assert_eq!(remarks("", 9, Some(50_000)), Vec::<String>::new());
        // A trained model: the paper's settings pass, those for short rows do not on long ones.
        assert_eq!(remarks("", 120, None), Vec::<String>::new());
        let much = remarks("gamma = 1e-2", 120, None);
        assert!(
            much.len() == 1 && much[0].contains("at most 3.4e-1") && much[0].contains("`gamma` of 1e-7 to 1e-5"),
            "{much:?}"
        );
        assert_eq!(remarks("gamma = 1e-2\nlambda = 1", 120, None), Vec::<String>::new());
        let delta = reference_delta(120, 0.1, 1e-2);
        assert!((delta - 0.34).abs() < 0.005, "{delta}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in
            ["lambda = 0", "lambda = -1", "lambda = nan", "lambda = 1e-60", "gamma = 0", "gamma = 2", "lamda = 1"]
        {
            assert!(build(LAMBDA_PR, keys).is_err(), "{keys}");
        }
    }
}
