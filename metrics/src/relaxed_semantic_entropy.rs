//! Relaxed Semantic Entropy (arXiv 2506.09659): the entropy of clusters of samples that mean the same, `-sum p ln p` with
//! `p = size / samples`, where two samples are joined if the judge says so in both orders, and clusters are connected
//! components.
//!
//! The 1e-9 that is added to `p` there guards against clusters without a sample, which there are none of here; so clusters
//! of equal texts give their entropy to the last digit. It ends at `ln m` for `m` samples, where it says how many there are
//! and not how diverse they can be: its share of that belongs beside it.

use crate::bounds::Bounds;
use crate::counts::{ceiling, entropy_of_sizes};
use crate::headline::Headline;
use crate::registry::{Better, Measured, SampleMetric};

/// Relaxed Semantic Entropy.
pub const RELAXED_SEMANTIC_ENTROPY: SampleMetric = SampleMetric {
    name: "relaxed_semantic_entropy",
    definition: "entropy in nats of clusters of samples that mean the same, joined over one another (arXiv 2506.09659)",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: Some(Headline::new("relaxed semantic entropy")),
    measure: |samples| Some(Measured::Number(relaxed_semantic_entropy(samples.clusters?))),
};

/// Its share of the most that it can be.
pub const SHARE_OF_CEILING: SampleMetric = SampleMetric {
    name: "relaxed_semantic_entropy_share",
    definition: "relaxed_semantic_entropy by ln(samples), the most that it can be",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let clusters = samples.clusters?;
        let count = clusters.iter().sum::<usize>();
        (count > 1).then(|| Measured::Number(relaxed_semantic_entropy(clusters) / ceiling(count)))
    },
};

/// Of clusters of these sizes, the largest first.
pub fn relaxed_semantic_entropy(clusters: &[usize]) -> f64 {
    entropy_of_sizes(clusters)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::clusters;
    use crate::counts::entropy;
    use crate::testing::assert_near;

    #[test]
    fn it_has_the_published_values() {
        assert_near(relaxed_semantic_entropy(&[1, 1, 1]), 3f64.ln());
        assert_near(relaxed_semantic_entropy(&[2, 1]), 0.636_514_168);
        assert_eq!(relaxed_semantic_entropy(&[3]), 0.0);
        assert_near(relaxed_semantic_entropy(&[1; 10]), 10f64.ln());
        assert_near(relaxed_semantic_entropy(&[4, 3, 2, 1]), 1.279_854_222);
    }

    /// To the bit, in whatever order the texts are sorted.
    #[test]
    fn clusters_of_equal_texts_have_the_entropy_of_the_texts() {
        for texts in
            [&["b", "b", "b", "a", "c", "c", "d"][..], &["x", "y", "y", "z", "z", "z"], &["q"], &["r", "s", "t"]]
        {
            let sizes = clusters(
                texts.len(),
                (0..texts.len()).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|(i, j)| texts[*i] == texts[*j]),
            );
            assert_eq!(relaxed_semantic_entropy(&sizes).to_bits(), entropy(texts).to_bits(), "{texts:?}");
            assert!(entropy(texts) <= ceiling(texts.len()) + 1e-12);
        }
    }
}
