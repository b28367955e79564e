//! Samples against references, both as embeddings, by the protocol of published code: rows of length 1, principal components,
//! then balls around neighbours ([`crate::manifold`]) and histograms over clusters ([`crate::histogram`], [`crate::mauve`]).

use crate::histogram::Histograms;
use crate::kmeans::Settings;
use crate::manifold::{Features, Fit, Manifold, Ties};

/// How samples are compared with references. Numbers of different protocols do not compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Protocol {
    /// Each ball reaches to this neighbour.
    pub neighbours: usize,
    /// Which points a ball holds.
    pub ties: Ties,
    /// The share of the spread that the principal components explain that are kept.
    pub explained: f64,
    /// What the components are fitted on.
    pub fit: Fit,
    /// Seed of the first centres of the clusters.
    pub seed: u64,
}

impl Default for Protocol {
    /// As `AlexVerine/pr-4-llm` has it, but for ties, which are held.
    fn default() -> Self {
        Self { neighbours: 4, ties: Ties::Held, explained: 0.9, fit: Fit::Union, seed: 17 }
    }
}

/// What the metrics of samples against references are computed from.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Balls around neighbours.
    pub manifold: Manifold,
    /// Counts in clusters.
    pub histograms: Histograms,
    /// Principal components that were kept.
    pub components: usize,
    /// Clusters that were looked for.
    pub clusters: usize,
}

impl Compared {
    /// Of embeddings of this dimension, one after another; `None` where a side has no more points than neighbours.
    pub fn new(references: &[f64], samples: &[f64], dimension: usize, protocol: &Protocol) -> Option<Self> {
        let fewest = references.len().min(samples.len()) / dimension;
        if protocol.neighbours == 0 || fewest <= protocol.neighbours {
            return None;
        }
        let features = Features::new(references, samples, dimension, protocol.explained, protocol.fit);
        let (real, fake) = (features.references(), features.samples());
        let settings = Settings::usual(fewest, protocol.seed);
        Some(Self {
            manifold: Manifold::new(real, fake, protocol.neighbours, protocol.ties)?,
            histograms: Histograms::new(real, fake, &settings),
            components: features.dimension,
            clusters: settings.clusters,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::points::{Points, squared_distance};
    use crate::registry::Registry;
    use crate::testing::{assert_near, max_f_on_grid, references_and_samples};

    /// Points around two places; a side with both, and one with the first alone.
    fn around(places: &[f64], each: usize) -> Vec<f64> {
        let point = |(place, turn): (&f64, usize)| {
            let angle = place + 0.01 * (turn as f64 * 2.399_963).sin();
            [angle.cos(), angle.sin(), 0.05 * (turn as f64 * 1.7).cos()]
        };
        places.iter().flat_map(|place| (0..each).map(move |turn| (place, turn))).flat_map(point).collect()
    }

    fn number(compared: &Compared, name: &str) -> f64 {
        let registry = Registry::default();
        let metric = registry.compared.iter().find(|metric| metric.name == name).expect("listed");
        (metric.measure)(compared).numbers()[0].1
    }

    #[test]
    fn samples_of_one_mode_are_precise_and_miss_the_other() {
        let (both, one) = (around(&[0.0, 2.0], 20), around(&[0.0], 40));
        for fit in [Fit::Union, Fit::References] {
            let found = Compared::new(&both, &one, 3, &Protocol { fit, ..Protocol::default() }).expect("enough points");
            assert!(number(&found, "precision") > 0.9 && number(&found, "recall") <= 0.5, "{found:?}");
            assert!(number(&found, "coverage") <= 0.5 && number(&found, "mauve") < 0.6, "{found:?}");
            assert!(number(&found, "f1_8") > number(&found, "f8"), "{found:?}");
        }
        let same = Compared::new(&both, &both, 3, &Protocol::default()).expect("enough points");
        for name in ["precision", "recall", "coverage", "f8", "f1_8", "mauve", "mauve_star"] {
            assert!((number(&same, name) - 1.0).abs() < 1e-9, "{name} {}", number(&same, name));
        }
        assert_eq!(number(&same, "frontier_integral"), 0.0);
    }

    /// The features of the points that `manifold` is tested on, counted by which of the first eight references is the nearest,
    /// as mauve-text 0.4.0 and the formulas of `pr-4-llm` have them: `tools/metrics_beside_packages.py`.
    #[test]
    fn histograms_of_features_have_the_numbers_of_the_packages() {
        let (references, samples) = references_and_samples();
        let features = Features::new(&references, &samples, 6, 0.9, Fit::Union);
        let nearest = |points: Points<'_>| -> Vec<usize> {
            let of = |row: &[f64]| {
                let distance = |index: &usize| squared_distance(row, features.references().row(*index));
                (0..8).min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("eight")
            };
            points.rows().map(of).collect()
        };
        let histograms = Histograms::of_labels(&nearest(features.references()), &nearest(features.samples()));
        assert_eq!(histograms.references, [10, 3, 15, 3, 7, 14, 4, 4]);
        assert_eq!(histograms.samples, [7, 0, 0, 18, 7, 0, 23, 5]);
        let curve = histograms.curve();
        for (b, expected) in [(8.0, 0.463_582_767), (1.0, 0.416_666_667), (0.125, 0.928_465_747)] {
            assert_near(max_f_on_grid(&curve, b, 999), expected);
        }
        let manifold = Manifold::new(features.references(), features.samples(), 4, Ties::Held).expect("enough points");
        let compared = Compared { manifold, histograms, components: features.dimension, clusters: 8 };
        assert_near(number(&compared, "precision"), 43.0 / 60.0);
        assert_near(number(&compared, "density"), 136.0 / 240.0);
        assert_near(number(&compared, "mauve"), 0.143_683_049);
        assert_near(number(&compared, "mauve_star"), 0.230_742_479);
        assert_near(number(&compared, "frontier_integral"), 0.421_576_162);
        // The exact maximum is no less than the grid's.
        assert!(number(&compared, "f8") >= 0.463_582_767 && number(&compared, "f8") < 0.4645);
    }

    #[test]
    fn equal_points_and_few_ones() {
        let equal = [1.0, 0.0].repeat(6);
        let found = Compared::new(&equal, &equal, 2, &Protocol::default()).expect("six points");
        assert_eq!((found.manifold.precision, found.manifold.recall, found.manifold.coverage), (1.0, 1.0, 1.0));
        assert!((number(&found, "f8") - 1.0).abs() < 1e-12 && (number(&found, "mauve") - 1.0).abs() < 1e-9);
        // Strictly, a ball of radius 0 does not even hold its own centre.
        let strict = Protocol { ties: Ties::Strict, ..Protocol::default() };
        let found = Compared::new(&equal, &equal, 2, &strict).expect("six points");
        assert_eq!((found.manifold.precision, found.manifold.recall), (0.0, 0.0));
        assert_eq!(Compared::new(&equal[..8], &equal, 2, &Protocol::default()), None);
        assert_eq!(Compared::new(&[], &equal, 2, &Protocol::default()), None);
    }
}
