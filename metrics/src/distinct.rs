//! distinct-n, the different n-grams among all of a prompt's samples (Li et al. 2016, arXiv 1510.03055), and its
//! expectation-adjusted form EAD (Liu et al. 2022, arXiv 2202.13587):
//!
//! ```text
//! distinct-n = different / all n-grams                EAD = N / (V (1 - ((V - 1) / V)^C))
//! ```
//!
//! with C all and N different words and a vocabulary of V. distinct-n falls with the length and the number of the samples:
//! compare it at equal budgets, or take EAD; V decides EAD, so take the largest vocabulary of what is compared.

use std::collections::HashSet;
use std::hash::Hash;

use crate::bounds::Bounds;
use crate::ngrams::distinct_share;
use crate::registry::{Better, Measured, SampleMetric};
use crate::words::all_words;

/// distinct-1 to distinct-4.
pub const DISTINCT_N: SampleMetric = SampleMetric {
    name: "distinct_n",
    definition: "different by all n-grams of words of a prompt's samples, n = 1 to 4; falls with length and number",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let texts = all_words(samples.texts?);
        let share = |n: usize| Some((n.to_string(), distinct_share(&texts, n)?));
        Some(Measured::series((1..=4).filter_map(share)))
    },
};

/// Expectation-adjusted distinct words.
pub const EAD: SampleMetric = SampleMetric {
    name: "ead",
    definition: "different words by their expected number were all drawn alike from a vocabulary (Liu et al. 2022)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let texts = all_words(samples.texts?);
        (samples.vocabulary > 0).then(|| Measured::Number(expectation_adjusted(&texts, samples.vocabulary)))
    },
};

/// EAD with a vocabulary of so many words; 0 for texts without words.
pub fn expectation_adjusted<T: Eq + Hash>(texts: &[Vec<T>], vocabulary: usize) -> f64 {
    let all: usize = texts.iter().map(Vec::len).sum();
    if all == 0 {
        return 0.0;
    }
    let different: HashSet<&T> = texts.iter().flatten().collect();
    let size = vocabulary as f64;
    let expected = -size * (all as f64 * (-1.0 / size).ln_1p()).exp_m1();
    different.len() as f64 / expected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::CATS;
    use crate::testing::{assert_all_near, assert_near};
    use crate::words::words;

    #[test]
    fn shares_of_different_n_grams() {
        let texts = CATS.map(words);
        let found = [1, 2, 3, 4].map(|n| distinct_share(&texts, n).expect("n-grams"));
        assert_all_near(&found, &[9.0 / 14.0, 10.0 / 11.0, 1.0, 1.0]);
        assert_eq!(distinct_share(&texts, 7), None);
    }

    #[test]
    fn the_vocabulary_decides_the_adjusted_share() {
        let texts = CATS.map(words);
        assert_near(expectation_adjusted(&texts, 20), 0.878_348_669);
        assert_near(expectation_adjusted(&texts, 50_257), 0.642_940_291);
        assert_eq!(expectation_adjusted::<&str>(&[vec![]], 20), 0.0);
    }
}
