//! Two sets of points as histograms over clusters of both together, whose curve of precision and recall is exact: for
//! texts, from their embeddings (Sajjadi et al. 2018, arXiv 1806.00035; Le Bronnec et al. 2024, arXiv 2402.10693).

use crate::curve::Curve;
use crate::kmeans::{Settings, k_means};
use crate::points::Points;
use crate::registry::{Better, ComparedMetric, Measured};

/// Recall as one number.
pub const F8: ComparedMetric = ComparedMetric {
    name: "f8",
    definition: "recall as one number: the largest F_8 on the curve of both sides' shares of clusters",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.histograms.curve().max_f(8.0)),
};

/// Precision and recall alike.
pub const F1: ComparedMetric = ComparedMetric {
    name: "f1",
    definition: "precision and recall alike: the largest F_1 on the curve of both sides' shares of clusters",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.histograms.curve().max_f(1.0)),
};

/// Precision as one number.
pub const F1_8: ComparedMetric = ComparedMetric {
    name: "f1_8",
    definition: "precision as one number: the largest F_1/8 on the curve of both sides' shares of clusters",
    better: Better::Higher,
    measure: |compared| Measured::Number(compared.histograms.curve().max_f(0.125)),
};

/// How often each cluster occurs on each side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histograms {
    /// Of the references.
    pub references: Vec<usize>,
    /// Of the samples.
    pub samples: Vec<usize>,
}

impl Histograms {
    /// Over clusters of both together.
    pub fn new(references: Points<'_>, samples: Points<'_>, settings: &Settings) -> Self {
        let union: Vec<f64> = samples.rows().chain(references.rows()).flatten().copied().collect();
        let labels = k_means(Points::new(&union, samples.dimension()), settings);
        let (fake, real) = labels.split_at(samples.len());
        Self::of_labels(real, fake)
    }

    /// Over clusters that are known.
    pub fn of_labels(references: &[usize], samples: &[usize]) -> Self {
        let clusters = references.iter().chain(samples).max().map_or(0, |last| last + 1);
        let count = |labels: &[usize]| {
            let mut counts = vec![0; clusters];
            labels.iter().for_each(|label| counts[*label] += 1);
            counts
        };
        Self { references: count(references), samples: count(samples) }
    }

    /// The shares of the clusters, those of the references first, with `added` to each count.
    pub fn shares(&self, added: f64) -> (Vec<f64>, Vec<f64>) {
        let shares = |counts: &[usize]| {
            let total: f64 = counts.iter().map(|count| *count as f64 + added).sum();
            counts.iter().map(|count| (*count as f64 + added) / total).collect()
        };
        (shares(&self.references), shares(&self.samples))
    }

    /// The curve of precision and recall.
    pub fn curve(&self) -> Curve {
        let (p, q) = self.shares(0.0);
        Curve::of_histograms(&p, &q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    #[test]
    fn clusters_of_points_become_shares() {
        let references = [0.0, 0.1, 0.2, 9.0, 9.1, 9.2, 9.3, 9.4];
        let samples = [0.05, 9.05, 9.15, 9.25, 30.0];
        let settings = Settings { clusters: 3, iterations: 100, tries: 5, seed: 3 };
        let found = Histograms::new(Points::new(&references, 1), Points::new(&samples, 1), &settings);
        let mut pairs: Vec<(usize, usize)> = found.references.iter().copied().zip(found.samples.clone()).collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [(0, 1), (3, 1), (5, 3)]);
        let curve = found.curve();
        assert_near(curve.mass(), 0.8);
        assert_near(curve.alpha(1.0), 0.2 + 0.6);
    }
}
