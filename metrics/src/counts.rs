//! How often outcomes occur, and the entropy of that.

use std::collections::BTreeMap;

use crate::bounds::Bounds;
use crate::headline::Headline;
use crate::registry::{Better, Measured, SampleMetric};

/// Different texts.
pub const DISTINCT: SampleMetric = SampleMetric {
    name: "distinct",
    definition: "number of different texts; to be compared at equal numbers of samples alone",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: Some(Headline::first("different samples")),
    measure: |samples| Some(Measured::Count(counts(samples.texts?).len())),
};

/// The entropy of texts.
pub const ENTROPY: SampleMetric = SampleMetric {
    name: "entropy",
    definition: "entropy in nats of the frequencies of equal texts; at most the logarithm of the number of samples",
    better: Better::Neither,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(entropy(samples.texts?))),
};

/// How often each sample occurs.
pub fn counts<T: Ord>(samples: &[T]) -> BTreeMap<&T, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample).or_insert(0) += 1;
    }
    counts
}

/// The sizes of the classes of equal samples, the largest first.
pub fn sizes<T: Ord>(samples: &[T]) -> Vec<usize> {
    let mut sizes: Vec<usize> = counts(samples).into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// Entropy in nats of the empirical distribution of `samples`.
pub fn entropy<T: Ord>(samples: &[T]) -> f64 {
    entropy_of_sizes(&sizes(samples))
}

/// Entropy in nats of classes of these sizes.
pub fn entropy_of_sizes(sizes: &[usize]) -> f64 {
    let total: usize = sizes.iter().sum();
    entropy_of(sizes.iter().map(|size| *size as f64 / total as f64))
}

/// Entropy in nats of a distribution over outcomes; those whose probability is 0 add nothing.
pub fn entropy_of(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    // Taken from 0: a sum would be -0 where there is one outcome.
    probabilities.into_iter().filter(|p| *p > 0.0).fold(0.0, |entropy, p| entropy - p * p.ln())
}

/// The most that the entropy of `count` samples can be: no two are the same.
pub fn ceiling(count: usize) -> f64 {
    (count as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn entropy_is_that_of_the_frequencies() {
        assert_near(entropy(&["a", "b", "a", "c"]), 0.5 * 2f64.ln() + 0.5 * 4f64.ln());
        assert_eq!(entropy(&["a"; 5]), 0.0);
        assert_eq!(entropy::<u32>(&[]), 0.0);
        // What is printed of it is no `-0.0`.
        assert!(entropy(&["a"; 5]).is_sign_positive() && entropy::<u32>(&[]).is_sign_positive());
        assert_near(entropy_of([0.5, 0.0, 0.5]), 2f64.ln());
        assert_near(ceiling(10), entropy(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
}
