//! Repetition inside of a whole set of texts: `sum over n = 1..4 of different / all n-grams` of the texts joined by blanks
//! (`ngram_diversity_score` of `diversity`, Shaib et al. 2024, arXiv 2403.00553). n-grams cross from text to text; the
//! package rounds to three digits, this does not.

use std::collections::HashSet;
use std::hash::Hash;

use crate::bounds::Bounds;
use crate::registry::{Better, Measured, SampleMetric};
use crate::words::all_words;

/// n-gram diversity.
pub const N_GRAM_DIVERSITY: SampleMetric = SampleMetric {
    name: "n_gram_diversity",
    definition: "sum over n = 1 to 4 of different by all n-grams of words of the joined texts (diversity 0.3.1)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(n_gram_diversity(&all_words(samples.texts?), 4))),
};

/// The share of different n-grams; `None` where there are none.
pub fn distinct_share<T: Eq + Hash>(texts: &[Vec<T>], n: usize) -> Option<f64> {
    let all: usize = texts.iter().map(|text| text.windows(n).len()).sum();
    let different: HashSet<&[T]> = texts.iter().flat_map(|text| text.windows(n)).collect();
    (all > 0).then(|| different.len() as f64 / all as f64)
}

/// The sum of the shares up to n-grams of `most` words.
pub fn n_gram_diversity<T: Eq + Hash + Clone>(texts: &[Vec<T>], most: usize) -> f64 {
    let joined = [texts.concat()];
    // Taken from 0: a sum of nothing would be -0.
    (1..=most).filter_map(|n| distinct_share(&joined, n)).fold(0.0, |sum, share| sum + share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::CATS;
    use crate::testing::assert_near;
    use crate::words::words;

    #[test]
    fn the_joined_texts_have_the_diversity_of_the_package() {
        assert_near(n_gram_diversity(&CATS.map(words), 4), 3.565_934_066);
        assert!(n_gram_diversity::<&str>(&[], 4).is_sign_positive());
    }
}
