//! How many of the known answers turn up in `n` samples, in expectation and exactly:
//! `sum_x 1 - (1 - q(x))^n` over the targets (arXiv 2404.10859 counts them in samples; this is what is counted).

use crate::bounds::{Bounds, Perfect};
use crate::exact::Outcome;
use crate::headline::Headline;
use crate::registry::{Better, ExactMetric, Measured};

/// Expected share of the targets among `n` samples.
pub const COVERAGE: ExactMetric = ExactMetric {
    name: "coverage",
    definition: "expected number of different targets in n samples of a prompt, as a fraction of its targets",
    better: Better::Higher,
    bounds: Bounds::new(Perfect::Coverage, Some(0.0)),
    headline: Some(Headline::first("coverage in 100 samples").at("100")),
    is_mean: true,
    measure: |exact| {
        let coverage = |n: usize| exact.mean(|outcomes| expected_distinct(outcomes, n) / outcomes.len() as f64);
        Measured::series(exact.budgets.iter().map(|n| (n.to_string(), coverage(*n))))
    },
};

/// The probability that `n` samples have an outcome of probability `q` among them.
fn seen(q: f64, n: usize) -> f64 {
    // Without loss where q is small; rounding may leave a q just above 1.
    -(n as f64 * (-q.min(1.0)).ln_1p()).exp_m1()
}

/// Expected number of different outcomes among `n` samples.
pub fn expected_distinct(outcomes: &[Outcome], n: usize) -> f64 {
    outcomes.iter().filter(|x| x.p > 0.0).map(|x| seen(x.q(), n)).sum()
}

/// What a model that is the truth covers: the expected share of the targets among `n` samples of it.
pub fn perfect_coverage(outcomes: &[Outcome], n: usize) -> f64 {
    outcomes.iter().map(|x| seen(x.p, n)).sum::<f64>() / outcomes.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::outcomes;
    use crate::testing::{assert_all_near, assert_near};

    #[test]
    fn expected_numbers_of_different_targets() {
        let four = outcomes(&[0.25; 4], &[0.40, 0.30, 0.10, 0.02]);
        let found = [1, 4, 10, 100].map(|n| expected_distinct(&four, n));
        assert_all_near(&found, &[0.82, 2.051_831_840, 2.799_954_611, 3.867_353_883]);
        let uniform = outcomes(&[0.25; 4], &[0.25; 4]);
        let found = [1, 4, 10].map(|n| expected_distinct(&uniform, n));
        assert_all_near(&found, &[1.0, 2.734_375, 3.774_745_941]);
    }

    #[test]
    fn the_truth_itself_covers_no_more_than_its_own_samples_do() {
        let uniform = outcomes(&[0.25; 4], &[0.9, 0.1, 0.0, 0.0]);
        let found = [1, 4, 10].map(|n| perfect_coverage(&uniform, n));
        assert_all_near(&found, &[0.25, 2.734_375 / 4.0, 3.774_745_941 / 4.0]);
        // Rare targets are seldom among them: (1 - .1^2 + 1 - .9^2) / 2.
        assert_near(perfect_coverage(&outcomes(&[0.9, 0.1], &[0.5, 0.5]), 2), 0.59);
    }

    #[test]
    fn an_outcome_that_is_certain_is_among_any_samples() {
        // Rounded to a little more than certain.
        assert_eq!(expected_distinct(&[Outcome { p: 1.0, log_q: 1e-16 }], 3), 1.0);
        assert_eq!(expected_distinct(&[Outcome { p: 1.0, log_q: f64::NEG_INFINITY }], 3), 0.0);
    }
}
