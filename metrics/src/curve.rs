//! The exact curve of precision and recall of a distribution `q` against a known one, `p` (Sajjadi et al. 2018, arXiv
//! 1806.00035):
//!
//! ```text
//! alpha(l) = sum_x min(l p(x), q(x))     precision         beta(l) = alpha(l) / l     recall        l in (0, inf)
//! ```
//!
//! Only outcomes with `p > 0` count: what `q` gives to others is missing from `alpha`. `alpha` is piecewise linear with
//! breakpoints at `r = q / p`, so that sorted `r` and two running sums give it exactly at any `l`; and `F_b = (1 + b^2)
//! alpha beta / (b^2 alpha + beta) = (1 + b^2) alpha(l) / (1 + b^2 l)` has its maximum at one of the breakpoints.
//!
//! The limits are no numbers to report: `alpha(inf)` is the mass on what is right, and `beta(0)` is 1 for every model
//! that gives each outcome some probability.

use crate::bounds::{Bounds, Perfect};
use crate::exact::{Exact, Outcome};
use crate::headline::Headline;
use crate::registry::{Better, ExactMetric, Measured};

/// The `lambda` at which [`ALPHA`] and [`BETA`] are given, those of arXiv 2508.09654, with their keys.
pub const LAMBDAS: [(&str, f64); 3] = [("0.1", 0.1), ("1", 1.0), ("10", 10.0)];

/// Precision at three `lambda`.
pub const ALPHA: ExactMetric = ExactMetric {
    name: "alpha",
    definition: "precision at lambda: sum of min(lambda p, q) over the targets (Sajjadi et al. 2018)",
    better: Better::Higher,
    // At q = p the curve is min(lambda, 1).
    bounds: Bounds::new(Perfect::OfSetting(|lambda| lambda.min(1.0)), Some(0.0)),
    headline: None,
    is_mean: true,
    measure: |exact| Measured::series(LAMBDAS.map(|(key, lambda)| (key, exact.curve.alpha(lambda)))),
};

/// Recall at three `lambda`.
pub const BETA: ExactMetric = ExactMetric {
    name: "beta",
    definition: "recall at lambda: sum of min(p, q / lambda) over the targets (Sajjadi et al. 2018)",
    better: Better::Higher,
    bounds: Bounds::new(Perfect::OfSetting(|lambda| (1.0 / lambda).min(1.0)), Some(0.0)),
    headline: None,
    is_mean: true,
    measure: |exact| Measured::series(LAMBDAS.map(|(key, lambda)| (key, exact.curve.beta(lambda)))),
};

/// Recall as one number.
pub const F8: ExactMetric = ExactMetric {
    name: "f8",
    definition: "recall as one number: the largest F_8 on the curve of precision and recall",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: Some(Headline::first("recall (f8)")),
    is_mean: false,
    measure: |exact| Measured::Number(exact.curve.max_f(8.0)),
};

/// Precision and recall alike.
pub const F1: ExactMetric = ExactMetric {
    name: "f1",
    definition: "precision and recall alike: the largest F_1 on their curve",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: None,
    is_mean: false,
    measure: |exact| Measured::Number(exact.curve.max_f(1.0)),
};

/// Precision as one number.
pub const F1_8: ExactMetric = ExactMetric {
    name: "f1_8",
    definition: "precision as one number: the largest F_1/8 on the curve of precision and recall",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: Some(Headline::new("precision (f1_8)")),
    is_mean: false,
    measure: |exact| Measured::Number(exact.curve.max_f(0.125)),
};

/// The area under the curve.
pub const AREA: ExactMetric = ExactMetric {
    name: "area",
    definition: "area under precision over recall; 1 where the model is the truth",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: None,
    is_mean: false,
    measure: |exact: &Exact| Measured::Number(exact.curve.area()),
};

/// The curve, ready for any `lambda`.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// `q / p` of each outcome, rising.
    ratios: Vec<f64>,
    /// Sum of `q` of the outcomes before each place, one more than there are outcomes.
    q_before: Vec<f64>,
    /// Sum of `p` of the outcomes from each place on.
    p_from: Vec<f64>,
}

impl Curve {
    /// Of one distribution over outcomes.
    pub fn new(outcomes: &[Outcome]) -> Self {
        Self::joint([(1.0, outcomes)])
    }

    /// Of the joint distribution of prompts and outcomes, given the probability of each prompt: the weighted mean of the
    /// prompts' `alpha` at equal `lambda`.
    pub fn joint<'a>(prompts: impl IntoIterator<Item = (f64, &'a [Outcome])>) -> Self {
        let weighted = |(weight, outcomes): (f64, &'a [Outcome])| {
            let one = move |x: &Outcome| ((x.log_q - x.p.ln()).exp(), weight * x.p, weight * x.q());
            outcomes.iter().filter(|x| x.p > 0.0).map(one).collect::<Vec<_>>()
        };
        Self::of(prompts.into_iter().flat_map(weighted).collect())
    }

    /// Of two histograms, such as the shares of two sets of texts in clusters. Entries where `p` is 0 count for nothing.
    pub fn of_histograms(p: &[f64], q: &[f64]) -> Self {
        let pairs = p.iter().zip(q).filter(|(p, _)| **p > 0.0);
        Self::of(pairs.map(|(p, q)| (q / p, *p, *q)).collect())
    }

    fn of(mut points: Vec<(f64, f64, f64)>) -> Self {
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut q_before = Vec::with_capacity(points.len() + 1);
        let mut p_from = vec![0.0; points.len() + 1];
        let mut sum = 0.0;
        q_before.push(sum);
        for (_, _, q) in &points {
            sum += q;
            q_before.push(sum);
        }
        for (place, (_, p, _)) in points.iter().enumerate().rev() {
            p_from[place] = p_from[place + 1] + p;
        }
        Self { ratios: points.into_iter().map(|(ratio, ..)| ratio).collect(), q_before, p_from }
    }

    /// The places on `lambda` where the slope of `alpha` changes, rising: `q / p` of each outcome.
    pub fn breakpoints(&self) -> &[f64] {
        &self.ratios
    }

    /// The mass that the model gives to what is right, `alpha(inf)`.
    pub fn mass(&self) -> f64 {
        self.q_before[self.ratios.len()]
    }

    /// Precision at `lambda`, 0 or more.
    pub fn alpha(&self, lambda: f64) -> f64 {
        let place = self.ratios.partition_point(|ratio| *ratio < lambda);
        self.q_before[place] + if self.p_from[place] > 0.0 { lambda * self.p_from[place] } else { 0.0 }
    }

    /// Recall at `lambda`; at 0 the true probability of what the model can give at all.
    pub fn beta(&self, lambda: f64) -> f64 {
        if lambda == 0.0 {
            return self.p_from[self.ratios.partition_point(|ratio| *ratio <= 0.0)];
        }
        self.alpha(lambda) / lambda
    }

    /// `F_b` at `lambda`.
    pub fn f(&self, b: f64, lambda: f64) -> f64 {
        let square = b * b;
        (1.0 + square) * self.alpha(lambda) / (1.0 + square * lambda)
    }

    /// The largest `F_b`, exactly; 0 where the model gives none of the outcomes.
    pub fn max_f(&self, b: f64) -> f64 {
        self.ratios.iter().filter(|ratio| **ratio > 0.0).map(|ratio| self.f(b, *ratio)).fold(0.0, f64::max)
    }

    /// Points (precision, recall) at so many angles between 0 and a right one, each at most 1.
    pub fn grid(&self, angles: usize) -> impl Iterator<Item = (f64, f64)> + '_ {
        (1..=angles).map(move |place| {
            let lambda = (std::f64::consts::FRAC_PI_2 * place as f64 / (angles + 1) as f64).tan();
            (self.alpha(lambda).clamp(0.0, 1.0), self.beta(lambda).clamp(0.0, 1.0))
        })
    }

    /// Area under `alpha` over `beta`: between breakpoints `lo` and `hi` it is `A^2 (1/lo - 1/hi) + A B ln(hi / lo)`
    /// where `alpha = A + B lambda`.
    pub fn area(&self) -> f64 {
        let mut area = 0.0;
        for place in 1..=self.ratios.len() {
            let lo = self.ratios[place - 1];
            let (a, b) = (self.q_before[place], self.p_from[place]);
            if lo == 0.0 || a == 0.0 {
                continue;
            }
            area += match self.ratios.get(place) {
                Some(hi) => a * a * (1.0 / lo - 1.0 / hi) + a * b * (hi / lo).ln(),
                None => a * a / lo,
            };
        }
        area
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::outcomes;
    use crate::testing::{assert_all_near, assert_near, max_f_on_grid};

    fn four() -> Vec<Outcome> {
        outcomes(&[0.25; 4], &[0.40, 0.30, 0.10, 0.02])
    }

    #[test]
    fn precision_and_recall_at_any_lambda() {
        let curve = Curve::new(&four());
        for (lambda, alpha, beta) in [(0.1, 0.095, 0.95), (1.0, 0.62, 0.62), (10.0, 0.82, 0.082)] {
            assert_near(curve.alpha(lambda), alpha);
            assert_near(curve.beta(lambda), beta);
        }
        assert_near(curve.mass(), 0.82);
        assert_near(curve.area(), 0.605_264_924);
        assert_eq!((curve.alpha(0.0), curve.beta(0.0), curve.alpha(f64::INFINITY)), (0.0, 1.0, curve.mass()));
    }

    #[test]
    fn the_largest_f_is_at_a_breakpoint_and_above_that_of_a_grid() {
        let curve = Curve::new(&four());
        let cases =
            [(8.0, 0.849_673_203, 0.849_414_193), (1.0, 0.654_545_455, 0.654_468_953), (0.125, 0.8125, 0.812_457_315)];
        for (b, exact, on_grid) in cases {
            assert_near(curve.max_f(b), exact);
            assert_near(max_f_on_grid(&curve, b, 999), on_grid);
        }
        assert_near(curve.f(8.0, 0.08), 0.849_673_203);
        assert_near(curve.f(1.0, 1.2), 0.654_545_455);
        assert_near(curve.f(0.125, 1.6), 0.8125);
    }

    #[test]
    fn several_prompts_have_the_curve_of_their_joint_distribution() {
        let (one, two) = (outcomes(&[0.5, 0.5], &[0.6, 0.2]), outcomes(&[0.25, 0.25, 0.5], &[0.1, 0.4, 0.3]));
        let curve = Curve::joint([(0.5, &one[..]), (0.5, &two[..])]);
        assert_all_near(&[0.1, 1.0, 10.0].map(|lambda| curve.alpha(lambda)), &[0.1, 0.675, 0.8]);
        let f = [8.0, 1.0, 0.125].map(|b| curve.max_f(b));
        assert_all_near(&f, &[0.977_443_609, 0.681_818_182, 0.792_682_927]);
        // The mean of the prompts' alpha at equal lambda, with other weights too.
        let curve = Curve::joint([(0.2, &one[..]), (0.8, &two[..])]);
        for lambda in [0.05, 0.7, 1.3, 4.0] {
            let mean = 0.2 * Curve::new(&one).alpha(lambda) + 0.8 * Curve::new(&two).alpha(lambda);
            assert_near(curve.alpha(lambda), mean);
        }
    }

    #[test]
    fn the_truth_itself_has_all() {
        let p = [0.5, 0.3, 0.2];
        let curve = Curve::new(&outcomes(&p, &p));
        assert_all_near(&[8.0, 1.0, 0.125].map(|b| curve.max_f(b)), &[1.0; 3]);
        assert_near(curve.area(), 1.0);
        assert_near(curve.alpha(1.0), 1.0);
    }

    /// What truncated sampling cuts has `q = 0`, and then the recall at 0 says something.
    #[test]
    fn outcomes_that_cannot_come_are_missed_for_ever() {
        let curve = Curve::new(&outcomes(&[0.5, 0.3, 0.2], &[0.8, 0.2, 0.0]));
        assert_near(curve.beta(0.0), 0.8);
        assert_near(curve.beta(1e-9), 0.8);
        assert_near(curve.mass(), 1.0);
        let none = Curve::new(&outcomes(&[0.5, 0.5], &[0.0, 0.0]));
        assert_eq!((none.max_f(8.0), none.area(), none.alpha(10.0), none.beta(0.0)), (0.0, 0.0, 0.0, 0.0));
        assert_eq!(none.alpha(f64::INFINITY), 0.0);
    }

    /// The largest F of many random distributions: never below that of a fine grid.
    #[test]
    fn no_lambda_between_breakpoints_is_better() {
        let mut state = 7u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for _ in 0..50 {
            let p: Vec<f64> = (0..9).map(|_| random() + 1e-3).collect();
            let q: Vec<f64> = (0..9).map(|_| random().powi(4)).collect();
            let (p_sum, q_sum) = (p.iter().sum::<f64>(), 1.3 * q.iter().sum::<f64>());
            let (p, q): (Vec<f64>, Vec<f64>) = p.iter().zip(&q).map(|(p, q)| (p / p_sum, q / q_sum)).unzip();
            let curve = Curve::new(&outcomes(&p, &q));
            for b in [8.0, 1.0, 0.125] {
                let grid =
                    (1..4000).map(|place| curve.f(b, 10f64.powf(place as f64 / 500.0 - 4.0))).fold(0.0, f64::max);
                let exact = curve.max_f(b);
                assert!(exact >= grid - 1e-12 && exact < grid + 2e-2, "{b}: {exact} {grid}");
            }
        }
    }
}
