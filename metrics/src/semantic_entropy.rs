//! Semantic entropy: that of the classes of samples that mean the same, `-sum P_c ln P_c` (Kuhn et al. 2023, arXiv
//! 2302.09664; `jlko/semantic_uncertainty`). `P_c` is from the likelihoods of the texts, made to sum to 1 over the samples,
//! or from counts. Classes are greedy, by each class's first member.

use crate::bounds::Bounds;
use crate::counts::entropy_of;
use crate::registry::{Better, Measured, SampleMetric};

/// By likelihoods where there are some, else by counts.
pub const SEMANTIC_ENTROPY: SampleMetric = SampleMetric {
    name: "semantic_entropy",
    definition: "entropy in nats of classes of samples that mean the same, by likelihoods if known, else by counts",
    better: Better::Neither,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let classes = samples.classes?;
        Some(Measured::Number(match samples.log_likelihoods {
            Some(log_likelihoods) => by_likelihood(classes, log_likelihoods),
            None => by_counts(classes),
        }))
    },
};

/// With the probability of a class from the likelihoods of its samples, given as logarithms.
pub fn by_likelihood(classes: &[usize], log_likelihoods: &[f64]) -> f64 {
    let largest = log_likelihoods.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let shares = log_likelihoods.iter().map(|value| (value - largest).exp());
    of_shares(classes, shares)
}

/// With the share of a class's samples as its probability.
pub fn by_counts(classes: &[usize]) -> f64 {
    of_shares(classes, classes.iter().map(|_| 1.0))
}

fn of_shares(classes: &[usize], shares: impl Iterator<Item = f64>) -> f64 {
    let mut sums = vec![0.0; classes.iter().max().map_or(0, |last| last + 1)];
    classes.iter().zip(shares).for_each(|(class, share)| sums[*class] += share);
    let total: f64 = sums.iter().sum();
    entropy_of(sums.into_iter().map(|sum| sum / total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn four_samples_of_three_meanings() {
        let log = [0.4, 0.3, 0.2, 0.05].map(f64::ln);
        assert_near(by_likelihood(&[0, 0, 1, 2], &log), 0.708_018_976);
        assert_near(by_counts(&[0, 0, 1, 2]), 1.039_720_771);
    }
}
