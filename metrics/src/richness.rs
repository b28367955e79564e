//! What counts of a sample say of those that were not drawn: how many kinds a smaller sample would have had, and how many
//! there may be.
//!
//! * *Rarefaction*, unbiased: `n` of the `N` samples have `sum_x 1 - C(N - c_x, n) / C(N, n)` different kinds in
//!   expectation (Hurlbert 1971). Numbers of different texts are never to be compared at unequal `N` without it.
//! * *Miller-Madow*: the entropy of counts is too small by about `(K - 1) / 2N`, with `K` kinds seen (Miller 1955).
//! * *Good-Turing*: the probability of what was not seen is about `f1 / N`, with `f1` kinds seen once (Good 1953).
//! * *Chao1*, bias-corrected: about `K + f1 (f1 - 1) / (2 (f2 + 1))` kinds, at least (Chao 1984).

use crate::bounds::Bounds;
use crate::counts::{entropy_of_sizes, sizes};
use crate::pass_at_k::pass_at_k;
use crate::registry::{Better, Measured, SampleMetric};

/// The sizes of smaller samples that [`RAREFIED`] tells of.
const USUAL: [usize; 6] = [1, 2, 5, 10, 100, 1000];

/// Different texts among fewer samples.
pub const RAREFIED: SampleMetric = SampleMetric {
    name: "rarefied",
    definition: "expected number of different texts among n of the samples (Hurlbert 1971); comparable at equal n",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let sizes = sizes(samples.texts?);
        let count: usize = sizes.iter().sum();
        let smaller = USUAL.into_iter().filter(|n| *n <= count);
        Some(Measured::series(smaller.map(|n| (n.to_string(), rarefied(&sizes, n)))))
    },
};

/// Entropy without most of its bias.
pub const MILLER_MADOW: SampleMetric = SampleMetric {
    name: "miller_madow",
    definition: "entropy of equal texts in nats plus (kinds - 1) / (2 samples), its bias (Miller 1955)",
    better: Better::Neither,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(miller_madow(&sizes(samples.texts?)))),
};

/// The probability of what was not drawn.
pub const UNSEEN_MASS: SampleMetric = SampleMetric {
    name: "unseen_mass",
    definition: "Good-Turing: probability that the next text is a new one, about the share of texts that came once",
    better: Better::Neither,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(good_turing(&sizes(samples.texts?)))),
};

/// How many texts there may be.
pub const CHAO1: SampleMetric = SampleMetric {
    name: "chao1",
    definition: "least number of different texts that the model can give, from those that came once and twice (Chao 1984)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(chao1(&sizes(samples.texts?)))),
};

/// Expected number of kinds among `n` of the samples; `n` is at most their number.
pub fn rarefied(sizes: &[usize], n: usize) -> f64 {
    let total = sizes.iter().sum();
    sizes.iter().map(|size| pass_at_k(total, *size, n)).sum()
}

/// Entropy in nats with Miller's correction.
pub fn miller_madow(sizes: &[usize]) -> f64 {
    let (kinds, total) = (sizes.len() as f64, sizes.iter().sum::<usize>() as f64);
    entropy_of_sizes(sizes) + (kinds - 1.0) / (2.0 * total)
}

/// Good's estimate of the probability of all kinds that were not seen.
pub fn good_turing(sizes: &[usize]) -> f64 {
    frequency(sizes, 1) / sizes.iter().sum::<usize>() as f64
}

/// Chao's lower bound of the number of kinds.
pub fn chao1(sizes: &[usize]) -> f64 {
    let (once, twice) = (frequency(sizes, 1), frequency(sizes, 2));
    sizes.len() as f64 + once * (once - 1.0) / (2.0 * (twice + 1.0))
}

/// How many kinds came so many times.
fn frequency(sizes: &[usize], times: usize) -> f64 {
    sizes.iter().filter(|size| **size == times).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_all_near, assert_near};

    const SIZES: [usize; 4] = [3, 2, 1, 1];

    #[test]
    fn a_smaller_sample_has_fewer_kinds() {
        let found = [1, 2, 3, 5, 7].map(|n| rarefied(&SIZES, n));
        assert_all_near(&found, &[1.0, 1.809_523_810, 2.457_142_857, 3.380_952_381, 4.0]);
    }

    #[test]
    fn what_was_not_drawn() {
        assert_near(entropy_of_sizes(&SIZES), 1.277_034_259);
        assert_near(miller_madow(&SIZES), 1.491_319_974);
        assert_near(good_turing(&SIZES), 0.285_714_286);
        assert_near(chao1(&SIZES), 4.5);
    }
}
