//! The chance that one of `k` samples is right.
//!
//! Unbiased from `n` samples of which `c` are right: `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374).
//! Of a set of problems it is the mean, and its error is that over problems, never over samples. At `k = n` it is as
//! uncertain as one draw: take `n` of at least `2 k`.

use crate::bounds::Bounds;
use crate::headline::Headline;
use crate::registry::{Better, Measured, SampleMetric};

/// The `k` that are told where none is asked for, as far as there are samples.
pub const USUAL_K: [usize; 3] = [1, 5, 10];

/// Right samples.
pub const CORRECT: SampleMetric = SampleMetric {
    name: "correct",
    definition: "number of right samples",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Count(samples.correct?.iter().filter(|correct| **correct).count())),
};

/// pass@k.
pub const PASS_AT_K: SampleMetric = SampleMetric {
    name: "pass_at_k",
    definition: "chance that one of k samples is right, without bias (Chen et al. 2021)",
    better: Better::Higher,
    bounds: Bounds::SHARE,
    headline: Some(Headline::first("pass@1").at("1")),
    measure: |samples| {
        let correct = samples.correct?;
        let right = correct.iter().filter(|correct| **correct).count();
        let one = |k: &usize| (k.to_string(), pass_at_k(correct.len(), right, *k));
        Some(Measured::series(samples.ks.iter().map(one)))
    },
};

/// The unbiased estimate from `n` samples of which `correct` are right. `k` is at most `n`.
pub fn pass_at_k(n: usize, correct: usize, k: usize) -> f64 {
    if n - correct.min(n) < k {
        return 1.0;
    }
    1.0 - (n - correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Standard deviation of [`pass_at_k`] from `n` samples that are right with probability `success`: how many to draw.
pub fn standard_deviation(success: f64, n: usize, k: usize) -> f64 {
    let mut chance = (1.0 - success).powi(n as i32);
    let (mut mean, mut square) = (0.0, 0.0);
    for correct in 0..=n {
        let estimate = pass_at_k(n, correct, k);
        mean += chance * estimate;
        square += chance * estimate * estimate;
        chance *= (n - correct) as f64 / (correct + 1) as f64 * success / (1.0 - success);
    }
    (square - mean * mean).max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::Mean;
    use crate::testing::assert_near;

    #[test]
    fn pass_at_k_has_the_published_values() {
        for (k, expected) in [(1, 0.3), (5, 0.916_666_667), (10, 1.0)] {
            assert_near(pass_at_k(10, 3, k), expected);
        }
        assert_eq!((pass_at_k(10, 0, 10), pass_at_k(4, 4, 1)), (0.0, 1.0));
    }

    #[test]
    fn the_error_of_a_set_is_over_its_problems() {
        let right = [0, 0, 1, 3, 10, 2];
        let cases =
            [(1, 0.266_666_667, 0.154_200_447), (5, 0.532_407_407, 0.182_068_683), (10, 0.666_666_667, 0.210_818_511)];
        for (k, mean, error) in cases {
            let found = Mean::of(&right.map(|right| pass_at_k(10, right, k)));
            assert_near(found.mean, mean);
            assert_near(found.standard_error.expect("six problems"), error);
        }
    }

    #[test]
    fn more_samples_make_it_surer() {
        let cases = [(10, 5, 0.209_195_714), (20, 5, 0.134_399_744), (10, 10, 0.165_679_215)];
        for (n, k, expected) in cases {
            assert_near(standard_deviation(0.3, n, k), expected);
        }
    }
}
