//! NoveltyBench (Zhang et al. 2025, arXiv 2504.05228): how many classes of different answers there are among `k` samples,
//! and what they are worth to a user who looks at one after another and goes on with probability `p = 0.8`.
//!
//! ```text
//! distinct_k = number of classes        utility_k = (1 - p) / (1 - p^k) sum_i p^(i-1) 1{class of i is new} u_i
//! ```
//!
//! Classes are greedy, by each class's first member: order matters. (The field `distinct` of its `partitions.jsonl` is one
//! too small.)

use std::collections::BTreeSet;

use crate::bounds::Bounds;
use crate::registry::{Better, Measured, SampleMetric};

/// A user's patience.
pub const PATIENCE: f64 = 0.8;

/// The number of classes.
pub const DISTINCT_K: SampleMetric = SampleMetric {
    name: "distinct_k",
    definition: "number of classes of samples that mean the same, each by its first member (NoveltyBench)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Count(distinct(samples.classes?))),
};

/// What the classes are worth.
pub const UTILITY_K: SampleMetric = SampleMetric {
    name: "utility_k",
    definition: "mean score of samples of new classes to a user of patience 0.8 (NoveltyBench)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(utility(samples.classes?, samples.scores?, PATIENCE))),
};

/// How many classes there are.
pub fn distinct(classes: &[usize]) -> usize {
    classes.iter().collect::<BTreeSet<_>>().len()
}

/// The utility of samples of these classes and scores.
pub fn utility(classes: &[usize], scores: &[f64], patience: f64) -> f64 {
    let mut seen = BTreeSet::new();
    let (mut sum, mut weight) = (0.0, 1.0);
    for (class, score) in classes.iter().zip(scores) {
        if seen.insert(class) {
            sum += weight * score;
        }
        weight *= patience;
    }
    (1.0 - patience) / (1.0 - weight) * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn ten_answers_of_five_classes() {
        let classes = [0, 1, 0, 2, 1, 3, 0, 0, 4, 2];
        let scores = [7.0, 5.0, 9.0, 8.0, 6.0, 10.0, 3.0, 2.0, 4.0, 9.0];
        assert_eq!(distinct(&classes), 5);
        assert_near(utility(&classes, &scores, PATIENCE), 4.266_936_552);
        // As the benchmark's `scores.jsonl` has it for ten answers of one class, the first of score 10.
        assert_near(
            utility(&[0; 10], &[10.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], PATIENCE),
            2.240_580_499_203,
        );
    }
}
