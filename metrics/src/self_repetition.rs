//! How much of each text stands in the others: `mean_i ln(1 + sum over i's different n-grams of the number of other texts
//! that have it)` (Salkar et al. 2022; `self_repetition_score` of `diversity`), n = 4.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use crate::bounds::Bounds;
use crate::registry::{Better, Measured, SampleMetric};
use crate::words::all_words;

/// Self-repetition of 4-grams.
pub const SELF_REPETITION: SampleMetric = SampleMetric {
    name: "self_repetition",
    definition: "mean over texts of ln(1 + other texts that share its 4-grams of words) (diversity 0.3.1)",
    better: Better::Lower,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(self_repetition(&all_words(samples.texts?), 4))),
};

/// Of n-grams of `n` words; 0 where there are no texts.
pub fn self_repetition<T: Eq + Hash>(texts: &[Vec<T>], n: usize) -> f64 {
    let own: Vec<HashSet<&[T]>> = texts.iter().map(|text| text.windows(n).collect()).collect();
    let mut having: HashMap<&[T], usize> = HashMap::new();
    for gram in own.iter().flatten() {
        *having.entry(gram).or_default() += 1;
    }
    let score = |grams: &HashSet<&[T]>| (grams.iter().map(|gram| having[gram] - 1).sum::<usize>() as f64).ln_1p();
    own.iter().map(score).sum::<f64>() / texts.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::CATS;
    use crate::testing::assert_near;
    use crate::words::words;

    #[test]
    fn shared_pairs_of_words() {
        assert_near(self_repetition(&CATS.map(words), 2), 0.462_098_120);
        // A 2-gram that a text has twice counts once.
        let twice = ["a b a b", "a b"].map(words);
        assert_near(self_repetition(&twice, 2), 2f64.ln());
    }
}
