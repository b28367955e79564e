//! Conditional alpha-divergence: `w = q^(1 - alpha) = exp((alpha - 1) * nll)`.
//!
//! The Tsallis alpha-divergence of the next-token distribution, "c-Div" of "When Temperature Fails, Change the Loss"
//! (arXiv 2508.09654), as a weighted negative log-likelihood: an f-divergence has the weight `f'(u) - f(u)/u` at
//! `u = p/q`. `alpha = 1` is `nll`, and its weights are then exactly 1.
//!
//! A weight is finite while `(alpha - 1) * nll < 88.7`, the range of f32: at `alpha = 1.4` up to `nll` 221. Beyond, it is
//! infinite, and the step's loss with it; `max_weight` bounds it. At `alpha = 10`, the most that a recipe may ask for,
//! that is any token less likely than one in nineteen thousand.

use burn::tensor::Tensor;

use crate::objective::positive;
use crate::{Objective, ObjectiveKind, Tokens};

/// `cdiv` as listed in the registry.
pub const CDIV: ObjectiveKind = ObjectiveKind {
    name: "cdiv",
    purpose: "more diverse samples: learns most from the tokens the model finds unlikely; `alpha` sets how strongly",
    build: |section| {
        let hint = "1 is plain nll, 1.4 the best value of the paper; below 1 favours precision";
        let alpha = positive(section, "alpha", 1.4, 0.01..=4.0, hint);
        // What is more than f32 holds is a fault already.
        let overflows = alpha > LARGEST_ALPHA && alpha <= f64::from(f32::MAX);
        let message = format!("`{}` must be at most {LARGEST_ALPHA}: weights overflow", section.full("alpha"));
        section.check("alpha", !overflows, message, hint);
        let max_weight = section.optional::<f64>("max_weight");
        section.check(
            "max_weight",
            max_weight.is_none_or(|limit| limit.is_finite() && limit > 0.0),
            format!("`{}` must be a finite number above 0", section.full("max_weight")),
            "leave it out for no limit, or start with 100",
        );
        section.check_single("max_weight", max_weight.unwrap_or(1.0), "leave it out for no limit, or start with 100");
        Box::new(CDiv { alpha, max_weight, clamped: None, of_all: None, tokens: 0, warned: false })
    },
};

/// The largest `alpha` that a recipe may ask for.
const LARGEST_ALPHA: f64 = 10.0;

struct CDiv {
    alpha: f64,
    max_weight: Option<f64>,
    /// Number of weights the limit acted on since the last diagnostics, `[1]`: kept on the device, so that no chunk waits.
    clamped: Option<Tensor<1>>,
    /// Sum of `clamped` over all processes that share the step, where there are several.
    of_all: Option<f64>,
    /// Number of weights since the last diagnostics.
    tokens: usize,
    warned: bool,
}

impl Objective for CDiv {
    fn name(&self) -> &str {
        CDIV.name
    }

    fn weights(&mut self, tokens: &Tokens) -> Tensor<1> {
        let weights = tokens.nll.clone().mul_scalar(self.alpha - 1.0).exp();
        let Some(limit) = self.max_weight else { return weights };
        let above = weights.clone().greater_elem(limit).float().sum();
        self.clamped = Some(match self.clamped.take() {
            Some(clamped) => clamped + above,
            None => above,
        });
        self.tokens += tokens.nll.dims()[0];
        weights.clamp_max(limit)
    }

    fn overflow_hint(&self) -> Option<String> {
        let unbounded = self.max_weight.is_none() && self.alpha > 1.0;
        unbounded.then(|| {
            let alpha = self.alpha;
            format!(
                "bound the weights with `objective.max_weight`, for example 100, or lower `objective.alpha` = {alpha}"
            )
        })
    }

    fn milder(&self) -> Option<String> {
        let alpha = format!("lower `objective.alpha` (it is {})", self.alpha);
        Some(match self.max_weight {
            None => format!("bound the weights with `objective.max_weight`, for example 10, or {alpha}"),
            Some(most) => format!("lower `objective.max_weight` (it is {most}), or {alpha}"),
        })
    }

    fn sums(&self) -> Vec<f64> {
        let clamped = self.clamped.clone().map_or(0.0, |clamped| f64::from(clamped.into_scalar::<f32>()));
        if self.max_weight.is_some() { vec![clamped, self.tokens as f64] } else { Vec::new() }
    }

    fn set_sums(&mut self, sums: &[f64]) {
        if let [clamped, tokens] = sums {
            self.of_all = (*tokens > 0.0).then_some(*clamped);
            self.tokens = *tokens as usize;
        }
    }

    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        let own = self.clamped.take().map(|clamped| f64::from(clamped.into_scalar::<f32>()));
        let Some(clamped) = self.of_all.take().or(own) else { return Vec::new() };
        let fraction = clamped / std::mem::take(&mut self.tokens).max(1) as f64;
        if clamped > 0.0 && !self.warned {
            self.warned = true;
            tracing::warn!("`max_weight` limits {clamped} weights of this step; see `clamped` in the metrics");
        }
        vec![("clamped".into(), fraction)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::testing::*;

    fn reference(nll: f64, alpha: f64) -> f64 {
        (-nll).exp().powf(1.0 - alpha)
    }

    #[test]
    fn check_values() {
        for (keys, expected, loss) in [
            ("alpha = 1.4", [1.043045, 1.618645, 3.314454, 15.848932], 30.367115),
            ("alpha = 1.1", [1.010592, 1.127945, 1.349283, 1.995262], 4.822341),
        ] {
            let mut objective = build(CDIV, keys).expect("valid keys");
            let weights = weights(&mut *objective, &Q.map(nll_of));
            assert_close(&weights, &expected, 1e-6);
            let mean = weights.iter().zip(Q).map(|(w, q)| f64::from(*w) * nll_of(q)).sum::<f64>() / 4.0;
            assert_close(&[mean as f32], &[loss], 1e-6);
        }
    }

    #[test]
    fn agrees_with_the_reference_from_alpha_below_one_to_two() {
        for alpha in [0.5, 0.9, 1.1, 1.4, 2.0] {
            let mut objective = build(CDIV, &format!("alpha = {alpha}")).expect("valid keys");
            let nll = [0.0, 1e-6, 0.3, 4.0, 20.0, 40.0];
            assert_close(&weights(&mut *objective, &nll), &nll.map(|nll| reference(nll, alpha)), 5e-6);
        }
    }

    #[test]
    fn default_is_the_papers_best_alpha() {
        let mut objective = build(CDIV, "").expect("no keys");
        assert_close(&weights(&mut *objective, &[3.0]), &[reference(3.0, 1.4)], 1e-6);
        assert_eq!(objective.diagnostics(), []);
    }

    #[test]
    fn alpha_one_is_nll_bitwise() {
        let mut objective = build(CDIV, "alpha = 1").expect("valid keys");
        assert_eq!(weights(&mut *objective, &NEUTRAL), [1.0; NEUTRAL.len()]);
    }

    #[test]
    fn gradient_is_that_of_pytorch() {
        // weight = q ** (1 - 1.4)
        let mut objective = build(CDIV, "alpha = 1.4").expect("valid keys");
        let gradient = [
            [-0.083111391, 0.04542448, 0.010135572, 0.02755134],
            [0.105556549, 0.038832084, 0.23492042, -0.379309054],
            [0.002617275, -0.419906073, 0.028850688, 0.388438109],
            [0.407397597, 0.450243977, -1.407570809, 0.549929235],
        ];
        check_gradient(&mut *objective, 7.960740334, gradient);
    }

    #[test]
    fn weights_overflow_only_where_f32_does_and_the_limit_bounds_them() {
        let mut objective = build(CDIV, "alpha = 1.4").expect("valid keys");
        let found = weights(&mut *objective, &[221.0, 223.0]);
        assert!(found[0].is_finite() && found[0] > 2e38 && found[1] == f32::INFINITY, "{found:?}");

        assert!(objective.overflow_hint().is_some_and(|hint| hint.contains("`objective.max_weight`")));
        assert!(
            objective.milder().is_some_and(|hint| hint.starts_with("bound the weights with `objective.max_weight`"))
        );

        let mut objective = build(CDIV, "alpha = 1.4\nmax_weight = 10").expect("valid keys");
        assert_eq!(objective.overflow_hint(), None);
        assert!(objective.milder().is_some_and(|hint| hint.starts_with("lower `objective.max_weight` (it is 10)")));
        assert_close(&weights(&mut *objective, &[1.0, 223.0]), &[0.4f64.exp(), 10.0], 1e-6);
        assert_eq!(weights(&mut *objective, &[6.0, 0.0]), [10.0, 1.0]);
        assert_eq!(objective.diagnostics(), [("clamped".to_string(), 0.5)]);
        assert_eq!(objective.diagnostics(), []);
    }

    #[test]
    fn impossible_values_are_refused() {
        let keys = ["alpha = 0", "alpha = -1.0", "alpha = nan", "alpha = inf", "alpha = 1e308", "alpha = 10.1"];
        for keys in keys.into_iter().chain(["max_weight = 0", "alhpa = 1"]) {
            assert!(build(CDIV, keys).is_err(), "{keys}");
        }
        assert!(build(CDIV, "alpha = 10").is_ok());
    }

    /// Two processes that saw two and three tokens log what one logs that saw five.
    #[test]
    fn sums_of_two_processes_are_those_of_one() {
        let [mut whole, mut first, mut second] =
            [(); 3].map(|()| build(CDIV, "alpha = 2.0\nmax_weight = 5").expect("valid keys"));
        weights(&mut *whole, &[0.5, 3.0, 1.0, 2.0, 0.1]);
        weights(&mut *first, &[0.5, 3.0]);
        weights(&mut *second, &[1.0, 2.0, 0.1]);
        let sums: Vec<f64> = first.sums().iter().zip(second.sums()).map(|(a, b)| a + b).collect();
        first.set_sums(&sums);
        let expected = whole.diagnostics();
        assert_eq!(expected, [("clamped".to_string(), 0.4)]);
        assert_eq!(first.diagnostics(), expected);
        // One that saw nothing knows of them, too.
        let mut idle = build(CDIV, "alpha = 2.0\nmax_weight = 5").expect("valid keys");
        assert_eq!(idle.sums(), [0.0, 0.0]);
        idle.set_sums(&sums);
        assert_eq!(idle.diagnostics(), expected);
        assert_eq!(idle.diagnostics(), []);
    }
}
