//! The mean cosine distance of two different samples' embeddings: `1 - mean over pairs of cos`.

use crate::bounds::Bounds;
use crate::points::{Points, dot};
use crate::registry::{Better, Measured, SampleMetric};

/// Mean pairwise cosine distance.
pub const MEAN_PAIRWISE_DISTANCE: SampleMetric = SampleMetric {
    name: "mean_pairwise_distance",
    definition: "mean cosine distance of the embeddings of two samples of a prompt; texts without words do not count",
    better: Better::Higher,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| {
        let vectors = samples.vectors?;
        let directed = vectors.directed();
        mean_pairwise_distance(Points::new(&directed, vectors.dimension())).map(Measured::Number)
    },
};

/// Of vectors of length 1; `None` for fewer than two.
pub fn mean_pairwise_distance(vectors: Points<'_>) -> Option<f64> {
    let count = vectors.len() as f64;
    // The sum over all pairs from the length of the sum of the vectors.
    let mut sum = vec![0.0; vectors.dimension()];
    let mut own = 0.0;
    for row in vectors.rows() {
        sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        own += dot(row, row);
    }
    (count > 1.0).then(|| 1.0 - (dot(&sum, &sum) - own) / (count * (count - 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn distances_of_three_vectors() {
        let vectors = [1.0, 0.0, 0.6, 0.8, 0.0, 1.0];
        assert_near(mean_pairwise_distance(Points::new(&vectors, 2)).expect("three"), 0.533_333_333);
        assert_eq!(mean_pairwise_distance(Points::new(&vectors[..2], 2)), None);
        let with_nothing = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        assert_eq!(Points::new(&with_nothing, 2).directed(), [1.0, 0.0, 0.0, 1.0]);
    }
}
